"""`anabranch deploy …`: files that run a pipeline elsewhere, written from its pipeline file.

One module for each command; what is in the files is in `agents.manifests`.
"""
