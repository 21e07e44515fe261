"""Whether there is memory to train on so many rows: asked before they are read.

Measured on 200,000 and 400,000 simulated and handbook events, the peak of a training is 1,040 to
1,390 bytes a row for card-fraud, road-risk and machine-maintenance; `bytes_a_row` says 1,330 to
1,570 of them.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable
from pathlib import Path

from models.data import count_rows
from models.errors import TooManyRows
from models.features import FeatureVector
from topics.pipeline import EVENTS, Pipeline, in_order

_STRING_BYTES = 68
"""A pointer, and a short string of its own."""
_NUMBER_BYTES = 8
_COPIES = 2
"""Of the columns: as they were read, and in time order."""
_VALUE_BYTES = 12
"""What a model reads or writes, held as float64, as float32, or both."""
_SAMPLE_BYTES = 1 << 20
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def check_memory(pipeline: Pipeline, rows: int, what: str, *, held: int = 0) -> None:
    """Raise TooManyRows when training on *rows* rows of *what* needs more memory than is free.

    The columns of *held* of them are in memory already.
    """
    needed = rows * bytes_a_row(pipeline) - held * _column_bytes(pipeline)
    free = free_bytes()
    if free is not None and needed > free:
        raise TooManyRows(what, rows, needed, free)


def _column_bytes(pipeline: Pipeline) -> int:
    """What the columns of an event take while training, one of each."""
    sizes = [
        (_STRING_BYTES if field.type == "string" else _NUMBER_BYTES) * (field.length or 1)
        for field in pipeline.event.fields.values()
    ]
    return sum(sizes)


def bytes_a_row(pipeline: Pipeline) -> int:
    """About how much memory a training takes at its peak, for each row."""
    widths: dict[str, int] = {EVENTS: 0}
    values = 0
    for name in in_order(pipeline):
        spec = pipeline.component(name)
        own = len(FeatureVector(spec.features).names) if spec.features else 0
        read = sum(widths[source] for source in spec.inputs)
        widths[name] = own or 1
        values += (own or read) * (spec.model is not None) + widths[name]
    return _COPIES * _column_bytes(pipeline) + _VALUE_BYTES * values


def rows_about(path: str) -> int | None:
    """About how many rows a file has, from its footer or from its first lines; None for a pipe."""
    file = Path(path)
    if file.suffix.lower() == ".parquet":
        return count_rows(path)
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        sample = stream.read(_SAMPLE_BYTES)
    lines = sample.count(b"\n")
    return file.stat().st_size * lines // len(sample) if lines else None


def free_bytes() -> int | None:
    """Memory that this process may still take, by the machine, its container and its limits.

    None where none of them says (not on Linux, no limit set).
    """
    limits = [limit for limit in (_machine(), _container(), _process()) if limit is not None]
    return min(limits, default=None)


def _machine() -> int | None:
    try:
        return _kibibytes(Path("/proc/meminfo").read_text(encoding="ascii"), "MemAvailable:")
    except OSError:
        return None


def _container() -> int | None:
    for limit in _CGROUP_LIMITS:
        try:
            return max(int(limit.read_text(encoding="ascii")) - _own("VmRSS:"), 0)
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return None


def _process() -> int | None:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else max(limit - _own("VmSize:"), 0)


def _own(field: str) -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return _kibibytes(status, field) or 0


def _kibibytes(text: str, field: str) -> int | None:
    lines: Iterable[str] = text.splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)
