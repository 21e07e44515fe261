"""ONNX files as other tools export them, each with rows and what its maker says of them.

`makers` writes them anew, with the tools installed that the project does without; the files are
kept so that tests need none of them.
"""
