"""Requests with an Idempotency-Key: published once, however often they are sent.

`keyed_requests` says it all; the log on `<pipeline>.requests` is `request_log`, what it amounts to
`request_ledger`. Its modules are imported one by one.
"""
