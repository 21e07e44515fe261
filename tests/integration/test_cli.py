"""The command line as people and scripts meet it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import httpx
import pytest

from agents.broker.pipeline_topics import ensure_topics
from models.registry import Registry
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    explaining,
    simulated,
    worker_process,
    written,
)
from topics.kafka.embedded import EmbeddedBroker
from topics.pipeline import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

SUMMARY_KEYS = [
    "pipeline", "events", "decisions", "dead_letters", "unaccounted", "duplicates",
    "degraded", "throughput_eps", "latency_ms", "auc", "average_precision",
]  # fmt: skip


def anabranch(
    trained: Trained | None, *words: str, broker: str = "", stdin: str = "",
    timeout: float = PATIENCE_S,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run the command line; it never shows a traceback."""
    home = trained.home if trained else Path("/nonexistent/anabranch")
    return anabranch_in(home, *words, broker=broker, stdin=stdin, timeout=timeout)


def anabranch_in(
    home: Path, *words: str, broker: str = "", stdin: str = "", timeout: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """Run the command line with *home* for its registry; it never shows a traceback."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANABRANCH_")}
    environment["ANABRANCH_HOME"] = str(home)
    environment["COLUMNS"] = "200"
    if broker:
        environment |= {"ANABRANCH_BROKER": broker, "ANABRANCH_EMBEDDED": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "agents", *words],
        capture_output=True, text=True, input=stdin, env=environment, timeout=timeout, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def busy_broker(trained: Trained) -> Iterator[str]:
    """A broker with the whole pipeline running on it, in another process."""
    with EmbeddedBroker() as embedded:
        settings = BrokerSettings(broker=embedded.address, embedded=True)
        with worker_process(trained, settings):
            yield embedded.address


def test_the_demo_accounts_for_every_event_in_one_json_object(trained: Trained) -> None:
    done = anabranch(trained, "demo", str(trained.file.path), "--events", "3000", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert list(summary) == SUMMARY_KEYS
    assert summary["events"] == 3000
    assert summary["decisions"] + summary["dead_letters"] == 3000
    assert summary["unaccounted"] == summary["duplicates"] == summary["degraded"] == 0
    assert summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    assert 0.5 < summary["auc"] <= 1


def test_the_demo_of_a_pipeline_that_explains_says_nothing_of_an_explainer_that_ends(
    trained: Trained, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained.home, home)
    file = load_pipeline(home / trained.file.path.name)
    own = explaining(
        Trained(home, file, Registry(home / "registry")), when=["decline"], share_of_others=1
    )
    done = anabranch(own, "demo", str(own.file.path), "--events", "3000", "--rate", "300", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unaccounted"] == 0
    assert "error" not in done.stderr
    assert "explainer has ended" not in done.stderr


def test_a_demo_without_a_simulator_says_what_to_run_instead(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    text = Path("deploy/pipelines/card-fraud.yaml").read_text()
    mine.write_text(text.replace("pipeline: card-fraud", "pipeline: mine", 1))
    done = anabranch(None, "demo", str(mine))
    assert done.returncode == 1
    assert "mine has no simulator" in done.stderr
    assert "anabranch publish" in done.stderr


@pytest.mark.parametrize("pace", [("--rate", "200"), ("--speed", "1")])
def test_ctrl_c_ends_a_demo_within_seconds_and_sums_up(
    trained: Trained, pace: tuple[str, str]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agents", "demo", str(trained.file.path), "--headless",
         *pace, "--events", "100000"],
        env={**os.environ, "ANABRANCH_HOME": str(trained.home)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = next(line for line in process.stderr if "own their partitions" in line)
    process.send_signal(signal.SIGINT)
    # The stream itself would go on for more than eight minutes.
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said + err
    assert "Traceback" not in err
    published = re.search(r"events +([\d,]+)", out)
    assert published is not None, out
    assert int(published[1].replace(",", "")) < 100_000


def test_a_demo_can_be_asked_over_http_while_it_runs(trained: Trained) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "agents", "demo", str(trained.file.path), "--headless",
         "--rate", "50", "--events", "100000"],
        env={**os.environ, "ANABRANCH_HOME": str(trained.home)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = [line.split("curl ")[1] for line in islice(process.stderr, 5) if "curl " in line]
    asking, streaming = (shlex.split(line) for line in said)
    url = asking[-1].removesuffix("/predict")
    headers = {"content-type": "application/json"}
    answer = httpx.post(
        asking[-1], content=asking[asking.index("-d") + 1], headers=headers, timeout=PATIENCE_S
    )
    assert answer.json()["event_id"] == "tx-000000000", answer.text
    with httpx.stream("GET", streaming[-1], timeout=PATIENCE_S) as stream:
        assert "event: decision" in islice(stream.iter_lines(), 10)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "Traceback" in err) == (0, False), err
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz")
    counts = re.search(r"decisions +([\d,]+) \(([^)]+)\)", out)
    assert counts is not None, out
    whole = int(counts[1].replace(",", ""))
    assert whole == sum(int(part.split()[0].replace(",", "")) for part in counts[2].split(", "))


def test_a_demo_says_that_the_gateway_is_not_installed_and_goes_on(trained: Trained) -> None:
    code = (
        "import agents.demo.demo_gateway as demo_gateway\n"
        "from agents.cli import main\n"
        "demo_gateway._NEEDED = ('no_such_package',)\n"
        "main()\n"
    )
    words = ("demo", str(trained.file.path), "--headless", "--events", "200")
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "ANABRANCH_HOME": str(trained.home)},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pip install 'anabranch[gateway]'" in done.stderr
    without = anabranch(trained, *words, "--no-gateway")
    assert (without.returncode, "gateway" in without.stderr) == (0, False)


def test_sigterm_ends_a_run_that_waits_for_its_broker_at_once(trained: Trained) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "agents", "run", str(trained.file.path), "--wait", "300",
             "--metrics-port", "0", "--broker", f"127.0.0.1:{nobody.getsockname()[1]}"],
            env={**os.environ, "ANABRANCH_HOME": str(trained.home)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        next(line for line in process.stderr if "metrics and health" in line)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "stopped" in err


@pytest.mark.parametrize(
    ("command", "number"),
    [("watch", signal.SIGINT), ("audit", signal.SIGTERM), ("status", signal.SIGINT)],
)
def test_a_signal_ends_what_waits_for_its_broker_to_look_at_it(
    trained: Trained, command: str, number: signal.Signals
) -> None:
    subject = "p.events" if command == "watch" else str(trained.file.path)
    with socket.socket() as dumb:
        dumb.bind(("127.0.0.1", 0))
        dumb.listen()
        dumb.settimeout(PATIENCE_S)
        process = subprocess.Popen(
            [sys.executable, "-m", "agents", command, subject,
             "--broker", f"127.0.0.1:{dumb.getsockname()[1]}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        connection, _ = dumb.accept()
        with connection:
            process.send_signal(number)
            _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in (128 + number, -number), err
    assert "Traceback" not in err
    assert "no Kafka broker answers" not in err


async def test_ctrl_c_ends_a_publication_that_waits_for_the_next_event(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    (_, first), *_, (_, last) = simulated(trained.pipeline, 5000)
    rows = tmp_path / "gap.jsonl"
    rows.write_bytes(first + b"\n" + last + b"\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "agents", "publish", str(trained.file.path), str(rows),
         "--speed", "1", "--broker", broker.broker, "--json"],
        env={**os.environ, "ANABRANCH_HOME": str(trained.home)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    await ensure_topics(broker, Topology.of(trained.pipeline))
    await written(broker, Topology.of(trained.pipeline).events, 1)
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(process.communicate, timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert json.loads(out)["published"] == 1


def test_simulated_events_are_published_for_a_pipeline_that_runs_elsewhere(
    trained: Trained, broker: BrokerSettings
) -> None:
    words = ("simulate", str(trained.file.path), "--events", "300", "--rate", "1000", "--json")
    done = anabranch(trained, *words, broker=broker.broker)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["published"] == 300
    done = anabranch(trained, "audit", str(trained.file.path), "--json", broker=broker.broker)
    assert json.loads(done.stdout)["total"]["inputs"] == 300


def test_what_is_trained_is_not_trained_again_when_it_need_not_be(trained: Trained) -> None:
    models = sorted((trained.home / "registry").rglob("*"))
    done = anabranch(trained, "train", str(trained.file.path), "--if-needed", "--json")
    assert done.returncode == 0
    assert done.stdout == "null\n"
    assert "nothing to do" in done.stderr
    assert sorted((trained.home / "registry").rglob("*")) == models


def test_a_published_file_is_decided_watched_and_audited(
    trained: Trained, busy_broker: str, tmp_path: Path
) -> None:
    name = str(trained.file.path)
    events = [json.loads(value) for _, value in simulated(trained.pipeline, 500)]
    rows = tmp_path / "events.csv"
    columns = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT")
    lines = [",".join(columns), *(",".join(str(v) for v in e.values()) for e in events)]
    rows.write_text("\n".join(lines) + "\n")
    done = anabranch(
        trained, "publish", name, str(rows), "--json", "--speed", "36000", broker=busy_broker
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["published"] == 500

    bad = "\n".join([json.dumps(events[0]), json.dumps({**events[1], "amount": "much"})])
    done = anabranch(trained, "publish", name, "-", "--rate", "50", broker=busy_broker, stdin=bad)
    assert done.returncode == 0, done.stderr

    deadline = time.monotonic() + PATIENCE_S
    while True:
        done = anabranch(trained, "audit", name, "--json", broker=busy_broker)
        assert done.returncode == 0, done.stdout
        total = json.loads(done.stdout)["total"]
        if total["inputs"] == 502 and total["in_flight"] == 0:
            break
        assert time.monotonic() < deadline, total
        time.sleep(0.5)
    assert (total["decided"], total["dead"], total["lost"], total["duplicated"]) == (501, 1, 0, 0)

    done = anabranch(
        trained, "watch", "card-fraud.decisions", "--from-start", "-n", "3", "--json",
        broker=busy_broker,
    )  # fmt: skip
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(shown) == 3
    assert {"score", "contributions"} <= set(shown[0]["value"])
    done = anabranch(
        trained, "watch", "card-fraud.features", "--from-start", "-n", "1", broker=busy_broker
    )
    assert '"component":"features"' in done.stdout
    done = anabranch(
        trained, "watch", "card-fraud.dead-letters", "--from-start", "-n", "1", broker=busy_broker
    )
    assert "InvalidEvent" in done.stdout
    done = anabranch(trained, "topics", name, "--json", broker=busy_broker)
    assert set(json.loads(done.stdout).values()) == {4}


def test_a_broker_that_does_not_answer_is_one_clear_message(trained: Trained) -> None:
    done = anabranch(
        trained, "run", str(trained.file.path), "--broker", "127.0.0.1:1", "--wait", "2"
    )
    assert done.returncode == 1
    assert "no Kafka broker answers at 127.0.0.1:1 after 2 s" in done.stderr
    assert "--broker" in done.stderr


@pytest.mark.parametrize("words", [("--rate", "inf"), ("--speed", "inf")])
def test_a_pace_that_is_no_number_is_refused(words: tuple[str, str]) -> None:
    done = anabranch(None, "demo", *words)
    assert done.returncode == 2
    assert "is no finite number" in done.stderr


def test_without_any_broker_a_command_says_how_to_get_one(trained: Trained) -> None:
    done = anabranch(trained, "audit", str(trained.file.path))
    assert done.returncode == 1
    assert "anabranch run" in done.stderr


def test_a_training_writes_into_registry_and_reports_and_nowhere_else(tmp_path: Path) -> None:
    """In a container these two are all that it may write, see docker-compose.yml."""
    done = anabranch_in(tmp_path, "train", "card-fraud", "--rows", "20000")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"registry", "reports"}
    assert (tmp_path / "reports" / "runs.jsonl").is_file()


def test_an_untrained_pipeline_says_what_to_run(tmp_path: Path) -> None:
    done = anabranch(None, "run", "card-fraud", "--broker", "127.0.0.1:1")
    assert done.returncode == 1
    assert "anabranch train card-fraud" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "no-such-pipeline"], "known pipelines: card-fraud"),
        (["check", "missing.yaml"], "no pipeline file 'missing.yaml'"),
        (["train", "card-fraud", "--data", "missing.csv"], "missing.csv"),
        (["run", "card-fraud", "--component", "nobody"], "it has features, terminals"),
        (["publish", "card-fraud", "x.csv", "--broker", "127.0.0.1:1"], "x.csv"),
    ],
)
def test_a_wrong_name_is_one_clear_message(words: list[str], message: str) -> None:
    done = anabranch(None, *words)
    assert done.returncode == 1
    assert message in done.stderr


@pytest.mark.parametrize(
    "words", [["demo", "--no-such-flag"], ["demo", "--events", "0"], ["nonsense"], ["check"]]
)
def test_wrong_usage_is_exit_code_2(words: list[str]) -> None:
    assert anabranch(None, *words).returncode == 2


@pytest.mark.parametrize("words", [["demo"], ["publish", "card-fraud", "x.csv"]])
def test_rate_and_speed_exclude_each_other(words: list[str]) -> None:
    done = anabranch(None, *words, "--rate", "10", "--speed", "60")
    assert done.returncode == 2
    assert "--rate and --speed exclude each other" in done.stderr


def test_check_names_file_line_and_field_of_every_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = Path("tests/unit/stateless.yaml").read_text()
    text = text.replace("from: [features]", "from: [feature]", 1)
    text = text.replace("kind: decide", "import: agents.nowhere:Nothing").replace(
        "    model:\n      estimator: sklearn.linear_model.LogisticRegression\n"
        "      parameters: {max_iter: 1000}\n\nweighting",
        "\nweighting",
    )
    wrong.write_text(text)
    done = anabranch(None, "check", str(wrong))
    assert done.returncode == 1
    line = next(n for n, t in enumerate(text.splitlines(), 1) if "[feature]" in t)
    assert f"{wrong}:{line}: components[1].from[0]: unknown component 'feature'" in done.stderr

    wrong.write_text(text.replace("from: [feature]", "from: [features]"))
    done = anabranch(None, "check", str(wrong))
    assert done.returncode == 1
    line = next(n for n, t in enumerate(text.splitlines(), 1) if "nowhere" in t)
    assert f"{wrong}:{line}: components[3].import" in done.stderr
    assert "No module named 'agents.nowhere'" in done.stderr


def test_a_model_that_the_changed_file_does_not_fit_is_named(trained: Trained) -> None:
    changed = trained.home / "changed.yaml"
    text = trained.file.path.read_text()
    changed.write_text(text.replace("is_night", "at_night"))
    done = anabranch(trained, "run", str(changed), "--broker", "127.0.0.1:1")
    assert done.returncode == 1
    assert "features@1 of pipeline card-fraud was trained on amount" in done.stderr
    assert "anabranch train card-fraud" in done.stderr


def test_help_teaches_with_examples() -> None:
    commands = (
        "demo", "init", "train", "check", "run", "publish", "simulate", "watch", "topics", "audit",
        "evaluate",
    )  # fmt: skip
    for command in commands:
        done = anabranch(None, command, "--help")
        assert done.returncode == 0
        examples = done.stdout.partition("\n  Examples:\n")[2].partition("\n\n")[0].splitlines()
        assert examples, command
        assert all(re.match(r"    \S", line) for line in examples), "one is wrapped"


def test_the_published_json_schema_is_that_of_the_code() -> None:
    done = anabranch(None, "check", "--schema")
    published = Path("deploy/pipelines/pipeline.schema.json").read_text()
    assert json.loads(done.stdout) == json.loads(published), "run make generated"


@contextmanager
def _probe() -> Iterator[str]:
    yield (
        "import sys\n"
        "from pathlib import Path\n"
        "from agents.service.open_pipeline import open_pipeline\n"
        "from models.registry.registry import Registry\n"
        "from topics.pipeline.file import load_pipeline\n"
        "import agents.process.runner, agents.broker.reach, agents.commands.run\n"
        "file = load_pipeline(Path(sys.argv[1]))\n"
        "open_pipeline(file, Registry(Path(sys.argv[2])))\n"
        "heavy = {'sklearn', 'scipy', 'skl2onnx', 'onnx', 'pyarrow', 'pandas', 'confluent_kafka'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )


def test_a_worker_imports_nothing_that_only_training_needs(trained: Trained) -> None:
    with _probe() as code:
        done = subprocess.run(
            [sys.executable, "-c", code, str(trained.file.path), str(trained.home / "registry")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert done.stdout.strip() == "[]"


NOBODY = "127.0.0.1:1"


def test_outcomes_are_not_redriven_without_a_broker_and_that_is_one_sentence() -> None:
    done = anabranch(None, "dead-letters", "redrive-outcomes", "card-fraud", "--broker", NOBODY)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: no Kafka broker answers at {NOBODY} after 30 s")
    assert done.stderr.count("\n") == 1, "no traceback"
