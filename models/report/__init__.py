"""How good models are, and where that is kept: figures, costs, pages, runs of trackers.

`metrics` and `ablation` (figures), `decision_costs` (thresholds), `report` and `page` (what
training reached), `handbook` (days, delayed labels), `sequential_test` (champion and challenger),
`tracking` with one module for each tracker. Modules are imported one by one: some need a library
that is an extra.
"""
