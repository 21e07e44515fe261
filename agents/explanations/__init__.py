"""Why an event was decided so: from what the topics still hold of it.

`event_records` finds the records about an event, `recorded_event` its decision and what components
said of it, `event_fields` what it was itself; `explained_decision` computes what each group of
features added to the score (`models.explain` says how), of the function that `deciding_functions`
puts together again; `reason` puts it into sentences, `errors` say why it cannot be done.
"""

from agents.explanations.deciding_functions import RegistryVersions, model_of, place_of
from agents.explanations.errors import (
    BadCoordinates,
    DecisionNotFound,
    NotComputed,
    NotExplained,
    OutputGone,
    SeveralDecisions,
    VersionGone,
    named,
)
from agents.explanations.event_fields import EventFields, ShownFields
from agents.explanations.event_records import (
    SLACK_MS,
    EventRecords,
    RedriveRecord,
    StageRecord,
    first_reaching,
)
from agents.explanations.explained_decision import DecisionExplainer, Explanation
from agents.explanations.recorded_event import (
    DecisionArchive,
    RecordedDecision,
    RecordedEvent,
    recorded_decision,
)

__all__ = [
    "SLACK_MS", "BadCoordinates", "DecisionArchive", "DecisionExplainer", "DecisionNotFound",
    "EventFields", "EventRecords", "Explanation", "NotComputed", "NotExplained", "OutputGone",
    "RecordedDecision", "RecordedEvent", "RedriveRecord", "RegistryVersions",
    "SeveralDecisions", "ShownFields", "StageRecord", "VersionGone", "first_reaching",
    "model_of", "named", "place_of", "recorded_decision",
]  # fmt: skip
