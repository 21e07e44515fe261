"""Folders and distributions that have the names of our packages: they work, or it is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ("-P", "-c", "from topics.installation import main; main()")
"""What the console script does: its own folder, not the working directory, is searched first."""
MODULE = ("-m", "agents")

COMPONENT = """
import numpy as np
from models.component import Component, StageOutput


class Velocity(Component):
    def load(self): pass

    def transform(self, batch):
        amount = np.asarray(batch.columns["amount"], np.float64)
        return StageOutput(amount[:, None], np.clip(amount / 1000, 0, 1).astype(np.float32))
"""
PIPELINE = """
pipeline: mine
partitions: 2
event:
  id: id
  key: who
  time: at
  fields:
    id: {type: string}
    who: {type: string}
    at: {type: timestamp}
    amount: {type: number}
components:
  - {name: velocity, import: IMPORT, from: [events]}
weighting: {from: [velocity], weights: {velocity: 1.0}}
policy: {version: 1, otherwise: approve, thresholds: {review: 0.5}}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder: models/ with a component, beside the pipeline file."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('nobody wants this')")
    (tmp_path / "models" / "velocity.py").write_text(COMPONENT)
    return tmp_path


def pipeline(home: Path, component: str) -> Path:
    path = home / "mine.yaml"
    path.write_text(PIPELINE.replace("IMPORT", component))
    return path


def run(
    words: Sequence[str | Path], cwd: Path, *path: Path, root: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    searched = os.pathsep.join(str(each) for each in (*path, root))
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env={**os.environ, "PYTHONPATH": searched},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("start", [SCRIPT, MODULE], ids=["script", "module"])
def test_a_component_in_a_users_models_folder_is_found(home: Path, start: Sequence[str]) -> None:
    done = run([*start, "check", pipeline(home, "models.velocity.Velocity")], home)
    assert done.returncode == 0, done.stderr


def test_it_scores_a_file_too(home: Path) -> None:
    (home / "rows.jsonl").write_text(
        '{"id": "1", "who": "a", "at": "2026-01-01T00:00:00Z", "amount": 700}\n'
    )
    path = pipeline(home, "models.velocity.Velocity")
    done = run([*SCRIPT, "score", path, "rows.jsonl", "-o", "out.jsonl"], home)
    assert done.returncode == 0, done.stderr
    assert '"decision":"review"' in (home / "out.jsonl").read_text()


def test_a_module_of_a_name_that_ours_has_is_said_and_what_to_do(home: Path) -> None:
    (home / "models" / "features.py").write_text(COMPONENT)
    done = run([*SCRIPT, "check", pipeline(home, "models.features.Velocity")], home)
    assert done.returncode == 1
    assert "models.features is a module of Anabranch" in done.stderr
    assert "my_models" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["agents", "models", "topics"])
def test_the_script_runs_where_a_folder_is_called_like_a_package_of_ours(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    assert run([*SCRIPT, "--help"], tmp_path).returncode == 0


@pytest.mark.parametrize("name", ["models", "topics"])
def test_so_does_python_m(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    done = run([*MODULE, "--help"], tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["models", "topics"])
def test_a_notebook_beside_such_a_folder_gets_our_packages(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    code = "from agents import Pipeline; print(Pipeline.load('card-fraud').name)"
    done = run(["-c", code], tmp_path)
    assert done.stdout.strip() == "card-fraud", done.stderr


@pytest.mark.parametrize("name", ["models", "topics"])
def test_where_the_folder_was_imported_before_that_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    done = run(["-c", f"import {name}\nfrom agents import Pipeline"], tmp_path)
    assert done.returncode == 1
    assert "another name" in done.stderr.splitlines()[-1]


def openai_agents(place: Path) -> Path:
    """As pip installs it, in essence."""
    (place / "agents").mkdir(parents=True)
    (place / "agents" / "__init__.py").write_text("class Agent: ...")
    about = place / "openai_agents-0.9.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: openai-agents\nVersion: 0.9.0\n")
    return place


def test_openai_agents_elsewhere_is_no_harm_and_is_said_in_one_sentence(tmp_path: Path) -> None:
    done = run([*SCRIPT, "--help"], tmp_path, openai_agents(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    assert "Event-streaming" in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "openai-agents" in done.stderr


def test_openai_agents_over_our_files_is_said_in_one_sentence(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name in ("agents", "models", "topics"):
        shutil.copytree(ROOT / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    (site / "agents" / "__init__.py").write_text("class Agent: ...")
    done = run([*SCRIPT, "--help"], tmp_path, root=site)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "openai-agents" in done.stderr
    assert "environment of its own" in done.stderr
