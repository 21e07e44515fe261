"""Coverage-guided fuzzing of events: `make fuzz OF=events`."""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["topics"]):
    from tests.fuzz.fuzzing import fuzz
    from tests.fuzz.taken_in import GOOD, event
    from tests.unit.test_foreign_formats import FORMATS

_FULL = (
    b'{"id":"a","key":7.0,"at":"2016-12-31T23:59:60.25z","number":1e38,"count":null,"flag":true,'
    b'"choice":"a","shape":[1,2.5],"optional":"2018-04-01 00:00:31,5+05:45"}'
)
_ENVELOPE = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":' + _FULL + b"}"


def seeds() -> dict[str, bytes]:
    """Valid events with and without an envelope, and what is none, by the format's name."""
    valid = {"plain": GOOD.value, "full": _FULL, "mark": b"\xef\xbb\xbf" + _FULL, "ce": _ENVELOPE}
    foreign = {name.replace(" ", "-"): value for name, (value, _, _) in FORMATS.items()}
    found = {name: b"\0" + value for name, value in (valid | foreign).items()}
    return {**found, "structured": b"\1" + _ENVELOPE}


if __name__ == "__main__":
    fuzz(event, seeds())
