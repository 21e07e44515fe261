"""Drift: whether fields and signals are still as they were in training; arrays in, findings out.

`reference` is what training keeps, by hour (`hour_counts`) and bin (`binning`); `detector` takes
rows and gives findings (`finding`), by the limits of `ordinary` and the change points of
`change_point`. `effect_sizes` has the formulas, `together` the distance of several fields.
Modules are imported one by one: `detector` needs river and SciPy (extra `drift`), what training
uses does not.
"""
