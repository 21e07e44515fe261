"""`anabranch models optimise` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

from models.registry.variant_table import OptimiseReport
from tests.integration.harness import Trained
from tests.integration.test_cli import anabranch

KINDS = ["fp32", "graph-optimised", "fp16", "int8-dynamic", "int8-static",
         "pruned-25", "pruned-50", "pruned-75"]  # fmt: skip


def test_a_forest_stays_as_it_is_and_the_table_says_why(trained: Trained, tmp_path: Path) -> None:
    plot = tmp_path / "times.svg"
    done = anabranch(
        trained, "models", "optimise", f"{trained.file.path}/risk-forest", "--rows", "30000",
        "--batch", "64", "--batch", "1", "--apply", "--json", "--plot", str(plot),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == list(OptimiseReport.model_fields)
    report = OptimiseReport.model_validate_json(done.stdout)
    assert report.rows == 6_000
    (table,) = report.components
    assert (table.component, table.chosen, table.registered) == ("risk-forest", "fp32", None)
    assert sorted(variant.name for variant in table.variants) == sorted(KINDS)
    assert table.variant("int8-static").no_op
    speed = table.variant("fp32").speed
    assert speed is not None
    assert list(speed.us_per_row) == [1, 64]
    assert trained.registry.versions("card-fraud", "risk-forest") == [1], "nothing to apply"
    assert plot.stat().st_size > 5_000


def test_the_table_is_for_people(trained: Trained) -> None:
    target = f"{trained.file.path}/risk-linear"
    done = anabranch(trained, "models", "optimise", target, "--rows", "30000", "--batch", "1")
    assert done.returncode == 0, done.stderr
    assert "risk-linear@1" in done.stdout
    text = " ".join(done.stdout.split())
    assert "stays: no variant is both within tolerance and faster beyond noise" in text
    assert "risk-forest@" not in text


def test_a_component_that_is_not_there_is_one_line(trained: Trained) -> None:
    target = f"{trained.file.path}/nobody"
    done = anabranch(trained, "models", "optimise", target, "--rows", "500")
    assert done.returncode == 1
    assert "'nobody' of pipeline card-fraud has no model" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_has_examples() -> None:
    done = anabranch(None, "models", "optimise", "--help")
    assert done.returncode == 0
    assert "anabranch models optimise card-fraud" in done.stdout
