"""Who takes part, and how each is started."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.benchmarks.card_events import STAGES
from tests.benchmarks.machine import ROOT
from tests.benchmarks.model_files import PIPELINE, ModelFiles
from tests.benchmarks.processes import Command, PeerEnded

PEERS = Path(__file__).with_name("peers")
ANABRANCH = "anabranch"
TWO = f"{ANABRANCH}-two"
"""Two workers, as two cores are there; Kafka Streams has two threads."""
FUSED = f"{ANABRANCH}-fused"
"""One worker runs all three stages, `fuse:`; it still writes their topics. Not for one stage."""
RAW = "raw"
NAMES = (ANABRANCH, FUSED, TWO, RAW, "stock-faust", "quix", "bytewax", "kafka-streams")
OURS = (ANABRANCH, FUSED, TWO)
_MODULES = {
    RAW: "raw", "stock-faust": "stock_faust", "quix": "quix", "bytewax": "bytewax_flow"
}  # fmt: skip
_APART = ("quix", "bytewax")
"""Their dependencies are not ours."""
_PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
_KAFKA_STREAMS = PEERS / "kafka_streams" / "run"


@dataclass(frozen=True, slots=True)
class Run:
    """What a peer is told about a run."""

    workload: str
    broker: str
    files: ModelFiles
    prefix: str
    folder: Path
    """For what the peer may leave behind; of this run alone."""

    @property
    def flags(self) -> list[str]:
        """The options that every peer has."""
        return [
            "--workload", self.workload, "--broker", self.broker,
            "--models", str(self.files.exported), "--prefix", self.prefix,
        ]  # fmt: skip


def command(peer: str, run: Run) -> Command:
    """The process of *peer*, a name of NAMES or NAME=EXECUTABLE. Raises PeerEnded."""
    name, _, own = peer.partition("=")
    if own:
        return _command(run, own, *run.flags)
    if name in OURS and run.workload == "w1":
        fuse = STAGES if name == FUSED else ()
        return pipeline_command(renamed(run.files, run.prefix, run.folder, fuse), run)
    if name in OURS:
        return _command(run, sys.executable, "-m", "tests.benchmarks.crayfish", *run.flags)
    if name in _MODULES:
        module = _MODULES[name]
        if name in _APART and not _PEERS_PYTHON.exists():
            raise PeerEnded("its environment .venv-peers is not there: make bench makes it")
        python = str(_PEERS_PYTHON) if name in _APART else sys.executable
        return _command(run, python, "-m", f"tests.benchmarks.peers.{module}", *run.flags)
    if not os.access(_KAFKA_STREAMS, os.X_OK):
        raise PeerEnded(f"{PEERS.name}/kafka_streams/run is not there")
    return _command(run, str(_KAFKA_STREAMS), *run.flags)


def pipeline_command(pipeline: Path, run: Run, *components: str) -> Command:
    """`anabranch run` of a pipeline file, whose registry is beside it."""
    named = [word for name in components for word in ("--component", name)]
    words = [sys.executable, "-m", "agents", "run", str(pipeline), "--broker", run.broker, *named]
    words.append("--create-topics")
    return Command(words, {"ANABRANCH_HOME": str(pipeline.parent)}, ROOT)


def _command(run: Run, *words: str) -> Command:
    environment: Mapping[str, str] = {"TMPDIR": str(run.folder)}
    return Command(words, environment, ROOT)


def renamed(files: ModelFiles, name: str, folder: Path, fuse: Sequence[str] = ()) -> Path:
    """The pipeline file by another name, whose topics are NAME.*, with its models, in *folder*.

    One worker runs the components that are to be fused.
    """
    content = yaml.safe_load(PIPELINE.read_text())
    path = folder / "pipeline.yaml"
    changed = content | {"pipeline": name, "fuse": list(fuse)}
    path.write_text(yaml.safe_dump(changed, sort_keys=False))
    registry = folder / "registry"
    if not (registry / name).exists():
        shutil.copytree(files.home / "registry" / content["pipeline"], registry / name)
    return path
