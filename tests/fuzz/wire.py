"""Coverage-guided fuzzing of the wire decoder: `make fuzz`.

libFuzzer's options are this program's: -runs=N, -max_len=N, -rss_limit_mb=N, a corpus directory.
"""

from __future__ import annotations

from typing import get_args

import atheris

with atheris.instrument_imports(include=["topics"]):
    from tests.fuzz.fuzzing import fuzz
    from tests.fuzz.usable import decoded
    from tests.unit.stage_batches import batch_of
    from topics.records.wire import Codec, encode


def seeds() -> dict[str, bytes]:
    """Valid batches of both codecs, to begin with."""
    found = {}
    codecs: tuple[Codec, ...] = get_args(Codec)
    for codec in codecs:
        for offsets in ([], [7], [1, 5, 9]):
            value, headers = encode(batch_of("risk", offsets, absent=offsets[:1]), codec)
            length = int(dict(headers).get("inference-header-content-length", 0))
            found[f"{codec}-{len(offsets)}"] = length.to_bytes(3, "little") + value
    return found


if __name__ == "__main__":
    fuzz(decoded, seeds())
