"""Where a version begins to work, partition by partition, for whoever is to be told."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

Version = TypeVar("Version")
_Told_contra = TypeVar("_Told_contra", contravariant=True)


class StartListener(Protocol[_Told_contra]):
    """Told that a version has dealt with its first rows of a partition."""

    def __call__(
        self, version: _Told_contra, partition: int, offset: int, /, *, takes_over: bool
    ) -> None:
        """*takes_over*: another one has dealt with those before, in this worker."""


class VersionStarts(Generic[Version]):
    """Which version has dealt with the last rows of each partition; tells when it is another."""

    def __init__(self) -> None:
        self.listener: StartListener[Version] | None = None
        self._last: dict[int, Version] = {}

    def written(self, version: Version, partition: int, first_offset: int) -> None:
        """Rows of a partition that *version* has dealt with are on the broker."""
        before = self._last.get(partition)
        if before != version:
            self._last[partition] = version
            if self.listener is not None:
                self.listener(version, partition, first_offset, takes_over=before is not None)
