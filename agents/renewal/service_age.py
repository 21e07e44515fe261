"""How old the models in service are: up to which event they know what came true."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from agents.renewal.model_steps import renewed_components
from agents.renewal.step_result import RenewalContext
from agents.service.promotion import Promoter
from models.registry import RegistryError


async def models_until_ms(context: RenewalContext) -> dict[str, int]:
    """Component → event time of the newest event that its version in service was fitted on, in ms.

    Without those of which that is not known.
    """
    until = dict[str, int]()
    async with context.control() as control:
        promoter = Promoter(control, context.file, context.registry)
        await control.catch_up()
        for name in renewed_components(context.pipeline):
            with suppress(RegistryError, ValueError):
                runs = promoter.in_service(name)  # None before a worker has ever begun
                version = None if runs is None else runs.version
                card = context.registry.get(context.pipeline.name, name, version).card
                until[name] = int(datetime.fromisoformat(card.seen_until).timestamp() * 1000)
    return until
