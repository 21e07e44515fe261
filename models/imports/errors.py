"""Why a file cannot be imported.

RegistryError
├── NotImportable    the pipeline file has no place for a registered model there
└── ImportRefused    the model cannot be a component's
"""

from __future__ import annotations

from models.registry import RegistryError


class NotImportable(RegistryError):
    """The pipeline file has no place for a registered model there."""

    def __init__(self, pipeline: str, name: str, why: str) -> None:
        super().__init__(f"no model can be imported for {pipeline}/{name}: {why}")


class ImportRefused(RegistryError):
    """The model cannot be a component's."""

    def __init__(self, source: str, cause: str) -> None:
        super().__init__(f"{source} is not imported: {cause}")


class NotAdaptable(Exception):
    """What stands in the way of a file's use; `import_model` says of which file."""
