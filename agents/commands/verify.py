"""`anabranch verify`: whether an evidence pack is whole, and proves what was decided."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agents.commands.options import JsonOption
from agents.commands.terminal import print_json, stdout

if TYPE_CHECKING:
    from agents.evidence import Verification

_DIGEST = re.compile(r"(sha256:)?[0-9a-fA-F]{64}", re.ASCII)


def _checked_digest(text: str | None) -> str | None:
    if text is not None and not _DIGEST.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is no SHA-256: 64 hexadecimal digits")
    return text


def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `anabranch evidence` wrote.")],
    sha256: Annotated[
        str | None,
        typer.Option(
            "--sha256",
            metavar="DIGEST",
            callback=_checked_digest,
            help="That of the file, as it was printed when the pack was made.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove a decision by its evidence pack alone: no broker, no registry.

    First that the pack is whole: one changed byte is found. Then the decision is derived again from
    what was recorded, with the packed models: to the bit where processor features and onnxruntime
    are those that the pack was made with, else within 1e-6; which of these is said. Then the
    explanation. Windows over the past, and what components of your own say, are taken as recorded.
    Without --sha256 a pack that somebody has made up whole is not told from a true one. Its models
    are run: verify a pack of unknown origin where that can do no harm.
    Exit code 1, and what differs, when it does not hold.

    Examples:
      anabranch verify tx-000000042.zip

      anabranch verify case-17.zip --sha256 $(cat case-17.sha256)

      anabranch verify case-17.zip --json | jq '.findings[] | select(.holds | not)'
    """
    from agents.evidence import verify_pack

    result = verify_pack(file, sha256)
    if as_json:
        print_json(result.model_dump_json(by_alias=True))
    else:
        print_verification(file, result)
    if not result.holds:
        raise typer.Exit(1)


def print_verification(file: Path, result: Verification) -> None:
    """Show check by check what came of it."""
    manifest = result.manifest
    if manifest is not None:
        source = manifest.source
        place = f"{source.topic}/{source.partition}/{source.offset}"
        again = f", attempt {manifest.attempt}" if manifest.attempt > 1 else ""
        stdout.print(f"{manifest.event_id or place}  {manifest.state}{again}", soft_wrap=True)
        stdout.print(place, soft_wrap=True)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for finding in result.findings:
        table.add_row(finding.what, "ok" if finding.holds else "DIFFERS", finding.said)
    if manifest is not None and manifest.without_explanation is not None:
        table.add_row("explanation", "none", manifest.without_explanation)
    stdout.print(table)
    if result.agreement in ("bits", "1e-6"):
        how = "to the bit" if result.agreement == "bits" else "within 1e-6"
        stdout.print(f"derived again {how}: {result.because}", soft_wrap=True)
    verdict = "holds" if result.holds else "does not hold"
    stdout.print(f"{file} {verdict}", soft_wrap=True)
    stdout.print(f"sha256:{result.sha256}", soft_wrap=True)
