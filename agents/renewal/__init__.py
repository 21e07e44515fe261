"""Models that renew themselves: trained from the topics, shadowed and promoted without a person.

`trainer` says it all: who renews, what begins a renewal (`triggers`, by the `event_clock`), how it
goes from step to step and ends. What is done is on `<pipeline>.renewals`: `renewal_log` reads and
writes it, `renewal_ledger` is what it amounts to. The steps are in `model_steps` (up to new
versions) and `challenge_steps` (up to their promotion); `named_versions` keeps a version from being
registered twice. Modules are imported one by one: some load scikit-learn.
"""
