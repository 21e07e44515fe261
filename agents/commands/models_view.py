"""Tables of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table

from agents.commands.shared import stdout

if TYPE_CHECKING:
    from rich.console import JustifyMethod

    from models.onnx.version_diff import Difference
    from models.registry import Removal

_LISTED = ("component", "version", "variant", "created", "rows", "metrics", "digest", "from")
_DIGEST = len("sha256:") + 12


def print_list(found: Mapping[str, Any]) -> None:
    """The versions, a line each."""
    table = Table(box=None, pad_edge=False)
    for column in _LISTED:
        side: JustifyMethod = "right" if column in ("version", "rows") else "left"
        table.add_column(column, justify=side, no_wrap=column != "metrics")
    for it in found["models"]:
        table.add_row(it["component"], *_cells(it, it.get("variant", ""), it.get("digest", "")))
    for it in found["weights"]:
        table.add_row("(weights)", *_cells(it, "", ""))
    stdout.print(table)
    newest = found["weights"][-1] if found["weights"] else {}
    if others := newest.get("other_models"):
        stdout.print(
            f"weights@{newest['version']} were learned for other models than "
            f"{', '.join(others.values())}: `anabranch train {found['pipeline']}` learns new ones",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip


def print_facts(facts: Mapping[str, Any]) -> None:
    """One version, a fact a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in facts.items():
        for line, text in enumerate(_lines(value)):
            table.add_row(name if line == 0 else "", text)
    stdout.print(table)


def print_difference(before: str, after: str, found: Difference) -> None:
    """What differs, a fact a line."""
    table = Table("", before, after, box=None, pad_edge=False)
    for name, change in found.facts.items():
        table.add_row(name, " ".join(_lines(change.before)), " ".join(_lines(change.after)))
    table.add_row("bytes", f"{found.bytes.before:,}", f"{found.bytes.after:,}")
    stdout.print(table)
    if found.signals is None:
        stdout.print(f"signals are not compared: {found.why_no_signals}")
        return
    it = found.signals
    stdout.print(
        f"signals of {it.rows} probe rows: {it.same_bits} have the same bits, largest |Δ| "
        f"{it.most:.3g}, mean |Δ| {it.mean:.3g}",
        highlight=False,
    )


def removal_facts(removal: Removal, *, done: bool) -> dict[str, Any]:
    """A removal as one JSON object."""
    return {
        "removed": done,
        "versions": [f"{component}@{version}" for component, version in removal.versions],
        "files": [file.name for file in removal.files],
        "bytes": removal.bytes,
    }


def print_removal(removal: Removal, *, done: bool) -> None:
    """What goes, a line each, and what to do for it to go."""
    for component, version in removal.versions:
        stdout.print(f"{component}@{version}", highlight=False)
    for file in removal.files:
        stdout.print(f"{file.name}  {file.size:,} bytes", highlight=False, soft_wrap=True)
    said = (
        f"{len(removal.versions)} versions and {len(removal.files)} files, {removal.bytes:,} bytes"
    )
    if done:
        stdout.print(f"removed {said}", highlight=False)
    else:
        what = f"would remove {said}" if removal.versions or removal.files else "nothing to remove"
        stdout.print(f"{what}{'; --yes does it' if what != 'nothing to remove' else ''}")


def _cells(it: Mapping[str, Any], variant: str, digest: str) -> tuple[str, ...]:
    if "unreadable" in it:
        return str(it["version"]), "", "", "", "unreadable: see anabranch models verify", "", ""
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in it["metrics"].items())
    parent = "" if it["parent"] is None else f"@{it['parent']}"
    created = str(it["created_at"])[:16].replace("T", " ")
    rows = f"{it['rows']:,}" if it["rows"] else "-"
    return str(it["version"]), variant, created, rows, metrics, digest[:_DIGEST], parent


def _lines(value: object) -> list[str]:
    """A value of a card as lines of text."""
    if value is None or value in ("", [], {}):
        return ["-"]
    if isinstance(value, Mapping):
        return [f"{name} {' '.join(_lines(it))}" for name, it in value.items()]
    if isinstance(value, list):
        if all(isinstance(it, str) for it in value):
            return [", ".join(value)]
        return [", ".join(_lines(it)) for it in value]
    return [f"{value:g}" if isinstance(value, float) else str(value)]
