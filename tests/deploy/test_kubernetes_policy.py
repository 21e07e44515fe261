"""Manifests under the policies of Checkov; what is exempt from one stands here, with its reason.

Checkov has many dependencies, and is in a virtual environment of its own (`make test-policy`).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.manifests.kubernetes.names import Cluster, Image
from tests.deploy.manifests import NAMES, ROOT, Manifest, built, of_kind, written

CHECKOV = ROOT / ".venv-policy" / "bin" / "checkov"
EXEMPT = {
    "CKV_K8S_11": "CPU limits: a worker that is throttled is late, and requests share out the CPU",
}
"""Check → why it is not asked for."""
WITH_A_URL = {
    **EXEMPT,
    "CKV_K8S_35": "Secrets as variables: that is how the libraries of object stores take logins",
}
"""The same, where the registry is at a URL."""
BY_DIGEST = {
    "image": Image.model_validate("registry.example/anabranch@sha256:" + 64 * "0"),
    "train_image": Image.model_validate("registry.example/anabranch-train@sha256:" + 64 * "1"),
}


@pytest.fixture(autouse=True, scope="module")
def _checkov() -> None:
    if CHECKOV.exists():
        return
    if os.environ.get("ANABRANCH_REQUIRE_CHECKOV"):
        pytest.fail(f"no {CHECKOV} (make test-policy)", pytrace=False)
    pytest.skip(f"no {CHECKOV} (make test-policy)")


def failed_checks(manifests: list[Manifest], folder: Path) -> dict[str, set[str]]:
    """Check → the resources that do not pass it."""
    (folder / "all.yaml").write_text(yaml.safe_dump_all(manifests))
    done = subprocess.run(
        [CHECKOV, "-f", "all.yaml", "--framework", "kubernetes", "--compact", "--quiet",
         "--skip-download", "-o", "json"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env={"HOME": str(folder), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    report: Any = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 200
    failed: dict[str, set[str]] = {}
    for each in report["results"]["failed_checks"]:
        failed.setdefault(f"{each['check_id']} {each['check_name']}", set()).add(each["resource"])
    return failed


def assert_exempt(failed: dict[str, set[str]], exempt: dict[str, str]) -> None:
    """What fails is just what has its reason here."""
    assert not {check: of for check, of in failed.items() if check.split()[0] not in exempt}
    unneeded = set(exempt) - {check.split()[0] for check in failed}
    assert not unneeded, "nothing fails these any more: take their exemptions out"


@pytest.mark.parametrize("name", NAMES)
def test_production_passes_every_policy_but_those_that_are_exempt(
    name: str, tmp_path: Path
) -> None:
    cluster = Cluster.model_validate(BY_DIGEST)
    failed = failed_checks(built(written(name, tmp_path, cluster), "production"), tmp_path)
    assert_exempt(failed, EXEMPT)


def test_so_does_a_registry_at_a_url_and_another_namespace(tmp_path: Path) -> None:
    cluster = Cluster.model_validate({
        **BY_DIGEST, "registry": "s3://models/fraud", "namespace": "fraud", "gateway": True,
        "gateway_host": "fraud.example.org",
    })  # fmt: skip
    manifests = built(written("card-fraud", tmp_path, cluster), "production")
    assert_exempt(failed_checks(manifests, tmp_path), WITH_A_URL)


def test_a_pod_that_may_more_is_found(tmp_path: Path) -> None:
    cluster = Cluster.model_validate(BY_DIGEST)
    manifests = built(written("card-fraud", tmp_path, cluster), "production")
    workload = of_kind(manifests, "StatefulSet")["card-fraud-weigh"]
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    container["securityContext"]["allowPrivilegeEscalation"] = True
    failed = failed_checks(manifests, tmp_path)
    (check,) = [name for name in failed if name.split()[0] not in EXEMPT]
    assert "allowPrivilegeEscalation" in check
    assert failed[check] == {"StatefulSet.kafka.card-fraud-weigh"}
