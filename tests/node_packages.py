"""Programs for Node.js with the packages that they need."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.one_at_a_time import one_at_a_time

CACHE = Path(__file__).parents[1] / ".node"


def installed(program: Path) -> Path:
    """A copy of a folder with a package.json, beside the packages that it asks for.

    Skips where there is no Node.js; fails where it is required, as in CI.
    """
    missing = [command for command in ("node", "npm") if shutil.which(command) is None]
    if missing:
        reason = f"{program.name} needs {' and '.join(missing)}, which is not installed"
        if os.environ.get("ANABRANCH_REQUIRE_NODE"):
            pytest.fail(f"{reason}; ANABRANCH_REQUIRE_NODE is set", pytrace=False)
        pytest.skip(reason)
    folder = CACHE / program.name
    known, wanted = folder / "installed.json", (program / "package.json").read_bytes()
    with one_at_a_time(CACHE / f"{program.name}.lock"):
        folder.mkdir(exist_ok=True)
        for file in program.glob("*.js*"):
            copy = folder / file.name
            if not copy.exists() or copy.read_bytes() != file.read_bytes():  # others may run it
                shutil.copyfile(file, copy)
        if not known.exists() or known.read_bytes() != wanted:
            subprocess.run(
                ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit",
                 "--no-fund", "--loglevel", "error"],
                cwd=folder, check=True,
            )  # fmt: skip
            known.write_bytes(wanted)
    return folder
