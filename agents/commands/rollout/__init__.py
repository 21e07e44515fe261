"""`anabranch rollout …`: a changed pipeline takes the place of the one that runs.

One module for each command, but `switch` has both directions; `pipelines` is what all are told. The
protocol is in `agents.rollout.switch`.
"""
