"""What of a registry may go: files that no card names, and old versions that nothing needs.

Kept are, of every component and of the weights: the newest N; what the caller protects (pinned
in a pipeline file, in service); what kept versions were made of (parents, and theirs); and the
models whose signals kept weights weigh. A card that cannot be read stops it all: nobody knows
which files are that version's.

A file younger than GRACE_S stays, whoever names it: an `add` writes its files before its card,
so they may be those of a version that is about to appear.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from models.registry.registry import FILES, WEIGHTS, Registry
from models.registry.store import ASIDE, StoredFile

GRACE_S = 3600.0

VersionKey = tuple[str, int]
"""A component, or `@weights`, and a version of it."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes."""

    versions: list[VersionKey]
    files: list[StoredFile]
    """Files that no card names, or none that stays, and what killed writers left."""

    @property
    def bytes(self) -> int:
        """Of the files."""
        return sum(file.size for file in self.files)


def plan_removal(
    registry: Registry,
    pipeline: str,
    *,
    keep: int | None = None,
    protected: Collection[VersionKey] = (),
    clock: Callable[[], float] = time.time,
) -> Removal:
    """What may go now; old versions only with *keep*, the number of newest ones that stay.

    Raises CardUnreadable, and StoreFailed.
    """
    versions = _all_versions(registry, pipeline)
    kept = set(versions) if keep is None else _kept(versions, keep, protected)
    named = {file for key in kept for file in versions[key].files}
    before = clock() - GRACE_S
    files = [
        file
        for file in registry.store.files(pipeline)
        if file.written_at <= before and file.name not in named and _is_nobodys(file.name)
    ]
    return Removal(sorted(set(versions) - kept), files)


def remove(registry: Registry, pipeline: str, removal: Removal) -> None:
    """Remove it: cards first, so that no card is ever without its files."""
    for component, version in removal.versions:
        registry.store.remove(f"{pipeline}/{component}/{version}")
    for file in removal.files:
        registry.store.remove(_whole(file.name))


@dataclass(frozen=True, slots=True)
class _Version:
    files: Collection[str | None]
    parent: int | None
    digest: str | None
    """Of a model."""
    models: Mapping[str, str]
    """Component → digest, of weights."""


def _all_versions(registry: Registry, pipeline: str) -> dict[VersionKey, _Version]:
    """Every version and what it needs."""
    versions: dict[VersionKey, _Version] = {}
    for component in registry.components(pipeline):
        for number in registry.versions(pipeline, component):
            version = registry.get(pipeline, component, number)
            files = (
                version.file, version.probe_file, version.reference_file, version.state_file
            )  # fmt: skip
            versions[component, number] = _Version(files, version.card.parent, version.digest, {})
    for number in registry.weights_versions(pipeline):
        weights = registry.weights(pipeline, number)
        beside, card = (weights.background_file, weights.reference_file), weights.card
        versions[WEIGHTS, number] = _Version(beside, card.parent, None, card.models)
    return versions


def _kept(
    versions: Mapping[VersionKey, _Version], keep: int, protected: Collection[VersionKey]
) -> set[VersionKey]:
    """The versions that stay, and all that they need."""
    kept: set[VersionKey] = set()
    todo = [*_newest(versions, keep), *protected]
    while todo:
        key = todo.pop()
        if key in versions and key not in kept:
            kept.add(key)
            todo += _needed(key, versions)
    return kept


def _newest(keys: Collection[VersionKey], keep: int) -> Iterator[VersionKey]:
    for component in {component for component, _ in keys}:
        versions = sorted(version for name, version in keys if name == component)
        yield from ((component, version) for version in versions[-keep:])


def _needed(key: VersionKey, versions: Mapping[VersionKey, _Version]) -> Iterator[VersionKey]:
    version = versions[key]
    if version.parent is not None:
        yield key[0], version.parent
    for component, digest in version.models.items():
        same = [at for at in versions if at[0] == component and versions[at].digest == digest]
        if same:
            yield max(same)


def _whole(name: str) -> str:
    """What was left behind as a folder goes as one."""
    parts = name.split("/")
    aside = next((at for at, part in enumerate(parts) if part.startswith(ASIDE)), len(parts))
    return "/".join(parts[: aside + 1])


def _is_nobodys(name: str) -> bool:
    """Whether a file is a version's, or was left behind by a writer."""
    return f"/{FILES}/" in name or any(part.startswith(ASIDE) for part in name.split("/"))
