"""Versions in service: promoted, challenged, swapped while events flow.

`promotion` writes what is to be in service, `hot_swap` takes it over in running workers,
`open_pipeline` and `open_version` open it at a start. A challenger is followed and judged by the
`challenger_…` modules; `gc_protection` says which versions the registry must keep. Modules are
imported one by one: some load Faust.
"""
