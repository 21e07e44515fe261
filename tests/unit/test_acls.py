"""Least privilege: what each component may do follows from what it reads and writes."""

from __future__ import annotations

import shlex
from collections import defaultdict

import pytest

from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.renewal_settings import Renew
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.records.broker_setup import Acl, acl_commands, acls, rollout_acls

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
TOPOLOGY = Topology.of(PIPELINE)


RENEWING = PIPELINE.model_copy(update={"renew": Renew.model_validate({"on": ["schedule"]})})


def allowed(pipeline: Pipeline = PIPELINE) -> dict[str, set[tuple[str, str]]]:
    """Component → what it may do with which topics and groups, their names without the prefix."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for acl in acls(pipeline):
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


def test_the_explainer_reads_what_was_said_of_events_and_writes_why_alone() -> None:
    may = allowed()["explainer"]
    written = {what for operation, what in may if operation == "write"}
    assert written == {"explanations", "reports"}
    read = ("group explainer", "decisions", "features", "terminals", "redrive", "explanations")
    assert {("read", what) for what in read} <= may
    assert ("read", "events") not in may, "no text of this file shows a field of events"
    assert [who for who, may in allowed().items() if ("write", "explanations") in may] == [
        "explainer"
    ]


def test_an_explainer_whose_texts_show_fields_reads_events() -> None:
    texts = {"en": {"groups": {"amount": "{amount:.2f} of {customer_id}"}}}
    content = PIPELINE.model_dump(by_alias=True)
    content["explain"]["reasons"] = texts
    rights = acls(Pipeline.model_validate(content))
    assert Acl("card-fraud.explainer", "read", "topic", "card-fraud.events") in rights


def test_only_producers_and_gateways_write_events() -> None:
    writers = [who for who, may in allowed().items() if ("write", "events") in may]
    assert writers == ["producer", "gateway"]


def test_a_gateway_publishes_and_looks_back_and_is_in_no_group() -> None:
    may = allowed()["gateway"]
    written = {what for operation, what in may if operation == "write"}
    assert written == {"events", "requests"}
    read = {what for operation, what in may if operation == "read"}
    assert read == {
        *written, "decisions", "dead-letters", "control", "reports", "redrive", "features",
        "terminals", "risk-linear", "risk-forest", "decision",
    }  # fmt: skip
    assert len(may) == len(read) + len(written)


def test_workers_read_what_is_in_service_and_only_operators_say_it() -> None:
    workers = set(allowed()) - {"producer", "consumer", "operator", "scaler", "gateway", "monitor"}
    assert workers == {
        "features", "terminals", "risk-linear", "risk-forest", "decision", "weigh", "explainer",
    }  # fmt: skip
    for who, may in allowed().items():
        assert (("read", "control") in may) == (
            who in {*workers, "operator", "consumer", "gateway", "monitor"}
        )
        assert (("write", "control") in may) == (who == "operator")
        assert (("write", "transactional-id control") in may) == (who == "operator")
        assert ({("read", "reports"), ("write", "reports")} <= may) == (
            who in {*workers, "operator"}
        )


def test_a_trainer_reads_what_was_served_and_writes_what_it_renews_and_nothing_else() -> None:
    may = allowed(RENEWING)["trainer"]
    assert {what for operation, what in may if operation == "write"} == {
        "renewals", "control", "transactional-id control",
    }  # fmt: skip
    read = {what for operation, what in may if operation == "read"}
    assert {"events", "outcomes", "decisions", "monitor", "shadow.risk-forest"} <= read
    assert not [what for _, what in may if "group" in what]
    assert ("write", "renewals") in allowed(RENEWING)["operator"], "to ask for one, and stop it"
    assert "trainer" not in allowed(), "the file does not ask for renewals"


def test_an_operator_sees_how_far_each_group_is_but_is_in_none() -> None:
    may = allowed()["operator"]
    assert {("describe", "group weigh"), ("describe", "group terminals.keyed")} <= may
    assert not [what for operation, what in may if operation != "describe" and "group" in what]


def test_a_consumer_reads_decisions_in_groups_of_its_own_which_no_worker_has() -> None:
    assert allowed()["consumer"] == {
        ("read", "decisions"), ("read", "control"), ("read", "explanations"),
        ("read", "group consumer."),
    }  # fmt: skip
    prefixed = [acl for acl in acls(PIPELINE) if acl.pattern == "prefixed"]
    assert {acl.principal for acl in prefixed} == {"card-fraud.consumer"}
    of_workers = {acl.name for acl in acls(PIPELINE) if acl.resource == "group"}
    begun = {name for name in of_workers if name.startswith(TOPOLOGY.consumer_groups)}
    assert begun == {acl.name for acl in prefixed}


def test_in_a_rollout_each_may_do_with_the_other_pipeline_what_it_may_do_with_its_own() -> None:
    after = PIPELINE.model_copy(update={"pipeline": "card-fraud-v2"})
    new, needed = Topology.of(after), rollout_acls(PIPELINE, after)
    rights = {(acl.principal, acl.operation, acl.resource, acl.name) for acl in needed}
    for one, other in ((TOPOLOGY, new), (new, TOPOLOGY)):
        assert (one.group("producer"), "write", "topic", other.events) in rights
        assert (one.group("consumer"), "read", "topic", other.decisions) in rights
    assert (new.group("consumer"), "read", "group", TOPOLOGY.consumer_groups) in rights
    operator = {right[1:] for right in rights if right[0] == new.group("operator")}
    of_before = {
        tuple(acl[1:4]) for acl in acls(PIPELINE) if acl.principal == TOPOLOGY.group("operator")
    }
    copying = {("read", "group", new.copier), ("write", "transactional-id", new.copier)}
    copying |= {("write", "topic", topic) for each in (TOPOLOGY, new)
                for topic in (each.events, each.outcomes)}  # fmt: skip
    assert operator == of_before | copying


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
        pattern = next((v for k, v in options if k == "--resource-pattern-type"), "literal")
        said |= {
            Acl(principal, operation, k.removeprefix("--"), v, pattern)  # type: ignore[arg-type]
            for k, v in options
            if k in ("--topic", "--group", "--transactional-id")
        }
    assert said == set(acls(PIPELINE))


def test_the_monitor_reads_decisions_and_outcomes_and_writes_what_it_finds_alone() -> None:
    rights = acls(load_pipeline(find_pipeline("card-fraud")).pipeline)
    may = {(acl.operation, acl.name) for acl in rights if acl.principal == "card-fraud.monitor"}
    written = {name for operation, name in may if operation == "write"}
    assert written == {
        "card-fraud.monitor", "card-fraud.monitor.state", "card-fraud.outcomes.dead-letters",
    }  # fmt: skip
    read = {name for operation, name in may if operation == "read"}
    assert read == {
        f"card-fraud.{name}"
        for name in ("events", "decisions", "outcomes", "control", "monitor", "monitor.state")
    }


@pytest.mark.parametrize("live", ["learning", "quarantine"])
def test_a_monitor_that_puts_weights_into_service_may_write_what_is_in_service(live: str) -> None:
    pipeline = load_pipeline(find_pipeline("card-fraud")).pipeline
    weighting = pipeline.weighting.model_copy(
        update={live: getattr(pipeline.weighting, live).model_copy(update={"mode": "active"})}
    )
    rights = acls(pipeline.model_copy(update={"weighting": weighting}))
    assert {
        (acl.operation, acl.resource) for acl in rights
        if (acl.principal, acl.name) == ("card-fraud.monitor", "card-fraud.control")
    } == {("read", "topic"), ("write", "topic"), ("write", "transactional-id")}  # fmt: skip
