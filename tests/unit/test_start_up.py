"""What a command loads before it does anything: the command line answers at once."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "faust", "aiokafka.consumer", "sklearn", "onnxruntime", "pyarrow", "prometheus_client",
    "numpy",
}  # fmt: skip


def loaded_by(*words: str) -> set[str]:
    """The modules of a process that has run this command."""
    code = (
        "import sys\n"
        "from agents.cli import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print('modules:', *sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_loads_nothing_that_only_a_command_needs() -> None:
    assert not HEAVY & loaded_by("--help")
    assert not HEAVY & loaded_by("models", "promote", "--help")


def test_check_loads_nothing_that_only_a_worker_needs() -> None:
    loaded = loaded_by("check", "card-fraud")
    assert "models.training.estimator_check" in loaded
    assert not {"faust", "prometheus_client"} & loaded
