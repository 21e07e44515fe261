"""Decisions as server-sent events, for many readers at once.

`decision_stream` says it all; what is new is read once for all of them by `live_decisions`, what is
past for each by `past_decisions`. Where a reader is says `stream_position`. Its modules are
imported one by one.
"""
