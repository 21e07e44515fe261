"""The last entries of a pack: the explanation, and the manifest with the digests of all others."""

from __future__ import annotations

from collections.abc import Mapping

from agents.evidence.archive import FIRST
from agents.evidence.contents import BACKGROUND, EXPLANATION, Contents
from agents.evidence.environment import Environment
from agents.evidence.manifest import Agreement, EntryDigest, Manifest
from agents.evidence.rederivation import Rederivation
from models.registry import digest_of
from topics.errors import AnabranchError
from topics.records import Decision, Source


def sealed(
    entries: Mapping[str, bytes], source: Source, *, event_id: str | None, attempt: int
) -> dict[str, bytes]:
    """All entries of the pack of an event, which has ended at that *attempt*.

    They are derived again here, so that the manifest says how near this machine comes.
    """
    entries = dict(entries)
    contents = Contents([*entries], entries.__getitem__, source)
    derived = Rederivation(contents)
    decision, without = contents.decision, "it is a dead letter: there is no score"
    if decision is not None:
        without = _without_explanation(contents, decision)
    if decision is not None and not without:
        try:
            explanation = derived.explanation(decision)
        except AnabranchError as exc:
            without = " ".join(str(exc).split())
        else:
            entries[EXPLANATION] = explanation.model_dump_json(indent=2, by_alias=True).encode()
    list(derived.findings())
    agreement: Agreement = "bits" if derived.bits else "1e-6"
    manifest = Manifest(
        pipeline=contents.pipeline.name, source=source, event_id=event_id,
        state="dead" if decision is None else "decided", attempt=attempt,
        without_explanation=without or None,
        agreement=agreement if derived.derived else "none",
        environment=Environment.of_this_process(),
        entries={
            name: EntryDigest(sha256=digest_of(content), bytes=len(content))
            for name, content in sorted(entries.items())
        },
    )  # fmt: skip
    return {FIRST: manifest.to_bytes(), **entries}


def _without_explanation(contents: Contents, decision: Decision) -> str:
    """Why the decision has none; empty where it can have one."""
    if decision.score is None:
        return "it was decided without a score"
    if decision.weights == 0:
        return "the weights that decided are fixed in the pipeline file, and have no background"
    if BACKGROUND not in contents.names:
        return f"no background rows were stored with weights@{decision.weights}"
    return ""
