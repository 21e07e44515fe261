"""The gateway's own port for metrics and health, which asks for no key."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.integration.gateways import gateway_process
from tests.integration.harness import PATIENCE_S, worker_process
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_refusals import event
from tests.kafka_nodes import free_ports
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings


def test_metrics_and_health_have_a_port_of_their_own_without_a_key(tmp_path: Path) -> None:
    own = own_components(tmp_path, "fail")
    (port,) = free_ports(1)
    keys = tmp_path / "keys.txt"
    keys.write_text(f"shop publish {'0' * 64}\n")
    words = ("--keys", str(keys), "--metrics-port", str(port))

    def told(path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S)

    with EmbeddedBroker() as embedded:
        settings = BrokerSettings(broker=embedded.address, embedded=True)
        with gateway_process(own, settings, *words, ready=False) as gateway:
            assert (told("/healthz").status_code, told("/readyz").status_code) == (200, 503)
            assert 'anabranch_gateway_ready{pipeline="own"} 0.0' in told("/metrics").text
            assert gateway.get("/metrics").status_code == 401
            assert gateway.predict(event("x")).status_code == 401
            with worker_process(own, settings):
                deadline = time.monotonic() + PATIENCE_S
                while told("/readyz").status_code != 200:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                said = told("/metrics").text
    assert 'anabranch_gateway_ready{pipeline="own"} 1.0' in said
    assert 'anabranch_gateway_requests_total{pipeline="own",route="other",status="401"} 2' in said
    assert "anabranch_build_info" in said
