"""Who may ask a gateway: keys and roles, rates, addresses, TLS."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
import trustme

from tests.integration.gateways import RunningGateway, gateway_process
from tests.integration.harness import PATIENCE_S, Trained
from tests.integration.test_cli import anabranch
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_refusals import event
from tests.unit.test_access_tokens import (
    AUDIENCE,
    ISSUER,
    OTHER_KEY,
    RSA_KEY,
    document,
    public,
    token,
)
from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings

EVERYWHERE = "0.0.0.0"  # noqa: S104  # that it is refused is what is tested


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return own_components(tmp_path_factory.mktemp("own"), "fail")


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerSettings]:
    with EmbeddedBroker() as embedded:
        yield BrokerSettings(broker=embedded.address, embedded=True)


def new_key(own: Trained, keys: Path, name: str, *words: str) -> str:
    file = str(own.file.path)
    done = anabranch(own, "gateway", file, "--keys", str(keys), "--new-key", name, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def answers_to(gateway: RunningGateway, key: str) -> tuple[int, int, int]:
    """Statuses of publishing, reading a decision and reading metrics; nobody decides here."""
    published = gateway.predict(event("x"), **bearer(key)).status_code
    read = gateway.get("/decisions?source=own.events/0/0", **bearer(key)).status_code
    return published, read, gateway.get("/metrics", **bearer(key)).status_code


def test_a_key_may_do_what_its_roles_say(
    own: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    publish = new_key(own, keys, "shop", "--role", "publish")
    read = new_key(own, keys, "analyst", "--role", "read")
    admin = new_key(own, keys, "operator", "--role", "admin")
    assert publish not in keys.read_text()
    assert keys.stat().st_mode & 0o077 == 0
    with gateway_process(own, broker, "--keys", str(keys), ready=False) as gateway:
        assert answers_to(gateway, publish) == (503, 403, 403)
        assert answers_to(gateway, read) == (403, 404, 200)
        assert answers_to(gateway, admin) == (503, 404, 200)
        assert answers_to(gateway, "nobody's") == (401, 401, 401)
        assert gateway.get("/metrics", **{"x-api-key": admin}).status_code == 200
        refused = gateway.predict(event("x"))
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert gateway.get("/nowhere").status_code == 401, "nobody learns what there is"
        assert gateway.get("/healthz").status_code == 200

        rest = [line for line in keys.read_text().splitlines() if not line.startswith("shop ")]
        keys.write_text("\n".join(rest) + "\n")
        while gateway.predict(event("x"), **bearer(publish)).status_code != 401:
            pass
        keys.write_text("broken\n")
        assert gateway.get("/metrics", **bearer(admin)).status_code == 200


def test_a_token_may_do_what_its_roles_say(
    own: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    jwks, keys = tmp_path / "jwks.json", tmp_path / "keys"
    jwks.write_bytes(document(public(RSA_KEY, "r1")))
    key = new_key(own, keys, "shop", "--role", "publish")
    words = ("--jwks", str(jwks), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    with gateway_process(own, broker, *words, "--keys", str(keys), ready=False) as gateway:
        assert answers_to(gateway, token(roles=["publish"])) == (503, 403, 403)
        assert answers_to(gateway, token(roles=["read"])) == (403, 404, 200)
        assert answers_to(gateway, token(roles=[], scope="admin")) == (503, 404, 200)
        assert answers_to(gateway, key) == (503, 403, 403), "keys and tokens side by side"
        assert answers_to(gateway, token(OTHER_KEY, roles=["admin"])) == (401, 401, 401)
        refused = gateway.get("/metrics", **bearer(token(exp=1)))
        assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'
        assert "has expired" in refused.json()["detail"]
        jwks.write_bytes(document(public(OTHER_KEY, "r1")))
        while gateway.get("/metrics", **bearer(token())).status_code != 401:
            pass
        assert gateway.get("/metrics", **bearer(token(OTHER_KEY))).status_code == 200


def test_an_issuers_address_is_asked_by_https(
    own: Trained, broker: BrokerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, trust = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trust)
    monkeypatch.setenv("SSL_CERT_FILE", str(trust))

    class Issuer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("location", "/keys")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(document(public(RSA_KEY, "r1")))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_port}"
    for path, status in (("/keys", 200), ("/moved", 503)):
        words = ("--jwks", url + path, "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
        with gateway_process(own, broker, *words, ready=False) as gateway:
            assert gateway.get("/metrics", **bearer(token())).status_code == status
            assert gateway.get("/metrics").status_code == 401
    server.shutdown()
    server.server_close()


def test_a_caller_has_a_rate(own: Trained, broker: BrokerSettings) -> None:
    with gateway_process(own, broker, "--max-rate", "1", ready=False) as gateway:
        while (answer := gateway.get("/metrics")).status_code != 429:
            pass
        assert int(answer.headers["retry-after"]) == 1
        assert gateway.get("/healthz").status_code == 200


def test_tls_and_what_it_needs(own: Trained, broker: BrokerSettings, tmp_path: Path) -> None:
    authority, file = trustme.CA(), tmp_path / "gateway.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(file)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    words = ("--tls-certificate", str(file))
    with gateway_process(own, broker, *words, ready=False) as gateway:
        assert gateway.url.startswith("https://")
        with httpx.Client(verify=trusted) as client:
            assert client.get(f"{gateway.url}/healthz").status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{gateway.port}/healthz")


def test_what_would_stand_open_or_cannot_be_used_is_refused(
    own: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    def refused(*words: str) -> str:
        done = anabranch(
            own, "gateway", str(own.file.path), "--port", "0", *words, broker=broker.broker
        )
        assert done.returncode in (1, 2)
        return done.stderr

    assert "give --keys FILE" in refused("--host", EVERYWHERE)
    wrong = tmp_path / "keys"
    for text, why in (("a b\n", "line 1 is no key"), ("", "there is no key in it"),
                      (f"a root {'0' * 64}\n", "no role of ours: root")):  # fmt: skip
        wrong.write_text(text)
        assert why in refused("--keys", str(wrong))
    assert "No such file" in refused("--keys", str(tmp_path / "none"))
    assert "no certificate with its key" in refused("--tls-certificate", str(wrong))
    assert "--tls-certificate" in refused("--tls-key", str(wrong))
    some = ("--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    assert "no list `keys`" in refused("--jwks", str(_written(tmp_path / "no", b"{}")), *some)
    assert "no https address" in refused("--jwks", "http://127.0.0.1:1/", *some)
    assert "--jwt-audience" in refused("--jwks", str(wrong), "--jwt-issuer", ISSUER)
    assert "--jwks" in refused("--jwt-issuer", ISSUER)
    assert "cannot listen on nowhere.invalid:0" in refused("--host", "nowhere.invalid")


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_program_is_told_the_address_and_its_end_ends_the_gateway(
    own: Trained, broker: BrokerSettings
) -> None:
    environment = {
        **os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": broker.broker,
        "ANABRANCH_EMBEDDED": "true",
    }  # fmt: skip
    child = subprocess.Popen(
        [sys.executable, "-m", "agents", "gateway", str(own.file.path), "--port", "0", "--json",
         "--end-with-stdin"],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdin is not None
    about = json.loads(child.stdout.readline())
    assert (about["pipeline"], about["broker"]) == ("own", broker.broker)
    assert httpx.get(f"{about['url']}/healthz").status_code == 200
    child.stdin.close()
    assert child.wait(timeout=PATIENCE_S) == 0
    child.stdout.close()


def test_it_listens_to_others_where_it_is_told_to(own: Trained, broker: BrokerSettings) -> None:
    words = ("--host", EVERYWHERE, "--without-keys")
    with gateway_process(own, broker, *words, ready=False) as gateway:
        assert httpx.get(f"http://127.0.0.1:{gateway.port}/healthz").status_code == 200
        gateway.process.terminate()
        assert gateway.process.wait(timeout=30) == 0
