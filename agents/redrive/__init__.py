"""Dead letters: read, chosen, sent through the pipeline again, followed to their end.

For the command: `dead_letter_index` (what is dead and what became of it), `selection`, `jq_edit`,
`first_outputs` and `sender` with `live_pace`. For workers: `component_redrive` (a component's part
of a redriven event), `rows`, `attempts` (each ends once), `dead_letter_writer`. What stands on the
redrive topic is in `topics.redrive`.
"""

from agents.redrive.attempts import EndedAttempts
from agents.redrive.component_redrive import Addressed, Answer, Errands, StageErrands, alike
from agents.redrive.dead_letter_index import Letter, Letters, State, read_letter, read_letters
from agents.redrive.dead_letter_writer import LetterWriter, write_while_they_fit
from agents.redrive.jq_edit import Edit
from agents.redrive.rows import Refusals, joined_rows
from agents.redrive.selection import LetterReader, Selection, due
from agents.redrive.sender import Sent, prepared_ahead, send_and_follow

__all__ = [
    "Addressed", "Answer", "Edit", "EndedAttempts", "Errands", "Letter", "LetterReader",
    "LetterWriter", "Letters", "Refusals", "Selection", "Sent", "StageErrands", "State",
    "alike", "due", "joined_rows", "prepared_ahead", "read_letter", "read_letters",
    "send_and_follow", "write_while_they_fit",
]  # fmt: skip
