"""What a figure was measured on."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "aiokafka", "bytewax", "confluent-kafka", "faust-streaming", "numpy", "onnxruntime", "orjson",
    "pydantic", "quixstreams",
)  # fmt: skip


def described() -> dict[str, object]:
    """The machine and the versions of what runs on it."""
    return {
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "java": _first_line("java", "-version"),
        "kafka": _kafka_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "commit": _first_line("git", "-C", str(ROOT), "rev-parse", "HEAD"),
        "changed": bool(_first_line("git", "-C", str(ROOT), "status", "--porcelain", "-uno")),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _kafka_version() -> str | None:
    jars = sorted((ROOT / ".kafka" / "libs").glob("kafka-clients-*.jar"))
    return jars[-1].stem.removeprefix("kafka-clients-") if jars else None


def _first_line(*command: str) -> str | None:
    """What *command* says first, on whichever output; None when it says nothing or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return next(iter((done.stdout or done.stderr).splitlines()), None)
