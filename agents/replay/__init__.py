"""Decisions made again from the records of what made them. Modules are imported one by one.

`recorded_range` reads a range of events with all that the topics hold of them (`log_cursor`, of
what `read_ahead` fetches); `range_choice` says which. `unaltered` replays it as it was, in several
`processes`: `block_replay` makes stages and decisions again, by what these name
(`pinned_versions`); `report` says what came of it.
Under a change: `what_if` makes a report (`what_if_report`) of the decisions that `decision_reader`
reads into `decision_columns`; `altered_decisions` decides them again, by what `model_rerun` says.
`promotion_gate` lets versions into service by a condition on it (`gate`). `errors` are all errors.
"""
