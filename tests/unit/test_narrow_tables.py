"""Tables of models in a terminal of 80 columns: nothing is cut off, however long names are."""

from __future__ import annotations

from typing import Any

import pytest

from agents.commands.models import list as listing
from agents.commands.models import optimise, show
from agents.commands.terminal import Terminal
from models.registry import OptimiseReport

WIDTH = 80
LONG = "risk-of-a-name-that-goes-on-and-on-and-ends-here"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """What commands print on, 80 columns wide."""
    terminal = Terminal(width=WIDTH, record=True, force_terminal=False)
    for module in (listing, optimise, show):
        monkeypatch.setattr(module, "stdout", terminal)
    return terminal


def printed(terminal: Terminal) -> str:
    """All that was printed; every line fits, and nothing was left out for that."""
    text = terminal.export_text()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    return text


def joined(text: str) -> str:
    return "".join(text.split())


def version(**changes: Any) -> dict[str, Any]:
    return {
        "component": LONG, "version": 1234, "variant": "graph-optimised", "rows": 123_456_789,
        "metrics": {"roc_auc": 0.91234, "average_precision": 0.6, "gap": 0.001}, "parent": 1233,
        "digest": f"sha256:{'ab' * 32}", "created_at": "2026-11-30T10:00:00+00:00", **changes,
    }  # fmt: skip


def test_versions_are_listed_with_their_figures(narrow: Terminal) -> None:
    unreadable = {"component": LONG, "version": 2, "unreadable": "its card is no JSON"}
    listing.print_versions(
        {"pipeline": "p", "models": [version(), unreadable], "weights": [version()]}
    )
    text = printed(narrow)
    assert {"1234", "123,456,789", "0.912", "0.600", "@1233", "2026-11-30"} <= set(text.split())
    assert "unreadable" in text


def test_facts_of_a_version_are_shown_whole(narrow: Terminal) -> None:
    digest, file = f"sha256:{'ab' * 32}", "/" + "deep/" * 30 + "model.onnx"
    columns = [f"{LONG}-{place}" for place in range(5)]
    show.print_facts({"digest": digest, "file": file, "columns": columns, "parameters": {LONG: 1}})
    text = joined(printed(narrow))
    assert digest in text.replace("file", "")
    assert file in text


def test_variants_are_shown_with_speed_and_losses(narrow: Terminal) -> None:
    speed = {"us_per_row": {1: 1056.24, 16: 907.5, 256: 6.51, 4096: 7.52},
             "ratio": {1: 0.5, 16: 0.5, 256: 0.5, 4096: 0.5}, "overall": 0.96}  # fmt: skip
    losses = {"max_delta": 1.8e-07, "auc_loss": 0.0123, "ap_loss": -0.0045, "flips": 12_345}
    report = OptimiseReport.model_construct(
        components=[_construct(
            component=LONG, version=1234, noise=0.043, chosen="fp32", registered=None,
            variants=[
                _construct(name="fp32", speed=_construct(**speed), losses=_construct(**losses),
                           bytes=2_062_000, memory=46_172_000, words=[]),
                _construct(name="graph-optimised", speed=None, losses=None, bytes=None,
                           memory=None, words=["ruled out: the bits of 460 of 500 rows depend on",
                                               "their batch, and it is no faster"]),
            ],
        )],
        fused=[], machine="a machine", rows=4000, calibration_rows=4000, seconds=12.0,
        flips_together=0, pipeline="p",
    )  # fmt: skip
    optimise.print_report(report)
    text = printed(narrow)
    assert {"1056.24", "907.50", "-0.0123", "+0.0045", "12,345", "2,013.7"} <= set(text.split())
    assert "theirbatch,anditisnofaster" in joined(text)


class _Facts:
    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)


def _construct(**facts: Any) -> Any:
    """A part of a report as its table reads it."""
    return _Facts(**facts)
