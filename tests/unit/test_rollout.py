"""Rollouts without a broker: what is copied where, and whose decision counts, whatever happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.rollout.comparison import Comparison
from agents.rollout.copier import Route, routes
from agents.rollout.errors import NotInService, SamePipeline
from agents.rollout.switch import Switch
from tests.page_consumer import loaded
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.topology import Topology
from topics.records.control import ControlState
from topics.records.decision import ORIGIN_HEADER, Decision, Source
from topics.records.rollout import Rollout, Turn
from topics.settings import BrokerSettings

BEFORE = load_pipeline(find_pipeline("card-fraud")).pipeline
AFTER = BEFORE.model_copy(update={"pipeline": "card-fraud-v2", "partitions": 6})
THERE, OUTCOMES_THERE, BACK, OUTCOMES_BACK = routes(
    Topology.of(BEFORE), Topology.of(AFTER), outcomes=True
)


def record(topic: str, offset: int = 7, key: bytes | None = b"c-1", *headers: Any) -> Any:
    return SimpleNamespace(
        topic=topic, partition=1, offset=offset, key=key, value=b"{}", timestamp=1000,
        headers=headers,
    )  # fmt: skip


def copied(route: Route, of: Any) -> Any:
    """The copy as a record of the target topic; None where there is none."""
    copy = route.copy(of)
    if copy is None:
        return None
    headers = copy.headers
    return record(route.target, 0, copy.key, *headers)


def test_a_copy_is_the_record_and_says_where_the_producer_wrote_it() -> None:
    trace = ("traceparent", b"00-1")
    copy = THERE.copy(record("card-fraud.events", 7, b"c-1", trace))
    assert copy is not None
    assert (copy.key, copy.value, copy.timestamp_ms) == (b"c-1", b"{}", 1000)
    assert copy.headers == [trace, (ORIGIN_HEADER, b"card-fraud.events/1/7")]


def test_nothing_goes_in_circles() -> None:
    for there, back in ((THERE, BACK), (OUTCOMES_THERE, OUTCOMES_BACK)):
        assert (there.source, there.target) == (back.target, back.source)
        assert back.copy(copied(there, record(there.source))) is None
        assert there.copy(copied(back, record(back.source))) is None


def test_a_copy_of_an_earlier_rollout_goes_on_as_what_it_is_and_not_back() -> None:
    earlier = record("card-fraud.events", 9, b"c-1", (ORIGIN_HEADER, b"card-fraud-v0.events/2/5"))
    copy = copied(THERE, earlier)
    assert dict(copy.headers)[ORIGIN_HEADER] == b"card-fraud-v0.events/2/5"
    assert BACK.copy(copy) is None


def test_a_copy_is_on_the_partition_of_its_key_where_there_are_more_or_fewer() -> None:
    keys = [b"c-%d" % number for number in range(200)]
    assert {THERE.partition(record("card-fraud.events", 0, key)) for key in keys} == {*range(6)}
    assert {BACK.partition(record("card-fraud-v2.events", 0, key)) for key in keys} == {*range(4)}
    of_one = {THERE.partition(record("card-fraud.events", at, b"c-1")) for at in range(9)}
    assert len(of_one) == 1
    assert THERE.partition(record("card-fraud.events", 0, None)) == 1


def test_where_there_are_as_many_partitions_a_copy_keeps_its_own() -> None:
    same = BEFORE.model_copy(update={"pipeline": "other"})
    route, *_ = routes(Topology.of(BEFORE), Topology.of(same), outcomes=False)
    assert route.partition(record("card-fraud.events", 0, b"c-5")) == 1


# -- whose decision counts

offsets = st.lists(st.integers(0, 20), min_size=2, max_size=2)
turns = st.lists(
    st.builds(
        Turn, in_service=st.sampled_from("ab"), at=st.just(""),
        since=st.fixed_dictionaries({"a.events": offsets, "b.events": offsets}),
    ),
    max_size=4,
)  # fmt: skip
events = st.builds(
    Source, topic=st.sampled_from(["a.events", "b.events", "z.events"]),
    partition=st.integers(0, 1), offset=st.integers(0, 25),
)  # fmt: skip


@given(turns, events)
def test_the_page_counts_by_the_same_rule(of: list[Turn], event: Source) -> None:
    rollout = Rollout(pipelines=["a", "b"], turns=of)
    page = loaded()["Rollout"]("a", None)
    page.pipelines, page.turns = rollout.pipelines, rollout.model_dump()["turns"]
    assert page.decides(event.model_dump()) == rollout.decides(event)


@dataclass
class World:
    """Two pipelines that each decide every event, sooner or later, and a consumer that counts."""

    published: list[Source] = field(default_factory=list)
    undecided: dict[str, list[Source]] = field(default_factory=lambda: {"a": [], "b": []})
    decisions: list[tuple[str, Source]] = field(default_factory=list)
    fetched: int = 0
    control: Rollout = field(default_factory=lambda: Rollout(pipelines=["a", "b"]))
    counted: Counter[Source] = field(default_factory=Counter)
    turning: Turn | None = None
    """Its offsets are read, and it is not written yet."""

    def publish(self, topic: str) -> None:
        at = sum(event.topic == topic for event in self.published)
        event = Source(topic=topic, partition=0, offset=at)
        self.published.append(event)
        for of in self.undecided.values():
            of.append(event)

    def decide(self, pipeline: str, which: int) -> None:
        """In any order: copies come when they come. Nobody decides while it turns."""
        waiting = self.undecided[pipeline]
        if waiting and not self.turning:
            self.decisions.append((pipeline, waiting.pop(which % len(waiting))))

    def begin_turn(self) -> None:
        if self.turning is None:
            target = "b" if self.control.in_service == "a" else "a"
            ends = Counter(event.topic for event in self.published)
            since = {topic: [ends[topic]] for topic in ("a.events", "b.events")}
            self.turning = Turn(in_service=target, since=since, at="")

    def end_turn(self) -> None:
        if self.turning is not None:
            said = [*self.control.turns, self.turning]
            self.control = self.control.model_copy(update={"turns": said})
            self.turning = None

    def consume(self, most: int) -> None:
        """A fetch; then the control topic to its end; then it counts."""
        records = self.decisions[self.fetched : self.fetched + most]
        self.fetched += len(records)
        self.counted.update(
            event for pipeline, event in records if self.control.decides(event) == pipeline
        )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(["a.events", "b.events"])),
        st.tuples(st.just("decide"), st.sampled_from("ab"), st.integers(0, 9)),
        st.tuples(st.sampled_from(["begin_turn", "end_turn"])),
        st.tuples(st.just("consume"), st.integers(1, 5)),
    ),
    max_size=80,
)  # fmt: skip


@settings(max_examples=2000)  # a hole is a rare order of six steps
@given(steps)
def test_every_event_counts_once_however_switches_copies_and_consumers_interleave(
    of: list[tuple[Any, ...]],
) -> None:
    world = World()
    for name, *arguments in of:
        getattr(world, name)(*arguments)
    world.end_turn()
    for pipeline in "ab":
        while world.undecided[pipeline]:
            world.decide(pipeline, 0)
    world.consume(len(world.decisions))
    assert world.counted == Counter(world.published)


def switch(state: ControlState) -> Switch:
    control: Any = SimpleNamespace(state=state)
    return Switch(BrokerSettings(), BEFORE, AFTER, control)


def test_a_rollout_to_another_pipeline_is_over_once_one_has_gone_back() -> None:
    there = Turn(in_service="card-fraud-v1", since={}, at="")
    back = Turn(in_service="card-fraud", since={}, at="")
    pipelines = ["card-fraud", "card-fraud-v1"]
    left = ControlState(rollout=Rollout(pipelines=pipelines, turns=[there, back]))
    assert switch(left).rollout == Rollout(pipelines=["card-fraud", "card-fraud-v2"])
    stays = ControlState(rollout=Rollout(pipelines=pipelines, turns=[there]))
    with pytest.raises(NotInService, match="card-fraud-v1 has taken the place of card-fraud"):
        _ = switch(stays).rollout


def test_a_pipeline_does_not_take_its_own_place() -> None:
    control: Any = SimpleNamespace(state=ControlState())
    with pytest.raises(SamePipeline, match="give the changed one a name of its own"):
        Switch(BrokerSettings(), BEFORE, BEFORE, control)


# -- what they have decided


def decision(word: str, score: float | None, *, degraded: bool = False) -> Decision:
    return Decision(
        event_id="e", pipeline="p", decision=word, score=score, contributions={},
        degraded=degraded, missing=[], weights=0, policy="p@1",
        source=Source(topic="p.events", partition=0, offset=0), event_time="", decided_at="",
        latency_ms=0,
    )  # fmt: skip


def test_a_comparison_says_what_changed_from_what_to_what_and_how_far_scores_are_apart() -> None:
    comparison = Comparison(not_by_both=3)
    comparison.add(decision("approve", 0.25), decision("review", 0.5))
    comparison.add(decision("approve", 0.25), decision("approve", 0.9, degraded=True))
    comparison.add(decision("approve", 0.25), decision("approve", 0.25))
    comparison.add(decision("review", None), decision("review", 0.5))
    assert comparison.summary() == {
        "compared": 4,
        "not_decided_by_both": 3,
        "changed": [{"from": "approve", "to": "review", "events": 1}],
        "degraded": {"before": 0, "after": 1},
        "score_difference": {
            "mean": 0.125, "mean_absolute": 0.125, "p99_absolute": pytest.approx(0.2475),
            "largest_absolute": 0.25,
        },
    }  # fmt: skip
    assert Comparison().summary()["score_difference"] is None
