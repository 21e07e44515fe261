"""Coverage-guided fuzzing of control records, reports and heartbeats: `make fuzz OF=control`."""

from __future__ import annotations

import atheris

with atheris.instrument_imports(include=["topics"]):
    from tests.fuzz.fuzzing import fuzz
    from tests.fuzz.taken_in import control

_DIGEST = b"sha256:" + b"0" * 64
_SEEDS = {
    "deploy": b'deploy/risk\n{"champion":{"version":2,"digest":"%s"},"challenger":{"version":3,'
    b'"digest":"%s","share":0.05}}' % (_DIGEST, _DIGEST),
    "weights": b'weights\n{"version":2,"previous":1}',
    "policy": b'policy\n{"policy":{"thresholds":{"stop":0.5}}}',
    "audit": b'audit/2018-04-01T00:00:31Z-a\n{"action":"promote","what":"risk","version":2,'
    b'"before":1,"by":"me","reason":"","at":"2018-04-01T00:00:31Z"}',
    "rollout": b'rollout\n{"pipelines":["a","b"],"turns":[{"in_service":"b",'
    b'"since":{"a.events":[7]},"at":"2018-04-01T00:00:31Z"}]}',
    "worker": b'worker/risk/host-1\n{"version":2,"state":"refused","reason":"r","at":"t"}',
    "first": b'first/risk/2/0\n{"offset":12,"worker":"w","at":"t"}',
    "status": b'status/w/host-1\n{"state":"running","started_ms":1,"said_ms":2,"partitions":[]}',
    "heartbeat": b'\n{"component":"risk","partition":0,"worker":"w","state":"working"}',
    "tombstone": b"status/w/host-1\n\0",
}


if __name__ == "__main__":
    fuzz(control, _SEEDS)
