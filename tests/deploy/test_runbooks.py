"""The runbooks: every command runs against a pipeline, and its answer shows what the page says.

One test for a state of the pipeline, not one a command: those would be dealt out to processes that
each want a pipeline.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count, dropwhile, islice
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer.main
import yaml

from agents.cli import app
from agents.manifests.alerts.runbooks import runbook_files
from agents.manifests.kubernetes.names import Cluster
from deploy.runbook_lines import Line, elsewhere, plain, written
from models.registry.registry import Registry
from models.simulators import TRAINING
from tests.deploy.broker_tools import put_commands
from tests.deploy.manifests import ROOT, resources
from tests.deploy.prometheus import DEPLOYED, need, wait_for
from tests.integration.harness import EVERYTHING, Trained, explaining, publish_raw, simulated
from tests.kafka_nodes import one_broker
from topics.kafka.batches import Record
from topics.kafka.embedded import EmbeddedBroker
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

BIN = Path(sys.executable).parent
DOWN = "risk-linear"
"""The component that is ended for the pages about one that is down."""
OF_ONE_THAT_IS_DOWN = ("ComponentGone", "DegradedDecisions", "StageDown", "RowsWait")
OF_KAFKA = ("TopicMismatch",)
_PATIENCE_S = 300.0
_AT_ONCE = 3
_RESOURCE = (
    r"\b(statefulset|scaledobject|deployment|cronjob|horizontalpodautoscaler)[/ ](PIPELINE-\w+)"
)
_STARTED = (
    "anabranch run",
    "anabranch gateway PIPELINE --metrics",
    "anabranch gateway PIPELINE --port",
)
"""What goes on until it is told to end."""


@pytest.mark.parametrize("page", runbook_files(), ids=lambda each: each.stem)
def test_the_lines_for_compose_and_kubernetes_are_those_of_the_plain_ones(page: Path) -> None:
    text = page.read_text()
    assert written(text) == text, "stale: run python -m deploy.runbook_lines"


@pytest.mark.parametrize("page", runbook_files(), ids=lambda each: each.stem)
def test_a_command_says_what_its_answer_shows(page: Path) -> None:
    silent = {line.command.split()[0] for line in lines(page) if not line.shows}
    assert silent <= {"kafka-topics.sh"}, "it says nothing when it deletes"


@pytest.mark.parametrize("page", runbook_files(), ids=lambda each: each.stem)
def test_nothing_that_looks_joins_the_consumer_groups_of_workers(page: Path) -> None:
    for line in looking(page):
        assert not re.match(r"anabranch (run|demo|evaluate)", line.command)


@pytest.mark.parametrize("page", runbook_files(), ids=lambda each: each.stem)
def test_the_line_for_compose_names_a_service_of_the_stack_and_asks_it_the_same(page: Path) -> None:
    services = {"COMPONENT", *yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]}
    for same in filter(None, (elsewhere(line.command) for line in lines(page))):
        docker, compose, action, *words = shlex.split(same.compose.partition(" | ")[0])
        assert (docker, compose) == ("docker", "compose")
        if action == "run":
            service, *asked = dropwhile(lambda word: word.startswith("-"), words)
            assert service in services
            assert is_taken(asked), same.compose
        else:
            assert action == "ps" or services & {*words}, same.compose


def is_taken(words: list[str]) -> bool:
    """Whether the command line takes them."""
    found: Any = typer.main.get_command(app)
    name, *rest = words
    while True:
        found = found.commands[name]
        if not hasattr(found, "commands"):
            found.make_context(name, rest)
            return True
        name, *rest = rest


@pytest.mark.parametrize("page", runbook_files(), ids=lambda each: each.stem)
def test_the_line_for_kubernetes_names_what_is_generated(page: Path) -> None:
    there: dict[str, set[str]] = defaultdict(set)
    for each in resources("card-fraud", Cluster(gateway=True)):
        there[each["kind"].lower()].add(each["metadata"]["name"])
    for same in filter(None, (elsewhere(line.command) for line in lines(page))):
        for kind, name in re.findall(_RESOURCE, same.kubernetes):
            named = name.replace("PIPELINE", "card-fraud").replace("COMPONENT", "risk-forest")
            assert named in there[kind], same.kubernetes


def lines(page: Path) -> list[Line]:
    return [line for block in plain(page.read_text()) for line in block]


def looking(page: Path) -> list[Line]:
    """What stands under *Look at*."""
    _, _, rest = page.read_text().partition("**Look at.**")
    return [line for block in plain(rest.partition("**Mend.**")[0]) for line in block]


def mending(page: Path) -> list[Line]:
    return [line for line in lines(page) if line not in looking(page)]


# -- a pipeline on which they run


@dataclass
class Scene:
    """A pipeline that runs in processes, seen from the folder of whoever is called."""

    home: Path
    address: str
    embedded: bool
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if "ANABRANCH_" not in name}
        return own | {
            "PATH": f"{self.home / 'bin'}:{BIN}:{os.environ['PATH']}",
            "COLUMNS": "200",
            "ANABRANCH_HOME": str(self.home),
            "ANABRANCH_BROKER": self.address,
            "ANABRANCH_EMBEDDED": str(self.embedded).lower(),
            "ANABRANCH_SESSION_TIMEOUT_S": "6",
        }

    @contextmanager
    def process(self, command: str, said: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A command that goes on until it is told to end; with all that it has started."""
        with said.open("w") as log:
            started = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.home, env=self.environment,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            yield started
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGTERM)
                try:
                    started.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(started.pid, signal.SIGKILL)
                    started.wait()

    @contextmanager
    def worker(
        self, *components: str, file: str = "card-fraud"
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that is ready; what it says is in the log that pages call WORKER.log."""
        said = self.home / f"{components[0]}.log"
        named = " ".join(f"--component {name}" for name in components)
        command = f"anabranch run {file} {named} --metrics-port 0"
        with self.process(command, said) as started:
            wait_for(f"http://127.0.0.1:{self.port(components[0])}/readyz", started)
            yield started

    @contextmanager
    def gateway(self) -> Iterator[subprocess.Popen[bytes]]:
        """A gateway that is ready, and has refused who has no key."""
        self.answer("anabranch gateway card-fraud --keys keys.txt --new-key shop")
        command = "anabranch gateway card-fraud --port 0 --keys keys.txt --metrics-port 0"
        with self.process(command, self.home / "gateway.log") as started:
            wait_for(f"http://127.0.0.1:{self.port('gateway')}/readyz", started)
            log = self.home / "gateway.log"
            patiently(lambda: "ready: POST" in log.read_text(), log.read_text)
            found = re.search(r"ready: POST (\S+)", log.read_text())
            assert found is not None
            assert "401" in self.answer(f"curl -s -X POST {found[1]}")
            yield started

    def port(self, component: str) -> int:
        log = self.home / f"{component}.log"
        patiently(lambda: "/metrics" in log.read_text(), log.read_text)
        found = re.search(r":(\d+)/metrics", log.read_text())
        assert found is not None
        return int(found[1])

    def answer(self, command: str) -> str:
        """What a command answers, its errors too."""
        with subprocess.Popen(
            ["bash", "-c", command], cwd=self.home, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as asked:  # fmt: skip
            try:
                return asked.communicate(timeout=_PATIENCE_S)[0]
            except subprocess.TimeoutExpired:
                os.killpg(asked.pid, signal.SIGKILL)
                return f"no answer within {_PATIENCE_S:.0f} s: {asked.communicate()[0]}"

    @contextmanager
    def trickle(self) -> Iterator[None]:
        """Some events again and again, whoever is behind."""
        pipeline = load_pipeline(self.home / "deploy" / "pipelines" / "card-fraud.yaml").pipeline
        topic = Topology.of(pipeline).events
        broker = BrokerSettings(broker=self.address, embedded=self.embedded)
        events, over = simulated(pipeline, 30), threading.Event()

        def publish() -> None:
            for number in count():
                if over.wait(0.5):
                    return
                now = int(time.time() * 1000)
                records = [Record(key, value, now) for key, value in events]
                asyncio.run(publish_raw(broker, topic, number % 4, records))

        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            yield
        finally:
            over.set()
            publisher.join()

    def rebalances(self) -> dict[str, str]:
        """What each worker counts of them."""
        return {
            name: "\n".join(
                line
                for line in self.answer(f"curl -s 127.0.0.1:{self.port(name)}/metrics").splitlines()
                if line.startswith("anabranch_rebalances_total")
            )
            for name in self.workers
        }


def patiently(is_so: Callable[[], bool], why: Callable[[], str]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, why()
        time.sleep(0.2)


def home_of(trained: Trained, home: Path) -> Path:
    """A folder with the pipeline file where its name is looked up, its models, and data.

    Beside it is a file that refuses most events: a mistake that is mended later.
    """
    home.mkdir()
    (home / "deploy" / "pipelines").mkdir(parents=True)
    shutil.copy(trained.file.path, home / "deploy" / "pipelines" / "card-fraud.yaml")
    shutil.copytree(trained.home / "registry", home / "registry")
    file = home / "deploy" / "pipelines" / "card-fraud.yaml"
    own = Trained(home, load_pipeline(file), Registry(home / "registry"))
    content = yaml.safe_load(explaining(own, when=["decline"]).file.path.read_text())
    content["event"]["fields"]["amount"]["maximum"] = 20
    (home / "strict.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    (home / "deploy" / "prometheus").symlink_to(DEPLOYED)
    (home / "bin").mkdir()
    rows = list(islice(TRAINING["card-fraud"](0), 60_000))
    for name, part in (
        ("FILE", rows[:45_000]), ("LATER", rows[45_000:]), ("EVENTS", rows[:2000]),
    ):  # fmt: skip
        labelled = [orjson.dumps({**each.event, "TX_FRAUD": int(each.label)}) for each in part]
        (home / f"{name}.jsonl").write_bytes(b"\n".join(labelled))
    return home


async def publish_odd(broker: BrokerSettings, trained: Trained) -> None:
    """Events that end as dead letters: without sense, of the future, with text for a number."""
    topic, now = Topology.of(trained.pipeline).events, int(time.time() * 1000)
    for partition in range(4):
        good = [orjson.loads(value) for _, value in simulated(trained.pipeline, 6)]
        odd: Sequence[bytes] = [
            b"nonsense",
            *[orjson.dumps({**each, "occurred_at": "2126-01-01T00:00:00Z"}) for each in good[:3]],
            *[orjson.dumps({**each, "amount": str(each["amount"])}) for each in good[3:]],
        ]
        await publish_raw(broker, topic, partition, [Record(b"k", value, now) for value in odd])


@pytest.fixture(scope="module")
def scene(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Card fraud in two workers, with 100 events a second, dead letters, and a promoted model."""
    need("promtool")
    home = home_of(trained, tmp_path_factory.mktemp("runbooks") / "home")
    with ExitStack() as stack:
        address = stack.enter_context(EmbeddedBroker()).address
        scene = Scene(home, address, embedded=True)
        broker = BrokerSettings(broker=address, embedded=True)
        with scene.worker(*EVERYTHING, file="strict.yaml"):
            scene.answer("anabranch simulate card-fraud --events 40 --rate 100")
            asked = "anabranch dead-letters list card-fraud --reason 'equal to 20'"
            patiently(
                lambda: re.search(r"\n\d\d dead letters", scene.answer(asked)) is not None,
                lambda: scene.answer(asked),
            )
        others = [name for name in EVERYTHING if name != DOWN]
        for names in (others, [DOWN]):
            scene.workers[names[0]] = stack.enter_context(scene.worker(*names))
        stack.enter_context(scene.worker("explainer"))
        stack.enter_context(scene.gateway())
        asyncio.run(publish_odd(broker, trained))
        simulate = "anabranch simulate card-fraud --rate 150"
        stack.enter_context(scene.process(simulate, home / "simulate.log"))
        train = "anabranch train card-fraud --component risk-forest --data FILE.jsonl"
        for command in (train, "anabranch models promote card-fraud/risk-forest@1",
                        "anabranch models promote card-fraud/risk-forest@2"):  # fmt: skip
            assert "rror" not in (told := scene.answer(command)), told
        yield scene


def filled(text: str, scene: Scene, component: str, *, publishing: bool = False) -> str:
    """A line of a page with the names of the pipeline that runs here."""
    if "GATEWAY:9464" in text:
        text = text.replace("GATEWAY:9464", f"127.0.0.1:{scene.port('gateway')}")
    text = text.replace("gateway PIPELINE --metrics", "gateway PIPELINE --port 0 --metrics")
    file = "EVENTS.jsonl" if publishing else "FILE.jsonl"
    worker = next(iter(scene.workers))
    for name, value in (
        ("PIPELINE", "card-fraud"), ("COMPONENT", component), ("HOST:PORT", scene.address),
        ("WORKER:9464", f"127.0.0.1:{scene.port(worker)}"), ("WORKER.log", f"{worker}.log"),
        ("--port 8081", "--port 0"), ("GATEWAY.log", "gateway.log"),
        ("--metrics-port 9464", "--metrics-port 0"), ("--metrics-port 9474", "--metrics-port 0"),
    ):  # fmt: skip
        text = text.replace(name, value)
    return re.sub(r"\bLATER\b", "LATER.jsonl", re.sub(r"\bFILE\b", file, text))


def problem(line: Line, scene: Scene, component: str) -> str | None:
    """What is wrong with a command's answer: what its page says is not in it, or not in order."""
    publishing = line.command.startswith("anabranch publish")
    command = filled(line.command, scene, component, publishing=publishing)
    shows = [filled(words, scene, component) for words in line.shows]
    ask = ran if line.command.startswith(_STARTED) else Scene.answer
    told = ask(scene, command)
    at = 0
    for words in shows:
        at = told.find(words, at)
        if at < 0:
            return f"{command}\n  does not show {words!r}:\n{told[-1500:]}"
    return f"{command}\n{told[-3000:]}" if "Traceback" in told else None


def ran(scene: Scene, command: str) -> str:
    """What a worker or a gateway says until it runs, and is ended."""
    said = Path(tempfile.mkstemp(dir=scene.home, suffix=".log")[1])
    with scene.process(command, said) as started:
        patiently(
            lambda: (
                re.search(r"running on|ready: POST", said.read_text()) is not None
                or started.poll() is not None
            ),
            said.read_text,
        )
    return said.read_text()


def problems(asked: Sequence[Line], scene: Scene, component: str) -> str:
    """Each line once, in order; those that two pages have show the same."""
    distinct = {str(line): line for line in asked}.values()
    wrong = [problem(line, scene, component) for line in distinct]
    return "\n\n".join(each for each in wrong if each)


def problems_of_looking(asked: Sequence[Line], scene: Scene, component: str) -> str:
    """The same of lines that change nothing, some at a time: most of each is waiting."""
    distinct = {str(line): line for line in asked}.values()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        wrong = list(pool.map(lambda line: problem(line, scene, component), distinct))
    return "\n\n".join(each for each in wrong if each)


def of(*names: str) -> list[Path]:
    return [page for page in runbook_files() if page.stem.removeprefix("Anabranch") in names]


def others() -> list[Path]:
    return [page for page in runbook_files() if page not in of(*OF_ONE_THAT_IS_DOWN, *OF_KAFKA)]


@pytest.mark.integration
@pytest.mark.timeout(2400)  # a quarter of an hour on a machine that others load
def test_every_command_runs_and_shows_what_its_page_says(scene: Scene) -> None:
    before = scene.rebalances()
    looked = [line for page in others() for line in looking(page)]
    assert not (wrong := problems_of_looking(looked, scene, "risk-forest")), wrong
    assert scene.rebalances() == before, "who looks joins no group of the workers"
    mended = [line for page in others() for line in mending(page)]
    assert not (wrong := problems(mended, scene, "risk-forest")), wrong
    _while_one_is_down(scene)


def _while_one_is_down(scene: Scene) -> None:
    """The same of the pages about that, in the same pipeline.

    Events come from here: what publishes to an embedded broker waits for every component.
    """
    os.killpg(scene.workers[DOWN].pid, signal.SIGKILL)
    scene.workers[DOWN].wait()
    del scene.workers[DOWN]

    def is_down() -> bool:
        status = json.loads(scene.answer("anabranch status card-fraud --json 2>/dev/null"))
        weigh = status["workers"]["weigh"]["partitions"]
        return all(any(wait["down"] for wait in each["waiting_for"]) for each in weigh)

    patiently(is_down, lambda: scene.answer("anabranch status card-fraud"))
    with scene.trickle():
        _asked_while_one_is_down(scene)


def _asked_while_one_is_down(scene: Scene) -> None:
    looked = [line for page in of(*OF_ONE_THAT_IS_DOWN) for line in looking(page)]
    assert not (wrong := problems_of_looking(looked, scene, DOWN)), wrong
    mended = [line for page in of(*OF_ONE_THAT_IS_DOWN) for line in mending(page)]
    assert not (wrong := problems(mended, scene, DOWN)), wrong


@pytest.mark.kafka
@pytest.mark.timeout(900)
def test_the_commands_of_the_page_about_topics_made_anew(trained: Trained, tmp_path: Path) -> None:
    """On Apache Kafka: its own commands are among them, and other brokers make no topic anew."""
    home = home_of(trained, tmp_path / "home")
    put_commands(home / "bin")
    (tmp_path / "kafka").mkdir()
    (page,) = of(*OF_KAFKA)
    with ExitStack() as stack:
        address = stack.enter_context(one_broker(tmp_path / "kafka")).broker
        scene = Scene(home, address, embedded=False)
        make = "anabranch topics card-fraud --create"
        assert "card-fraud.events" in scene.answer(make)
        worker = stack.enter_context(scene.worker(*EVERYTHING))
        scene.workers[EVERYTHING[0]] = worker
        scene.answer("anabranch simulate card-fraud --events 200")
        remove = f"kafka-topics.sh --bootstrap-server {address} --delete --topic card-fraud.events"
        scene.answer(remove)
        scene.answer(make)
        health = f"curl -s http://127.0.0.1:{scene.port(EVERYTHING[0])}/healthz"
        patiently(lambda: '"live":false' in scene.answer(health), lambda: scene.answer(health))
        assert not (wrong := problems(looking(page), scene, "risk-forest")), wrong
        worker.wait(60)
        time.sleep(10)  # members that did not say goodbye: the session of these workers is 6 s
        assert not (wrong := problems(mending(page), scene, "risk-forest")), wrong
