"""What a model's session costs in memory: measured in a process of its own.

python -m models.variants.memory model.onnx 4096
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

_STATUS = Path("/proc/self/status")
_PATIENCE_S = 120


def memory_of(content: bytes, rows: int) -> int | None:
    """Bytes by which a process grows when it opens the model and runs *rows* rows.

    Anonymous memory, so neither files nor libraries. None where the system does not say.
    """
    if not _STATUS.exists():
        return None
    with tempfile.TemporaryDirectory(prefix="anabranch-variant-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        command = [sys.executable, "-m", "models.variants.memory", str(path), str(rows)]
        done = subprocess.run(  # noqa: S603  # this module, on a file of ours
            command, capture_output=True, check=False, timeout=_PATIENCE_S,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
    return int(done.stdout) if done.returncode == 0 else None


def _anonymous() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{_STATUS} has no RssAnon")


def _grown(path: Path, rows: int) -> int:
    import numpy as np

    from models.onnx.session import ModelSession

    content = path.read_bytes()
    before = _anonymous()
    session = ModelSession.of(content, path)
    session.signal(np.zeros((rows, session.n_inputs), np.float32))
    return max(_anonymous() - before, 0)


if __name__ == "__main__":
    print(_grown(Path(sys.argv[1]), int(sys.argv[2])))  # noqa: T201  # for the parent to read
