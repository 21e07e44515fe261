"""A registry whose writers are killed, run out of space, or all come at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest

from models.onnx.version_check import verify_versions
from models.registry.registry import Registry, StoreFailed
from tests.unit.registry_cards import CARD

ADDS = """
import sys
from pathlib import Path
from models.registry.registry import Registry
from tests.unit.registry_cards import CARD, WEIGHTS
root, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
registry, padding = Registry(root), b"x" * int(sys.argv[4])
for turn in range(count):
    made = registry.add("p", "risk", f"{name}-{turn}".encode() + padding, CARD)
    registry.add_weights("p", WEIGHTS)
    print(made.version, flush=True)
"""
LIMITED = """
import resource, sys
from pathlib import Path
from models.registry.registry import Registry, StoreFailed
from tests.unit.registry_cards import CARD
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    Registry(Path(sys.argv[1])).add("p", "risk", b"x" * int(sys.argv[3]), CARD)
except StoreFailed as exc:
    print(exc)
"""
ROOT = Path(__file__).parents[2]


def adding(folder: Path, name: str, count: int, padding: int = 0) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", ADDS, str(folder), name, str(count), str(padding)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def all_well(folder: Path) -> bool:
    return all(each.wrong is None for each in verify_versions(Registry(folder), "p"))


def test_processes_that_add_at_once_get_different_numbers(tmp_path: Path) -> None:
    each = 25
    processes = [adding(tmp_path, name, each) for name in ("a", "b", "c")]
    taken = [[int(each) for each in process.communicate()[0].split()] for process in processes]
    registry = Registry(tmp_path)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted(chain(*taken)) == registry.versions("p", "risk") == list(range(1, 3 * each + 1))
    assert registry.weights_versions("p") == list(range(1, 3 * each + 1))
    for name, versions in zip("abc", taken, strict=True):
        for turn, version in enumerate(versions):
            assert registry.get("p", "risk", version).read() == f"{name}-{turn}".encode()
    assert all_well(tmp_path)


@pytest.mark.parametrize("attempt", range(6))
def test_a_process_that_is_killed_while_it_writes_leaves_whole_versions(
    tmp_path: Path, attempt: int
) -> None:
    process = adding(tmp_path, "killed", 10_000, padding=2_000_000)
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(3)]
    time.sleep(0.003 * attempt)
    process.send_signal(signal.SIGKILL)
    said += [int(each) for each in process.communicate()[0].split()]
    registry = Registry(tmp_path)
    assert set(said) <= set(registry.versions("p", "risk")), "what was said to be added is there"
    assert all_well(tmp_path)
    next_one = registry.add("p", "risk", b"next", CARD)
    assert next_one.version == max(registry.versions("p", "risk"))
    assert registry.latest("p", "risk").read() == b"next"


@pytest.mark.parametrize(
    ("limit", "size", "fits"),
    [(0, 50, False), (100, 50, False), (4000, 5000, False), (4000, 50, True)],
    ids=["no byte", "the model, not the card", "the card, not the model", "both"],
)
def test_a_disk_that_takes_no_more_bytes_gets_no_version(
    tmp_path: Path, limit: int, size: int, fits: bool
) -> None:
    words = [sys.executable, "-c", LIMITED, str(tmp_path), str(limit), str(size)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    if fits:
        assert done.stdout == ""
    else:
        assert done.stdout.startswith(str(tmp_path / "p"))
        assert "File too large" in done.stdout
    assert Registry(tmp_path).versions("p", "risk") == ([1] if fits else [])
    assert all_well(tmp_path)
    assert list(tmp_path.rglob(".new-*")) == [], "nothing half-written is left"


def test_a_directory_that_nobody_may_write_to_says_so(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "p").write_text("a file is in the way")
    else:
        tmp_path.chmod(0o500)
    with pytest.raises(StoreFailed, match=str(tmp_path)):
        Registry(tmp_path).add("p", "risk", b"model", CARD)
