"""Dead letters: read, chosen, sent through the pipeline again, followed to their end.

The protocol is stated in `topics.redrive.record`. For the command: `dead_letter_index` (what is
dead and what became of it), `preparation` (from dead letters to redrive records), `sender` with
`live_pace`. For workers: `component_redrive` (a component's part), `attempt_endings` (each attempt
ends once), `dead_letter_writer`. Outcomes have dead letters of their own: `outcome_redrive`.
"""

from agents.redrive.attempt_endings import AttemptEndings
from agents.redrive.component_redrive import (
    Arrival,
    ComponentRedrive,
    RedriveResult,
    Refusals,
    StageRedrive,
    groups_of,
    joined_rows,
)
from agents.redrive.dead_letter_index import (
    DeadLetter,
    DeadLetterIndex,
    State,
    event_id_of,
    read_dead_letter,
    read_dead_letters,
)
from agents.redrive.dead_letter_writer import DeadLetterWriter, write_while_they_fit
from agents.redrive.outcome_redrive import OutcomeRedrive, redrive_outcomes
from agents.redrive.preparation import Edit, RedrivePlanner, Selection, due
from agents.redrive.sender import RedriveProgress, prepared_ahead, send_and_follow

__all__ = [
    "Arrival", "AttemptEndings", "ComponentRedrive", "DeadLetter", "DeadLetterIndex",
    "DeadLetterWriter", "Edit", "OutcomeRedrive", "RedrivePlanner", "RedriveProgress",
    "RedriveResult", "Refusals", "Selection", "StageRedrive", "State", "due", "event_id_of",
    "groups_of", "joined_rows", "prepared_ahead", "read_dead_letter", "read_dead_letters",
    "redrive_outcomes", "send_and_follow",
    "write_while_they_fit",
]  # fmt: skip
