"""Anabranch from Python: `from agents import Pipeline`, for notebooks and scripts.

pipeline = Pipeline.load("card-fraud")
pipeline.train(june)                    # a pandas or Polars frame, an Arrow table, or a file
scored = pipeline.score(july)           # a frame of the same library
with pipeline.running() as running:     # on an embedded broker
    running.publish(july)
    decisions = running.decisions()
"""

from agents.notebook.notebook_pipeline import Pipeline

__all__ = ["Pipeline"]
