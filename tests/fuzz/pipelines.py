"""Coverage-guided fuzzing of pipeline files: `make fuzz OF=pipelines`."""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["topics"]):
    from tests.fuzz.fuzzing import fuzz
    from tests.fuzz.taken_in import pipeline

_SMALL = b"""pipeline: p
event:
  {id: i, key: i, time: t, fields: {i: {type: string}, t: {type: timestamp}}}
components:
- {name: f, kind: extract_features, from: [events], features: [{name: h, of: t, apply: hour}]}
- {name: own, import: "my:Own", from: [f]}
weighting: {from: [own], weights: {own: 1}}
policy: {thresholds: {stop: 0.5}}
"""
_WORDS = b"""pipeline: no
event: &e {id: on, key: 007, time: 2018-04-01, fields: {yes: {type: string}}}
data: {columns: {no: ~, <<: *e}}
policy: {otherwise: yes, thresholds: {no: .5}}
"""


def seeds() -> dict[str, bytes]:
    """A small pipeline, and one of words that YAML takes for something else."""
    return {"small": _SMALL, "words": _WORDS}


if __name__ == "__main__":
    fuzz(pipeline, seeds())
