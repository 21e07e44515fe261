"""What the package is made of is in the image's build, too: its own file tree has less."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
SOURCES = sorted({*BUILD["wheel"]["packages"], *BUILD["wheel"]["force-include"]})


@pytest.mark.parametrize("source", SOURCES)
def test_the_build_of_the_image_has_what_the_wheel_is_made_of(source: str) -> None:
    assert f"\nCOPY {source} {source}\n" in (ROOT / "deploy/Dockerfile").read_text()
    assert f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_image_that_watches_for_drift_has_what_that_needs() -> None:
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    wanted = next(line for line in lines if "requirements.py" in line and "train.txt" in line)
    assert "drift" in wanted.split()
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert compose["monitor"]["build"]["target"] == "train"


@pytest.mark.parametrize("extra", ["embedded", "gateway"])
def test_the_image_that_serves_has_what_its_command_serve_needs(extra: str) -> None:
    lines = (ROOT / "deploy/Dockerfile").read_text().splitlines()
    wanted = next(line for line in lines if "requirements.py" in line and "serve.txt" in line)
    assert extra in wanted.split()
