"""The gateway: events and decisions over HTTP, for callers that do not speak Kafka.

`predictions` asks one question: `event_reader` validates it, `event_publisher` publishes it,
`decision_follower` waits for its answer among all that is decided (`awaited_answers` matches them);
`broker_session` keeps these alive, `pipeline_watch` says what is waited for and what is down.
`lookup` finds and explains what was decided before, `stream` sends what is decided now. `app` is
the HTTP interface over all that, `problem` how it refuses, `openapi` its contract; `server` and
`http_protocol` hold connections to their limits. `inference` speaks the Open Inference Protocol,
`contracts` those of others, `keyed` takes requests that come again, `access` says who may ask.
Modules are imported one by one: some load FastAPI or gRPC.
"""
