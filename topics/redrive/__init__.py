"""Redriving: a dead letter's event on its way through the pipeline again.

`record` is what stands on the redrive topic, `outputs` what of its stages is known already, `route`
which component comes next, `ends_summary` which redriven events have ended. What workers and the
command do about it is in `agents.redrive`.
"""

from topics.redrive.ends_summary import MOST, Ends, Summary, decoded, is_summary
from topics.redrive.outputs import ErrandOutputs, batches_of, contents_of
from topics.redrive.record import About, End, Errand, about_of, next_of, opened, without_ours
from topics.redrive.route import ErrandRoute

__all__ = [
    "MOST", "About", "End", "Ends", "Errand", "ErrandOutputs", "ErrandRoute", "Summary",
    "about_of", "batches_of", "contents_of", "decoded", "is_summary", "next_of", "opened",
    "without_ours",
]  # fmt: skip
