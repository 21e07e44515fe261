"""How good models are, and where that is kept: figures, costs, pages, runs of trackers.

`quality` and `ablation` (figures), `decision_costs` (thresholds), `training_report` and `page`
(what training reached, with `report_plots`), `html_page` and `svg_plot` (any page), `handbook`
(days, delayed labels), `sequential_test` (champion and challenger), `tracking` with one module for
each tracker. Modules are imported one by one: some need a library that is an extra.
"""
