"""Prints what pyproject.toml asks for, one requirement a line: requirements.py [EXTRA...]."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
wanted = [*project["dependencies"]]
for extra in sys.argv[1:]:
    wanted += project["optional-dependencies"][extra]
sys.stdout.writelines(f"{requirement}\n" for requirement in wanted)
