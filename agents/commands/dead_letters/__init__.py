"""`anabranch dead-letters …`: what is dead and why, and how it gets its decision after all.

One module for each command, and `view`, what they print; the work is done in `agents.redrive`.
"""
