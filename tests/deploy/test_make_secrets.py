"""deploy/compose/make-secrets: what a broker and its clients need."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from agents.gateway.access.api_keys import ApiKeys
from agents.gateway.access.tls import server_tls

SCRIPT = Path("deploy/compose/make-secrets")
USERS = ("admin", "p.weigh", "p.producer")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path / "secrets"
    subprocess.run([SCRIPT, path, *USERS], check=True)
    return path


def test_the_brokers_certificate_is_vouched_for_and_names_it(secrets: Path) -> None:
    authority = x509.load_pem_x509_certificate((secrets / "kafka-ca").read_bytes())
    pem = (secrets / "kafka-server").read_bytes()
    x509.load_pem_x509_certificate(pem).verify_directly_issued_by(authority)
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert set(names.value.get_values_for_type(x509.DNSName)) == {"kafka", "localhost"}
    context = ssl.create_default_context(cafile=secrets / "kafka-ca")
    context.load_cert_chain(secrets / "kafka-server")  # the key is in it, and fits
    assert b"BEGIN PRIVATE KEY" in pem  # PKCS#8, the only form that Kafka reads


def test_every_user_has_a_password_of_its_own_that_the_broker_knows(secrets: Path) -> None:
    properties = (secrets / "kafka-properties").read_text()
    passwords = {user: (secrets / user).read_text().strip() for user in USERS}
    assert len(set(passwords.values())) == len(USERS)
    for user, password in passwords.items():
        assert len(password) == 48
        assert properties.count(f'user_{user}="{password}"') == 2  # inside and from the host
    assert "super.users=User:admin;User:ANONYMOUS" in properties


def test_the_gateway_has_a_certificate_and_the_digest_of_a_key(secrets: Path) -> None:
    authority = x509.load_pem_x509_certificate((secrets / "kafka-ca").read_bytes())
    pem = (secrets / "gateway-server").read_bytes()
    x509.load_pem_x509_certificate(pem).verify_directly_issued_by(authority)
    server_tls(secrets / "gateway-server", None)  # the key is in it, and fits
    key = (secrets / "gateway-key").read_text().strip()
    caller = ApiKeys(secrets / "gateway-keys").caller(key)
    assert caller is not None
    assert (caller.may("publish"), caller.may("read"), caller.may("admin")) == (True, True, False)
    assert key not in (secrets / "gateway-keys").read_text()


def test_nobody_else_comes_into_the_directory_and_what_is_there_is_kept(secrets: Path) -> None:
    assert secrets.stat().st_mode & 0o077 == 0
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    subprocess.run([SCRIPT, secrets, *USERS], check=True)
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before


def test_without_users_there_is_only_grafanas_password(tmp_path: Path) -> None:
    subprocess.run([SCRIPT, tmp_path / "s"], check=True)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["grafana-password"]
