"""Settings of a protected connection: what fits together, and what is never shown."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import pytest

from topics.errors import InvalidSettings
from topics.kafka.connection import client_options, security_options
from topics.settings import BrokerSettings

SECRET = "geheim-4711"  # noqa: S105  # it must not be seen anywhere
LOGIN = {"SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "ada", "SASL_PASSWORD": SECRET}


def settings(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> BrokerSettings:
    for name, value in given.items():
        monkeypatch.setenv(f"ANABRANCH_{name}", value)
    return BrokerSettings(broker="kafka:9093")


def test_without_settings_nothing_is_protected() -> None:
    options = client_options(BrokerSettings(broker="a:1, b:2"))
    assert options == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}


def test_tls_checks_who_the_broker_is(monkeypatch: pytest.MonkeyPatch) -> None:
    options = security_options(settings(monkeypatch, {"TLS": "true"}))
    assert options["security_protocol"] == "SSL"
    assert options["ssl_context"].check_hostname


def test_a_login_goes_through_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    options = security_options(settings(monkeypatch, {**LOGIN, "TLS": "true"}))
    assert options["security_protocol"] == "SASL_SSL"
    assert options["sasl_plain_password"] == SECRET


def test_a_login_without_tls_must_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSettings, match="ANABRANCH_SASL_WITHOUT_TLS"):
        settings(monkeypatch, LOGIN)
    options = security_options(settings(monkeypatch, {"SASL_WITHOUT_TLS": "true"}))
    assert options["security_protocol"] == "SASL_PLAINTEXT"


def test_a_password_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    given = {"TLS": "1", "SASL_MECHANISM": "SCRAM-SHA-512", "SASL_USERNAME": "ada",
             "SASL_PASSWORD_FILE": str(file)}  # fmt: skip
    found = settings(monkeypatch, given)
    assert security_options(found)["sasl_plain_password"] == SECRET
    file.write_text("")
    with pytest.raises(InvalidSettings, match="its first line is empty"):
        security_options(found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"TLS_CA": __file__}, "set ANABRANCH_TLS=true"),
        ({"TLS": "1", "TLS_CA": "/not/there"}, "ANABRANCH_SECURITY|ANABRANCH_TLS_CA"),
        ({"TLS": "1", "TLS_KEY": __file__}, "ANABRANCH_TLS_KEY needs ANABRANCH_TLS_CERTIFICATE"),
        ({"TLS": "perhaps"}, "ANABRANCH_TLS: Input should be a valid boolean"),
        ({**LOGIN, "TLS": "1", "SASL_MECHANISM": "MD5"}, "ANABRANCH_SASL_MECHANISM"),
        ({"TLS": "1", "SASL_PASSWORD": SECRET}, "needs ANABRANCH_SASL_MECHANISM"),
        ({"TLS": "1", "SASL_MECHANISM": "PLAIN"}, "set ANABRANCH_SASL_USERNAME"),
        ({**LOGIN, "TLS": "1", "SASL_PASSWORD_FILE": __file__}, "given twice"),
        ({"SESSION_TIMEOUT_S": "1"}, "ANABRANCH_SESSION_TIMEOUT_S: Input should be greater"),
    ],
)
def test_settings_that_do_not_fit_are_one_message_without_secrets(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidSettings, match=message) as caught:
        settings(monkeypatch, given)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "it would show what was given"


@pytest.mark.parametrize("name", ["TLS_CA", "TLS_CERTIFICATE"])
def test_a_file_without_certificates_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"ANABRANCH_{name}"):
        security_options(settings(monkeypatch, {"TLS": "1", name: __file__}))


def test_a_password_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = settings(monkeypatch, {**LOGIN, "TLS": "1", "TLS_KEY_PASSWORD": SECRET})
    with caplog.at_level(logging.DEBUG):
        security_options(found)
    shown = (repr(found), str(found), str(found.model_dump()), found.model_dump_json())
    assert SECRET not in "".join(shown) + repr(found.security) + caplog.text
    assert SECRET not in found.security.model_dump_json()


def test_the_embedded_broker_needs_no_protection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANABRANCH_TLS", "true")
    embedded = BrokerSettings(broker="127.0.0.1:1", embedded=True)
    assert security_options(embedded) == {"security_protocol": "PLAINTEXT"}


def test_nothing_of_ours_unpickles() -> None:
    """A pickle is a program; models are ONNX files, named by their digests.

    The processes of one training do share their data by joblib, in a folder that it has just made.
    """
    root = Path(__file__).parents[2]
    training = root / "models" / "training"
    engines = {training / name for name in ("engines.py", "local_engine.py", "tune.py")}
    imported = {
        name
        for folder in ("agents", "topics", "models")
        for path in {*(root / folder).rglob("*.py")} - engines
        for node in ast.walk(ast.parse(path.read_text()))
        for name in _imports(node)
    }
    assert "onnxruntime" in imported
    assert not imported & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    return [(node.module or "").split(".")[0]] if isinstance(node, ast.ImportFrom) else []
