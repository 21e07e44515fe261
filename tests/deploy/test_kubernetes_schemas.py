"""Manifests against the published schemas of everybody who reads them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are another package
import kubernetes_validate
import pytest

from tests.deploy import strimzi_schemas
from tests.deploy.manifests import COMMITTED, NAMES, Manifest, built, of_kind, resources, written

OURS = ("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1")
STRIMZI, KEDA, PROMETHEUS = "kafka.strimzi.io/v1", "keda.sh/v1alpha1", "monitoring.coreos.com/v1"
VERSION = "1.34"
OVERLAYS = ("dev", "production")


def checked_by_model(manifest: Manifest) -> None:
    """Types and required fields are pydantic's to check; unknown ones are lost on the way."""
    from cloudcoil.models.keda import v1alpha1 as keda
    from cloudcoil.models.prometheus_operator import v1 as prometheus

    module: Any = keda if manifest["apiVersion"] == KEDA else prometheus
    model = getattr(module, manifest["kind"]).model_validate(manifest)
    kept = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert kept == manifest


def test_every_resource_is_held_against_a_schema() -> None:
    for name in NAMES:
        apis = {each["apiVersion"] for each in resources(name)}
        assert apis == {*OURS, STRIMZI, KEDA, PROMETHEUS}


@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_takes_what_is_its_own(name: str) -> None:
    for each in resources(name):
        if each["apiVersion"] in OURS:
            kubernetes_validate.validate(each, VERSION, strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_keda_and_the_prometheus_operator_take_what_is_theirs(name: str) -> None:
    for each in resources(name):
        if each["apiVersion"] in (KEDA, PROMETHEUS):
            checked_by_model(each)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", NAMES)
def test_what_kustomize_builds_is_taken_too(name: str, overlay: str, tmp_path: Path) -> None:
    for each in built(written(name, tmp_path), overlay):
        if each["apiVersion"] in OURS:
            kubernetes_validate.validate(each, VERSION, strict=True)
        elif each["apiVersion"] != STRIMZI:
            checked_by_model(each)


def test_a_wrong_field_is_found_by_each_of_them() -> None:
    found = resources("card-fraud")
    for each in (of_kind(found, "StatefulSet"), of_kind(found, "Service")):
        wrong = {**next(iter(each.values()))}
        wrong["spec"] = {**wrong["spec"], "replica": 3}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, VERSION, strict=True)
    for kind in ("ScaledObject", "TriggerAuthentication", "PodMonitor", "PrometheusRule"):
        wrong = {**next(iter(of_kind(found, kind).values()))}
        wrong["spec"] = {**wrong["spec"], "maxReplicas": 3}
        with pytest.raises(AssertionError):
            checked_by_model(wrong)


@pytest.fixture
def strimzi() -> dict[str, dict[str, Any]]:
    if shutil.which("mvn") is None or strimzi_schemas.java() is None:
        pytest.skip(f"Strimzi's generator needs Maven and Java {strimzi_schemas.LEAST_JAVA}")
    return dict(strimzi_schemas.schemas())


@pytest.mark.kafka
def test_strimzi_takes_topics_and_users(strimzi: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    every = [each for name in NAMES for each in resources(name)]
    if shutil.which("kubectl") or shutil.which("kustomize"):
        every += [each for overlay in OVERLAYS for each in built(COMMITTED, overlay)]
    theirs = [each for each in every if each["apiVersion"] == STRIMZI]
    assert {each["kind"] for each in theirs} == set(strimzi)
    for each in theirs:
        jsonschema.validate(each, strimzi[each["kind"]], cls=jsonschema.Draft7Validator)


@pytest.mark.kafka
def test_strimzi_refuses_a_right_that_does_not_exist(strimzi: dict[str, dict[str, Any]]) -> None:
    user = next(iter(of_kind(resources("card-fraud"), "KafkaUser").values()))
    user["spec"]["authorization"]["acls"][0]["operations"] = ["Reed"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(user, strimzi["KafkaUser"], cls=jsonschema.Draft7Validator)
