"""Which components share a worker, and which cannot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from topics.pipeline.checks import check_fused
from topics.pipeline.file import find_pipeline
from topics.pipeline.readers import inputs_of, workers
from topics.pipeline.schema import Pipeline
from topics.records.broker_setup import acls

STATELESS = Path(__file__).with_name("stateless.yaml")


def fusing(*groups: list[str], of: Path | None = None, **names: str) -> Pipeline:
    """The card-fraud pipeline with *groups* fused, and components called otherwise."""
    text = (of or find_pipeline("card-fraud")).read_text()
    for old, new in names.items():
        text = text.replace(old.replace("_", "-"), new)
    content: dict[str, Any] = yaml.safe_load(text)
    return Pipeline.model_validate({**content, "explain": {}, "fuse": list(groups)})


def mistakes(pipeline: Pipeline) -> list[str]:
    return [f"{finding.location}: {finding.message}" for finding in check_fused(pipeline)]


def test_without_fuse_every_component_has_a_worker_of_its_own() -> None:
    names = ("features", "terminals", "risk-linear", "risk-forest", "decision")
    assert workers(fusing()) == {name: (name,) for name in names}


def test_fused_components_share_one_in_the_order_of_the_flow() -> None:
    pipeline = fusing(["decision", "risk-forest", "risk-linear"])
    name = "risk-linear-risk-forest-decision"
    assert list(workers(pipeline)) == ["features", "terminals", name]
    assert workers(pipeline)[name] == ("risk-linear", "risk-forest", "decision")
    assert inputs_of(pipeline, workers(pipeline)[name]) == ["features", "terminals"]


def test_one_list_of_names_is_one_group() -> None:
    content = yaml.safe_load(STATELESS.read_text())
    one = Pipeline.model_validate({**content, "fuse": ["features", "risk-linear"]})
    assert one.fuse == [["features", "risk-linear"]]
    assert not mistakes(one)
    assert inputs_of(one, one.fuse[0]) == ["events"]


def test_several_groups_may_be_fused() -> None:
    pipeline = fusing(["features", "risk-linear"], ["risk-forest", "decision"], of=STATELESS)
    assert not mistakes(pipeline)
    assert list(workers(pipeline)) == ["features-risk-linear", "risk-forest-decision"]


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ([["risk-linear", "risk"]], r"\('fuse', 0\): unknown component 'risk'; known: decision,"),
        ([["risk-linear", "risk-linear"]], "'risk-linear' is listed twice"),
        (
            [["risk-linear", "risk-forest"], ["decision", "risk-forest"]],
            r"\('fuse', 1\): 'risk-forest' is listed twice",
        ),
        ([["terminals", "risk-linear"]], "'terminals' is repartitioned: it needs a worker of its"),
        ([["features", "risk-linear"]], "features reads events, so the others may not read term"),
    ],
)
def test_what_cannot_be_fused_is_said(groups: list[list[str]], why: str) -> None:
    (said,) = mistakes(fusing(*groups))
    assert re.search(why, said), said


def test_a_worker_must_not_wait_for_itself() -> None:
    (said,) = mistakes(fusing(["features", "decision"], of=STATELESS))[-1:]
    assert "risk-linear reads what one of them makes, and another reads risk-linear" in said


def test_two_readers_of_events_have_a_worker_each() -> None:
    content = yaml.safe_load(STATELESS.read_text())
    second = {**content["components"][0], "name": "more"}
    content["components"] += [second]
    content["weighting"]["from"] += ["more"]
    (said,) = mistakes(Pipeline.model_validate({**content, "fuse": ["features", "more"]}))
    assert "features and more read events: only one of a worker's may" in said


def test_a_worker_has_no_name_that_another_has() -> None:
    pipeline = fusing(["risk-linear", "one"], risk_forest="one", decision="risk-linear-one")
    assert "their worker would be called 'risk-linear-one'" in mistakes(pipeline)[0]


def test_a_fused_worker_has_the_rights_of_its_components_and_no_others() -> None:
    name = "card-fraud.risk-linear-risk-forest"
    rights = [acl for acl in acls(fusing(["risk-linear", "risk-forest"])) if acl.principal == name]
    written = {acl.name for acl in rights if acl.operation == "write"}
    assert written == {f"card-fraud.{each}" for each in (
        "risk-linear", "risk-forest", "redrive", "reports", "shadow.risk-linear",
        "shadow.risk-forest")}  # fmt: skip
    read = {acl.name for acl in rights if acl.operation == "read" and acl.resource == "topic"}
    assert read - written == {
        "card-fraud.features", "card-fraud.terminals", "card-fraud.control",
    }  # fmt: skip
    groups = [acl.name for acl in rights if acl.resource == "group"]
    assert groups == [name]
