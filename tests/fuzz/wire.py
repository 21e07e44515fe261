"""Coverage-guided fuzzing of the wire decoder: `make fuzz`.

libFuzzer's options are this program's: -runs=N, -max_len=N, -rss_limit_mb=N, a corpus directory.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import atheris

with atheris.instrument_imports(include=["topics"]):
    from tests.fuzz.usable import decoded
    from tests.unit.stage_batches import batch_of
    from topics.wire import Codec, encode


def seeds(directory: Path) -> None:
    """Valid batches of both codecs, to begin with."""
    codecs: tuple[Codec, ...] = get_args(Codec)
    for codec in codecs:
        for offsets in ([], [7], [1, 5, 9]):
            value, headers = encode(batch_of("risk", offsets, absent=offsets[:1]), codec)
            length = int(dict(headers).get("inference-header-content-length", 0))
            name = f"{codec}-{len(offsets)}"
            (directory / name).write_bytes(length.to_bytes(3, "little") + value)


def main() -> None:
    """Fuzz until a limit of libFuzzer's is reached or an input is not dealt with."""
    corpus = Path(sys.argv[-1])
    corpus.mkdir(parents=True, exist_ok=True)
    seeds(corpus)
    atheris.Setup(sys.argv, lambda data: decoded(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
