"""PIPELINE/COMPONENT@VERSION on the command line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from agents.cli import app


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["promote", "card-fraud"], "names no model"),
        (["promote", "card-fraud/risk-forest@0"], "names no model"),
        (["promote", "card-fraud/risk-forest@two"], "names no model"),
        (["shadow", "card-fraud/weights"], "no component"),
        (["canary", "card-fraud/policy"], "no component"),
        (["compare", "card-fraud/weights"], "no component"),
        (["shadow", "card-fraud/@weights"], "no component"),
        (["canary", "card-fraud/risk-forest", "--share", "0%"], "is no share"),
        (["canary", "card-fraud/risk-forest", "--share", "101%"], "is no share"),
        (["canary", "card-fraud/risk-forest", "--share", "nan"], "is no share"),
        (["canary", "card-fraud/risk-forest", "--share", "5%%"], "is no share"),
        (["compare", "card-fraud/risk-forest", "--on", "luck"], "neither score nor signal"),
        (["rollback", "card-fraud/nobody", "--broker", "127.0.0.1:1"], "it has features"),
    ],
)
def test_what_names_nothing_is_one_clear_message(words: list[str], said: str) -> None:
    done = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["models", *words])
    assert done.exit_code == 2
    assert said in done.output
