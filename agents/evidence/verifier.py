"""Whether a pack is whole, and whether what it holds comes to what was decided.

Neither broker nor registry is asked. A pack may be of anybody's making: its models are run, so one
of unknown origin is verified where that can do no harm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from agents.evidence.archive import FIRST, Archive, file_digest, opened_archive
from agents.evidence.contents import Contents
from agents.evidence.environment import Environment
from agents.evidence.errors import PackDamaged, PackUnreadable
from agents.evidence.manifest import Agreement, Manifest
from agents.evidence.rederivation import Finding, Rederivation, failed

VERIFICATION_SCHEMA = 1
"""Version of the report's form, raised as that of decisions is."""
_MOST_MANIFEST = 8 * 2**20
_LISTED = 3
"""Names of entries in a sentence."""


class Verification(BaseModel):
    """What came of verifying a pack."""

    model_config = ConfigDict(frozen=True)

    schema_version: Annotated[int, Field(serialization_alias="schema")] = VERIFICATION_SCHEMA
    holds: bool
    """Nothing differs."""
    sha256: str
    """Of the file."""
    agreement: Agreement | None
    """How near what was derived again came; None where it did not come to that."""
    expected: Agreement | None
    """How near it has to come on this machine."""
    because: str
    """Why that is to be expected."""
    findings: list[Finding]
    """Check by check; of a pack that is not whole, the first that failed."""
    manifest: Manifest | None
    """None where it cannot be read."""
    environment: Environment
    """Of this machine."""


def verify_pack(path: Path, sha256: str | None = None) -> Verification:
    """Verify the pack at *path*, which has to have this *sha256*, if one is given.

    Raises PackUnreadable where the file cannot be read.
    """
    try:
        digest = file_digest(path)
        if sha256 is not None and digest != sha256.lower().removeprefix("sha256:"):
            said = f"its SHA-256 is {digest}, not the one that was noted when it was made"
            return _broken(digest, Finding(what="file", holds=False, said=said))
        with opened_archive(path) as archive:
            manifest = _whole(archive, path)
            return _derived(archive, manifest, digest)
    except PackDamaged as exc:
        return _broken(digest, Finding(what="archive", holds=False, said=exc.what))
    except OSError as exc:
        raise PackUnreadable(path, exc) from exc


def _whole(archive: Archive, path: Path) -> Manifest:
    """The manifest of an archive that holds exactly what it says. Raises PackDamaged."""
    if archive.size(FIRST) > _MOST_MANIFEST:
        raise PackDamaged(path, f"{FIRST} is longer than any pack's")
    archive.digest(FIRST)
    manifest = Manifest.of(archive.read(FIRST), path)
    names = {*archive.names} - {FIRST}
    if extra := sorted(names - manifest.entries.keys()):
        raise PackDamaged(path, f"{extra[0]} is in it, and {FIRST} does not name it")
    if missing := sorted(manifest.entries.keys() - names):
        raise PackDamaged(path, f"{missing[0]} is missing")
    for name, entry in manifest.entries.items():
        if archive.size(name) != entry.bytes or f"sha256:{archive.digest(name)}" != entry.sha256:
            raise PackDamaged(path, f"{name} was changed: {FIRST} has another digest of it")
    return manifest


def _derived(archive: Archive, manifest: Manifest, digest: str) -> Verification:
    looked_into = set[str]()

    def read(name: str) -> bytes:
        looked_into.add(name)
        return archive.read(name)

    contents = Contents(archive.names, read, manifest.source)
    rederivation = Rederivation(contents)
    whole = f"{len(manifest.entries)} entries, each with the digest that {FIRST} has of it"
    findings = [_told(manifest, contents), *rederivation.findings()]
    if rest := sorted(manifest.entries.keys() - looked_into):
        more = f" and {len(rest) - _LISTED} more" if len(rest) > _LISTED else ""
        whole += f"; no more is proven of {', '.join(rest[:_LISTED])}{more}"
    findings.insert(0, Finding(what="archive", holds=True, said=whole))
    here = Environment.of_this_process()
    alike, because = here.gives_bits_of(manifest.environment), _compared(here, manifest)
    expected: Agreement = "bits" if alike and manifest.agreement == "bits" else "1e-6"
    agreement: Agreement = "bits" if rederivation.bits else "1e-6"
    if not rederivation.derived:
        expected = agreement = "none"
    if expected == "bits" and agreement != "bits":
        said = f"what models say differs by {rederivation.largest:.1g}, and {because}"
        findings.append(Finding(what="bits", holds=False, said=said))
    return Verification(
        holds=all(finding.holds for finding in findings), sha256=digest, agreement=agreement,
        expected=expected, because=because, findings=findings, manifest=manifest, environment=here,
    )  # fmt: skip


def _told(manifest: Manifest, contents: Contents) -> Finding:
    """The manifest tells of the event what its records do."""
    try:
        decision, name = contents.decision, contents.pipeline.name
        said: tuple[object, ...]
        if decision is not None:
            said = (name, "decided", decision.event_id, contents.attempt)
        else:
            ids: list[str | None] = [*contents.event_ids] or [None]
            event_id = manifest.event_id if manifest.event_id in ids else ids[0]
            said = (name, "dead", event_id, contents.letters[-1].attempt)
    except Exception as exc:  # entries of anybody's making
        return failed(FIRST, exc)
    told = (manifest.pipeline, manifest.state, manifest.event_id, manifest.attempt)
    wrong = f"it tells of {told}, and the records of {said}"
    holds = told == said
    return Finding(
        what="manifest", holds=holds, said="tells what the records do" if holds else wrong
    )


def _compared(here: Environment, manifest: Manifest) -> str:
    """How this machine and the one that made the pack compare."""
    there = manifest.environment
    if here.onnxruntime != there.onnxruntime:
        return f"onnxruntime is {here.onnxruntime} here, the pack was made with {there.onnxruntime}"
    if not here.gives_bits_of(there):
        return "this processor has other features than that of the machine that made the pack"
    if manifest.agreement != "bits":
        return "the machine that made the pack was another kind than the one that decided"
    return f"processor features and onnxruntime {here.onnxruntime} are those of the pack"


def _broken(digest: str, finding: Finding) -> Verification:
    return Verification(
        holds=False, sha256=digest, agreement=None, expected=None,
        because="it was not come to", findings=[finding], manifest=None,
        environment=Environment.of_this_process(),
    )  # fmt: skip
