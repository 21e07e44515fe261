"""`anabranch models` as people and scripts meet it, and an imported network in service."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import orjson
import pytest

from models.onnx.session import ModelSession
from models.registry.registry import Registry
from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    publish,
    settled,
    simulated,
)
from tests.integration.test_cli import anabranch
from tests.integration.velocity import EVENT
from tests.unit.onnx_networks import network, over_the_batch
from tests.unit.registry_cards import CARD, WEIGHTS
from topics.pipeline.file import load_pipeline
from topics.settings import BrokerSettings

PIPELINE = """
pipeline: imported
{event}components:
  - name: features
    kind: extract_features
    from: [events]
    features:
      - {{name: amount, of: amount}}
      - {{name: amount_log, of: amount, apply: log1p}}
  - name: risk
    kind: assess_risk
    from: [features]
    model: {{estimator: sklearn.linear_model.LogisticRegression{version}}}
weighting: {{from: [risk], weights: {{risk: 1.0}}}}
policy: {{thresholds: {{decline: 0.6}}}}
"""


def pipeline_in(folder: Path, version: str = "") -> Trained:
    path = folder / "imported.yaml"
    path.write_text(PIPELINE.format(event=EVENT, version=version))
    return Trained(folder, load_pipeline(path), Registry(folder / "registry"))


@pytest.fixture
def ours(tmp_path: Path) -> Trained:
    return pipeline_in(tmp_path)


def written(folder: Path, content: bytes) -> str:
    (folder / "net.onnx").write_bytes(content)
    return str(folder / "net.onnx")


def models(trained: Trained, *words: str) -> subprocess.CompletedProcess[str]:
    return anabranch(trained, "models", *words)


def imported(trained: Trained, content: bytes, *words: str) -> subprocess.CompletedProcess[str]:
    path = written(trained.home, content)
    return models(trained, "import", f"{trained.file.path}/risk", path, *words)


async def test_an_imported_network_decides_to_the_bit(
    ours: Trained, broker: BrokerSettings
) -> None:
    rows = ours.home / "rows.csv"
    rows.write_text(
        "amount,amount_log\n" + "".join(f"{each},{np.log1p(each)}\n" for each in range(80))
    )
    done = imported(ours, network(2), "--rows", str(rows), "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["model"], content["estimator"], content["probe_rows"]) == ("risk@1", "onnx", 64)
    events = simulated(ours.pipeline, 1500)
    async with pipeline_running(ours, broker):
        await publish(broker, ours.pipeline, events, 5000)
        audit = await settled(broker, ours.pipeline, len(events))
    assert audit.passed
    amounts = {(e := orjson.loads(v))["transaction_id"]: e["amount"] for _, v in events}
    decisions = {each["event_id"]: each for each in await decisions_of(broker, ours.pipeline)}
    assert decisions.keys() == amounts.keys()
    amount = np.array(list(amounts.values()))
    x = np.stack([amount, np.log1p(amount)], axis=1).astype(np.float32)
    expected = ModelSession.of(network(2), "net.onnx").signal(x)
    assert len(np.unique(expected)) > 1000
    for event, signal in zip(amounts, expected.tolist(), strict=True):
        decision = decisions[event]
        part = decision["contributions"]["risk"]  # type: ignore[index]
        assert (part["model"], part["digest"]) == ("risk@1", content["digest"])
        assert decision["score"] == signal
        assert decision["decision"] == ("decline" if signal >= 0.6 else "approve")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (network(3), "reads 3 columns, component risk gives it 2: amount, amount_log"),
        (b"\x00\x01\x02\x03", "does not load as an ONNX model"),
        (over_the_batch(2), "get other bits in a smaller batch"),
    ],
    ids=["wrong width", "no ONNX file", "batch-dependent"],
)
def test_a_network_that_does_not_fit_is_refused_in_one_line(
    ours: Trained, content: bytes, said: str
) -> None:
    done = imported(ours, content)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert not ours.registry.has("imported", "risk")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "{file}/risk", "none.onnx"), "none.onnx cannot be read: No such file"),
        (("import", "{file}/risk@3", "none.onnx"), "the new version gets the next number"),
        (("import", "risk", "none.onnx"), "'risk' names no model"),
        (("show", "{file}/risk@7"), "no model of risk@7 for pipeline imported"),
        (("diff", "{file}/@weights", "@2"), "weights are no model"),
        (("list", "nobody"), "nothing is registered for nobody"),
        (("verify", "nobody"), "nothing is registered for nobody"),
        (("gc", "nobody"), "no pipeline file 'nobody'"),
        (("gc", "{file}", "--protect", "risk"), "'risk' names no model: write COMPONENT@VERSION"),
    ],
)
def test_what_cannot_be_found_is_said(ours: Trained, words: tuple[str, ...], said: str) -> None:
    done = models(ours, *(word.format(file=ours.file.path) for word in words))
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def versions(ours: Trained) -> Trained:
    """Three versions of `risk`, the first one without a probe, and weights."""
    card = CARD.model_copy(update={"inputs": ["amount", "amount_log"]})
    ours.registry.add("imported", "risk", network(2), card)
    ours.registry.add_weights("imported", WEIGHTS)
    for note in ("second", "third"):
        assert imported(ours, network(2), "--note", note).returncode == 0
    return ours


def test_list_shows_every_version(versions: Trained) -> None:
    done = models(versions, "list", "imported", "--json")
    content = json.loads(done.stdout)
    assert [(each["component"], each["version"]) for each in content["models"]] == [
        ("risk", 1), ("risk", 2), ("risk", 3),
    ]  # fmt: skip
    assert [each["note"] for each in content["models"]] == ["", "second", "third"]
    assert [each["values"] for each in content["weights"]] == [WEIGHTS.values]
    table = models(versions, "list", str(versions.file.path)).stdout.splitlines()
    assert table[0].split() == [
        "component", "version", "variant", "created", "rows", "AUC", "AP", "from",
    ]  # fmt: skip
    assert [line.split()[:2] for line in table[1:]] == [
        ["risk", "1"], ["risk", "2"], ["risk", "3"], ["(weights)", "1"],
    ]  # fmt: skip
    assert "0.900" in table[1]


def test_show_and_diff_say_what_is_known(versions: Trained) -> None:
    shown = json.loads(models(versions, "show", "imported/risk", "--json").stdout)
    assert (shown["model"], shown["probe_rows"], shown["note"]) == ("risk@3", 64, "third")
    assert shown["bytes"] == len(network(2))
    assert "pytorch 2.7.0" in models(versions, "show", "imported/risk@2").stdout
    weights = json.loads(models(versions, "show", "imported/@weights", "--json").stdout)
    assert weights["values"] == WEIGHTS.values
    content = json.loads(models(versions, "diff", "imported/risk@1", "@3", "--json").stdout)
    assert content["facts"]["note"] == {"before": "", "after": "third"}
    assert content["facts"]["metrics.roc_auc"] == {"before": 0.9, "after": None}
    assert content["signals"] == {"rows": 64, "most": 0.0, "mean": 0.0, "same_bits": 64}
    said = models(versions, "diff", "imported/risk@1", "imported/risk@3").stdout
    assert "64 have the same bits, largest |Δ| 0" in said


def test_verify_names_each_wrong_version_and_fails(versions: Trained) -> None:
    done = models(versions, "verify", "imported", "--run")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "4 versions checked, 0 wrong\n"
    card = versions.home / "registry" / "imported" / "risk" / "2" / "card.json"
    card.write_bytes(card.read_bytes().replace(b"second", b"Second"))
    (versions.home / "registry/imported/@weights/1/weights.json").write_bytes(b"{")
    done = models(versions, "verify", "imported")
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["risk@2", "@weights@1"]
    content = json.loads(models(versions, "verify", "imported/risk", "--json").stdout)
    assert content["versions"] == 3
    assert [each["model"] for each in content["wrong"]] == ["risk@2"]
    assert "unreadable" in models(versions, "list", "imported").stdout


def test_gc_says_what_would_go_and_does_it_when_told(versions: Trained) -> None:
    file = str(pipeline_in(versions.home, ", version: 1").file.path)
    said = models(versions, "gc", file, "--keep", "1")
    assert said.stdout.splitlines()[0] == "risk@2"
    assert "--yes does it" in said.stdout
    assert versions.registry.versions("imported", "risk") == [1, 2, 3]
    kept = models(versions, "gc", file, "--keep", "1", "--protect", "risk@2", "--yes", "--json")
    assert json.loads(kept.stdout) == {"removed": True, "versions": [], "files": [], "bytes": 0}
    done = models(versions, "gc", file, "--keep", "1", "--yes", "--json")
    assert json.loads(done.stdout)["versions"] == ["risk@2"]
    assert versions.registry.versions("imported", "risk") == [1, 3]
    assert models(versions, "verify", "imported", "--run").returncode == 0
