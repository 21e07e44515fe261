"""Pipeline files and policies that decide, kept in the registry: decisions name their digests."""

from __future__ import annotations

import logging

from models.registry import Registry, RegistryError, digest_of
from topics.pipeline import PipelineFile, Policy

log = logging.getLogger(__name__)


def keep_decided_by(registry: Registry, file: PipelineFile, policy: Policy | None = None) -> None:
    """Keep the file, and the policy that decides by it, its own without another.

    Workers may not be allowed to write the registry. Then whoever trains or promotes has kept it;
    if nobody has, that is logged: nothing stops deciding for it.
    """
    name = file.pipeline.name
    for what, content in (
        (f"the pipeline file {file.path}", file.content),
        ("its policy", (policy or file.pipeline.policy).content),
    ):
        try:
            registry.keep(name, content)
        except RegistryError as exc:
            log.warning(
                "%s (%s) is not kept in the registry, so `anabranch replay` needs it given: %s",
                what, digest_of(content), exc,
            )  # fmt: skip
