"""A Kubernetes API server with etcd, as processes of this machine: what it takes, a cluster takes.

There is nothing behind it, no controller and no node: resources are checked, admitted and kept,
and nothing starts. `tests/deploy/kubernetes_api/build` makes it (`make test-kubernetes`).
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.deploy import strimzi_schemas
from tests.deploy.manifests import ROOT, Manifest
from tests.kafka_nodes import free_ports

ASSETS = Path(os.environ.get("KUBEBUILDER_ASSETS", ROOT / ".kubernetes"))
_TOKEN = "administrator"  # noqa: S105  # of a server that only this test knows
_PATIENCE_S = 120.0
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
"""Makes a namespace refuse pods that may more than Kubernetes' strictest level allows."""


def need_api_server() -> None:
    """Skip where there is none; fail where it is required."""
    lacking = [
        what
        for what, there in (
            (f"{ASSETS}/kube-apiserver", (ASSETS / "kube-apiserver").exists()),
            (f"{ASSETS}/etcd", (ASSETS / "etcd").exists()),
            ("kubectl", shutil.which("kubectl") is not None),
            ("Maven", shutil.which("mvn") is not None),
            (f"Java {strimzi_schemas.LEAST_JAVA}", strimzi_schemas.java() is not None),
        )
        if not there
    ]
    if not lacking:
        return
    reason = f"an API server needs {', '.join(lacking)} (make test-kubernetes)"
    if os.environ.get("ANABRANCH_REQUIRE_APISERVER"):
        pytest.fail(f"{reason}; ANABRANCH_REQUIRE_APISERVER is set", pytrace=False)
    pytest.skip(reason)


class Refused(Exception):
    """The API server does not take something."""


@dataclass(frozen=True)
class ApiServer:
    """One that runs, with the resource definitions of Strimzi, KEDA and Prometheus' operator."""

    kubeconfig: Path

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """What kubectl answers. Raises Refused."""
        done = subprocess.run(
            ["kubectl", "--kubeconfig", self.kubeconfig, *words],
            input=given, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout

    def shell(self, command: str) -> str:
        """What a line of a page prints. Raises Refused."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
        )  # fmt: skip
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout

    def apply(self, manifests: list[Manifest], *words: str) -> list[str]:
        """Have the server take *manifests*; a line for each that it has taken. Raises Refused.

        A field that the server does not know is refused, too (kubectl asks for that).
        """
        given = yaml.safe_dump_all(manifests)
        answer = self.kubectl("apply", "--server-side", *words, "-f", "-", given=given)
        return answer.splitlines()

    def namespaced(self, *names: str) -> None:
        """Make namespaces whose pods must be restricted."""
        self.apply([
            {"apiVersion": "v1", "kind": "Namespace",
             "metadata": {"name": name, "labels": RESTRICTED}}
            for name in names
        ])  # fmt: skip

    def get(self, kind: str, namespace: str) -> dict[str, Manifest]:
        """Name → what there is of *kind*."""
        answer: Any = json.loads(self.kubectl("get", kind, "-n", namespace, "-o", "json"))
        return {each["metadata"]["name"]: each for each in answer["items"]}


@contextmanager
def api_server(directory: Path) -> Iterator[ApiServer]:
    """Start it on empty storage in *directory*; it has ended when this has."""
    need_api_server()
    etcd_port, peer_port, port = free_ports(3)
    etcd = f"http://127.0.0.1:{etcd_port}"
    peer = f"http://127.0.0.1:{peer_port}"
    (directory / "tokens.csv").write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
    key = trustme.CA(key_type=trustme.KeyType.RSA).private_key_pem  # of service accounts' tokens
    key.write_to_path(directory / "service-accounts.key")
    with ExitStack() as stack:
        stack.enter_context(_process(directory, "etcd", {
            "data-dir": directory / "etcd", "listen-client-urls": etcd,
            "advertise-client-urls": etcd, "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer, "initial-cluster": f"default={peer}",
        }))  # fmt: skip
        server = stack.enter_context(_process(directory, "kube-apiserver", {
            "etcd-servers": etcd, "bind-address": "127.0.0.1", "secure-port": port,
            "cert-dir": directory / "certificates", "token-auth-file": directory / "tokens.csv",
            "authorization-mode": "RBAC", "service-cluster-ip-range": "10.96.0.0/16",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": directory / "service-accounts.key",
            "service-account-signing-key-file": directory / "service-accounts.key",
        }))  # fmt: skip
        certificate = directory / "certificates" / "apiserver.crt"
        _wait_until_ready(port, certificate, server, directory / "kube-apiserver.log")
        running = ApiServer(_kubeconfig(directory / "kubeconfig", port, certificate))
        _define_resources(running)
        yield running


@contextmanager
def _process(
    directory: Path, name: str, options: dict[str, object]
) -> Iterator[subprocess.Popen[bytes]]:
    words = [f"--{option}={value}" for option, value in options.items()]
    with (directory / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [ASSETS / name, *words], stdout=log, stderr=log, cwd=directory,
            env={"HOME": str(directory), "PATH": os.environ["PATH"]},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(
    port: int, certificate: Path, server: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    request = urllib.request.Request(  # ours
        f"https://127.0.0.1:{port}/readyz", headers={"Authorization": f"Bearer {_TOKEN}"}
    )
    while time.monotonic() < deadline and server.poll() is None:
        try:
            trust = ssl.create_default_context(cafile=certificate)
            with urllib.request.urlopen(request, timeout=5, context=trust):  # noqa: S310  # ours
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    pytest.fail(f"the API server is not ready: {log.read_text()[-2000:]}")


def _kubeconfig(path: Path, port: int, certificate: Path) -> Path:
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificate)}
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


def _define_resources(server: ApiServer) -> None:
    paths = [*sorted((ASSETS / "crds").glob("*.yaml")), *strimzi_schemas.definitions().values()]
    for path in paths:
        server.kubectl("apply", "--server-side", "-f", str(path))
    server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
