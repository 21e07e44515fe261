"""What is no broker's address is said in one sentence, before anything is done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer.core
import typer.main

from agents.broker.reach import broker_settings, needed_broker
from agents.cli import app
from topics.broker_address import Address, parsed
from topics.errors import AnabranchError, InvalidAddress
from topics.settings import BrokerSettings, HomeSettings

WRONG = {
    "kafka://host:9092": "has a scheme; write host:9092 (",
    "PLAINTEXT://host:9092": "has a scheme; write host:9092 (",
    "SASL_SSL://host:9093": "write host:9093: TLS and logins are set by ANABRANCH_TLS and ANABR",
    "host": "names no port; write host:9092 if your broker listens on Kafka's usual one",
    "host:": "names no port; write host:9092 if",
    "[::1]": "names no port; write [::1]:9092 if",
    "host:99999": "has the port 99999, which is not a number from 1 to 65535",
    "host:0": "has the port 0, which is not a number from 1 to 65535",
    "host:kafka": "has the port kafka, which is not a number",
    "host:٣": "which is not a number from 1 to 65535",
    "": "'' is empty",
    "  ": "is empty",
    "host:9092,": "'' is empty",
    "host:9092,other": "'other' names no port",
    ":9092": "names no host",
    "::1:9092": "has several colons; an IPv6 address is written [::1]:9092",
    "[::1:9092": "has no ] behind its IPv6 address",
    "[host]:9092": "has no IPv6 address in its brackets",
    "ho st:9092": "has no host name in 'ho st'",
    "host/path:9092": "has no host name in 'host/path'",
}


@pytest.mark.parametrize(("address", "said"), WRONG.items())
def test_what_is_no_address_is_said_with_what_to_write(address: str, said: str) -> None:
    with pytest.raises(InvalidAddress) as caught:
        BrokerSettings(broker=address)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    assert message.endswith("(it is given by --broker or ANABRANCH_BROKER, as HOST:PORT; several "
                            "with commas)")  # fmt: skip


@pytest.mark.parametrize(
    ("address", "parts"),
    {
        "localhost:9092": Address("localhost", 9092),
        "kafka_1.internal.:19092": Address("kafka_1.internal.", 19092),
        "10.0.0.7:65535": Address("10.0.0.7", 65535),
        "[::1]:9092": Address("::1", 9092),
        "[fe80::1%eth0]:9092": Address("fe80::1%eth0", 9092),
    }.items(),
)
def test_an_address_has_a_host_and_a_port(address: str, parts: Address) -> None:
    assert parsed(address) == parts
    assert BrokerSettings(broker=f" {address} ").addresses == [address]


def test_a_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(InvalidAddress) as caught:
        BrokerSettings(broker="kafka://user:secret@host:9092")
    assert "write host:9092" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "kafka://host:9092"])
def test_the_environment_is_looked_at_like_the_flag(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANABRANCH_BROKER", address)
    with pytest.raises(InvalidAddress):
        needed_broker(None)
    with pytest.raises(InvalidAddress):
        broker_settings(None, HomeSettings())
    monkeypatch.setenv("ANABRANCH_BROKER", "host:9092")
    assert needed_broker(None).addresses == ["host:9092"]
    with pytest.raises(InvalidAddress, match="is empty"):
        needed_broker("")  # a flag without a value is none to pass over


def _commands(command: object, *names: str) -> Iterator[tuple[str, typer.core.TyperCommand]]:
    if isinstance(command, typer.core.TyperGroup):
        for name, inner in command.commands.items():
            yield from _commands(inner, *names, name)
    elif isinstance(command, typer.core.TyperCommand):
        yield " ".join(names), command


WITH_BROKER = {
    name: command
    for name, command in _commands(typer.main.get_command(app))
    if any("--broker" in parameter.opts for parameter in command.params)
}


@pytest.mark.parametrize("name", WITH_BROKER)
def test_every_command_that_takes_a_broker_looks_at_its_address_first(name: str) -> None:
    with pytest.raises(AnabranchError, match="'host' names no port; write host:9092"):
        WITH_BROKER[name].make_context(name, ["--broker", "host"])


def test_the_commands_that_take_a_broker_are_those() -> None:
    assert {"run", "publish", "audit", "watch", "topics", "demo", "evaluate"} <= set(WITH_BROKER)
    assert {"dead-letters list", "models promote", "simulate"} <= set(WITH_BROKER)
