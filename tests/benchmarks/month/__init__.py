"""A month of card payments at speed on Apache Kafka, and what has come of it, claim by claim.

`python -m tests.benchmarks.month` runs it (`--help`). `world` makes the events and says what is
true; `stream` publishes them, and outcomes a week of event time later, by what was decided;
`actors` are the processes, which are killed at random; `witness` reads topics as any consumer does,
and `claims` judges by that alone.
"""
