"""The components that a pipeline file can name, and running one over rows.

`catalogue` makes a component of a file's entry; `extract_features` is one of the kinds. `running`
keeps a bad row from costing its batch, and long code from holding up the event loop.
`active_component` is what runs now, replaced between two batches; `challenger` what runs beside it;
`version_starts` says where each has begun.
"""

from agents.components.active_component import ActiveComponent
from agents.components.catalogue import (
    ComponentNotLoadable,
    OpenComponent,
    component_of,
    import_component,
    open_component,
)
from agents.components.challenger import (
    ActiveChallenger,
    ModelOutputs,
    in_share,
    run_models,
    split_outputs,
)
from agents.components.running import INVALID_OUTPUT, ComponentOutputs, Inference, checked, spread
from agents.components.version_starts import StartListener, VersionStarts

__all__ = [
    "INVALID_OUTPUT", "ActiveChallenger", "ActiveComponent", "ComponentNotLoadable",
    "ComponentOutputs", "Inference", "ModelOutputs", "OpenComponent", "StartListener",
    "VersionStarts", "checked", "component_of", "import_component", "in_share", "open_component",
    "run_models", "split_outputs", "spread",
]  # fmt: skip
