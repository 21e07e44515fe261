"""Versions in service: promoted, challenged, swapped while events flow.

`hot_swap` states the protocol and takes over what is to run in running workers; `promotion` writes
what that is, `open_pipeline` and `open_version` open it at a start. `challenger_comparison` says
how a challenger does beside its champion, `challenger_follower` reads what it says that of;
`gc_protection` says which versions the registry must keep. Modules are imported one by one: some
load Faust.
"""
