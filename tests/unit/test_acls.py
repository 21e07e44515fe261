"""Least privilege: what each component may do follows from what it reads and writes."""

from __future__ import annotations

import shlex
from collections import defaultdict

from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.topology import Topology
from topics.records.broker_setup import Acl, acl_commands, acls

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
TOPOLOGY = Topology.of(PIPELINE)


def allowed() -> dict[str, set[tuple[str, str]]]:
    """Component → what it may do with which topics and groups, their names without the prefix."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for acl in acls(PIPELINE):
        name = acl.name.removeprefix("card-fraud.")
        of = "" if acl.resource == "topic" else f"{acl.resource} "
        found[acl.principal.removeprefix("card-fraud.")].add((acl.operation, of + name))
    return found


def test_a_joined_stage_reads_its_inputs_and_writes_its_own_topic() -> None:
    assert allowed()["risk-linear"] >= {
        ("read", "group risk-linear"), ("read", "features"), ("read", "terminals"),
        ("read", "risk-linear"), ("write", "risk-linear"),
    }  # fmt: skip
    assert not {("read", "events"), ("write", "decisions")} & allowed()["risk-linear"]


def test_a_keyed_stage_has_its_own_repartition_and_snapshots() -> None:
    may = allowed()["terminals"]
    assert {("read", "events"), ("read", "outcomes"), ("write", "terminals.keyed"),
            ("read", "terminals.keyed"), ("write", "terminals.state"),
            ("read", "group terminals.keyed")} <= may  # fmt: skip


def test_only_the_weighting_agent_ends_events() -> None:
    ends = {("write", "decisions"), ("write", "dead-letters")}
    assert [who for who, may in allowed().items() if ends & may] == ["weigh"]


def test_only_producers_write_events() -> None:
    assert [who for who, may in allowed().items() if ("write", "events") in may] == ["producer"]


def test_workers_read_what_is_in_service_and_only_operators_say_it() -> None:
    workers = set(allowed()) - {"producer", "consumer", "operator", "scaler"}
    assert workers == {"features", "terminals", "risk-linear", "risk-forest", "decision", "weigh"}
    for who, may in allowed().items():
        assert (("read", "control") in may) == (who in {*workers, "operator"})
        assert (("write", "control") in may) == (who == "operator")
        assert (("write", "transactional-id control") in may) == (who == "operator")
        assert ({("read", "reports"), ("write", "reports")} <= may) == (
            who in {*workers, "operator"}
        )


def test_an_operator_sees_how_far_each_group_is_but_is_in_none() -> None:
    may = allowed()["operator"]
    assert {("describe", "group weigh"), ("describe", "group terminals.keyed")} <= may
    assert not [what for operation, what in may if operation != "describe" and "group" in what]


def test_every_topic_is_written_by_somebody_and_read_by_somebody() -> None:
    for operation in ("read", "write"):
        names = {acl.name for acl in acls(PIPELINE) if acl.operation == operation}
        assert set(TOPOLOGY.all) <= names


def test_the_commands_say_the_same_as_the_list() -> None:
    said: set[Acl] = set()
    for line in acl_commands(acls(PIPELINE), "kafka:9092"):
        words = shlex.split(line)
        assert words[:4] == ["kafka-acls.sh", "--bootstrap-server", "kafka:9092", "--add"]
        options = list(zip(words[4::2], words[5::2], strict=True))
        (principal,) = (v.removeprefix("User:") for k, v in options if k == "--allow-principal")
        (operation,) = (v.lower() for k, v in options if k == "--operation")
        said |= {
            Acl(principal, operation, k.removeprefix("--"), v)  # type: ignore[arg-type]
            for k, v in options
            if k in ("--topic", "--group", "--transactional-id")
        }
    assert said == set(acls(PIPELINE))
