"""How long a pipeline's topics must keep what is on them: as long as anybody looks back.

A worker that has lost its windows makes them again from the log. So events and outcomes must be
there for as long as the longest window reaches back, outcomes' delay included, and for longer by
the time that one wants to be able to decide again (`retention: {replay: …}` in the pipeline file):
the oldest of those events has windows, too. Topics that are compacted keep what is newest of each
key, whatever its age, and are not concerned.
"""

from __future__ import annotations

from topics.pipeline.fields import OUTCOMES, duration_ms
from topics.pipeline.schema import Pipeline

LEAST_MS = duration_ms("7d")
"""What a topic keeps at least, as Kafka's own default: consumers and redrives need time, too."""


def reach_ms(pipeline: Pipeline, name: str) -> int:
    """How far back in event time the windows of component *name* look, in ms; 0 without any.

    Outcomes are known only `outcomes.delay` after their events, and windows of them lie as much
    earlier.
    """
    delay_ms = duration_ms(pipeline.outcomes.delay)
    return max(
        (
            duration_ms(window) + (delay_ms if feature.of == OUTCOMES else 0)
            for feature in pipeline.component(name).windowed
            for window in feature.over or ()
        ),
        default=0,
    )


def retention_ms(pipeline: Pipeline) -> int:
    """`retention.ms` of the pipeline's topics: the longest reach and the replay time, or 7 days.

    At least what outcomes are kept for, where the file says so: a monitor that starts anew reads
    the decisions that still wait.
    """
    reach = max(reach_ms(pipeline, spec.name) for spec in pipeline.components)
    keep = pipeline.outcomes.keep
    kept_ms = 0 if keep is None else duration_ms(keep)
    return max(reach + duration_ms(pipeline.retention.replay), kept_ms, LEAST_MS)


def outcomes_kept_ms(pipeline: Pipeline) -> int:
    """How long after its event a decision waits for outcomes, and an outcome for its decision."""
    keep = pipeline.outcomes.keep
    return retention_ms(pipeline) if keep is None else duration_ms(keep)
