from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import stored
from tests.benchmarks.card_events import ExpectedDecisions
from tests.benchmarks.check import Tally, Wrong
from tests.benchmarks.contest import Entry, said
from tests.benchmarks.crayfish import tensor_inputs, text_inputs, text_outputs
from tests.benchmarks.decision_check import DecisionCheck
from tests.benchmarks.figures import Spread, after_first_quarter, percentiles, slope
from tests.benchmarks.growth import branches, chain, written
from tests.benchmarks.image_events import pixels, text_value
from tests.benchmarks.prediction_check import TensorCheck, TextCheck
from tests.benchmarks.report import contest_table, growth_table, markdown, memory_table
from tests.benchmarks.results import Results
from tests.benchmarks.stored import moved
from tests.benchmarks.throughput import Run
from tests.benchmarks.w4 import Memory, Point
from topics.pipeline.file import load_pipeline

RUN = Run(
    events=1000, seconds=2.0, cpu_s=0.02, broker_cpu_s=0.01, rss_mb=140.0, duplicates=0
)  # fmt: skip
PREDICTION = np.linspace(0.01, 0.19, 10, dtype=np.float32)


@dataclass(frozen=True)
class Said:
    key: bytes | None
    value: bytes | None


# -- statistics


def test_a_spread_has_the_middle_and_both_ends() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0]) == Spread(2.5, 1.0, 4.0)


def test_percentiles_are_values_that_were_seen() -> None:
    found = percentiles(np.array([1.0, 2.0, 3.0, 100.0]))
    assert found["p50"] == 2.0
    assert found["p99.9"] == found["p100"] == 100.0


def test_the_slope_of_memory_leaves_out_what_starts_up() -> None:
    at = [float(second) for second in range(101)]
    rss = [50.0 if second < 25 else 100.0 + second for second in at]
    memory = Memory(1000.0, at, rss)
    assert memory.mb_per_hour == pytest.approx(3600.0)
    assert memory.grown_mb == 75.0


def test_a_level_line_has_no_slope() -> None:
    assert slope(*after_first_quarter([0, 1, 2, 3, 4], [9, 5, 5, 5, 5])) == 0


# -- stored ratios


def test_a_ratio_has_moved_when_it_differs_by_more_than_is_tolerated() -> None:
    before = {"up": 1.0, "down": 1.0, "still": 1.0, "gone": 1.0}
    now = {"up": 1.16, "down": 0.84, "still": 1.14, "new": 7.0}
    assert [found.name for found in moved(now, before)] == ["up", "down"]


def test_a_move_says_how_far() -> None:
    assert str(moved({"raw": 0.5}, {"raw": 1.0})[0]) == "raw: 1 → 0.5 (-50%)"


def test_ratios_are_read_as_they_were_stored(tmp_path: Path) -> None:
    path = tmp_path / "stored.json"
    assert stored.read(path) == {}
    stored.store({"b": 0.123456, "a": 2.0}, path)
    assert stored.read(path) == {"a": 2.0, "b": 0.1235}


# -- tables


def test_the_fastest_peer_is_first_and_others_say_why_they_have_no_figures() -> None:
    entries = [
        Entry("slow", [replace(RUN, seconds=4.0)]),
        Entry("fast", [RUN, replace(RUN, seconds=1.0), replace(RUN, duplicates=3)]),
        Entry("wrong", [], said(Wrong("event 7: score is 0.5, not 0.6"))),
    ]
    lines = contest_table("W1", entries).splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| ")][1:] == [
        "| fast", "| slow",
    ]  # fmt: skip
    assert "| fast | 500 | 500–1,000 | 20 | 10 | 140 | 3 |" in lines
    assert "- wrong: wrong: event 7: score is 0.5, not 0.6" in lines
    assert "- fast: 3 outputs more than events in a run" in lines


def test_a_point_without_runs_has_no_figures() -> None:
    lines = growth_table([Point("chain", 1, [RUN]), Point("chain", 2, [], "ended with 1: no")])
    assert lines[-1] == "| chain | 2 | – | – | – | – | ended with 1: no |"


def test_a_second_worker_is_told_by_its_throughput() -> None:
    points = [Point("workers", 1, [RUN]), Point("workers", 2, [replace(RUN, seconds=1.25)])]
    told = "Two worker processes: 1.60 times the throughput of one."
    assert growth_table(points)[-1] == told
    assert told not in growth_table(points[:1])


def test_memory_of_a_few_seconds_is_no_slope() -> None:
    assert memory_table(Memory(1000.0, [0.0, 1.0], [1.0, 2.0])) == ["too few samples"]


def test_results_without_figures_are_a_report_of_the_machine() -> None:
    text = markdown(Results({"cpu": "x", "cores": 2}, {}))
    assert text.startswith("x, 2 cores")
    assert "###" not in text


def test_results_have_rates_beside_counts_and_ratios_to_the_raw_peer(tmp_path: Path) -> None:
    entries = [Entry("anabranch", [replace(RUN, cpu_s=0.03)]), Entry("raw", [RUN])]
    results = Results({}, {}, contests={"W1": entries})
    results.write(tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["contests"]["W1"][0]["runs"][0]["cpu_us"] == pytest.approx(30.0)
    assert results.ratios() == {
        "W1: events/s, anabranch / raw": 1.0,
        "W1: CPU, anabranch / raw": pytest.approx(1.5),
    }


# -- what is right


def decision(**changes: object) -> Said:
    signals = {"features": 0.1, "risk": 0.2, "decision": 0.3}
    record = {
        "event_id": "tx-00000000",
        "decision": "review",
        "score": 0.25,
        "contributions": {stage: {"signal": value} for stage, value in signals.items()},
        "degraded": False,
        "source": {"topic": "p.events", "partition": 1, "offset": 5},
        "event_time": "2018-04-01T00:00:31.000Z",
    }
    return Said(b"tx-00000000", json.dumps(record | changes).encode())


@pytest.fixture
def decisions() -> DecisionCheck:
    expected = ExpectedDecisions(
        signals=np.array([[0.1, 0.2, 0.3]]),
        scores=np.array([0.25]),
        decisions=["review"],
        near_threshold=np.array([False]),
        times=["2018-04-01T00:00:31.000Z"],
    )
    return DecisionCheck(expected, "p.events", lambda lane, at: {(1, 5): 0}[lane, at])


def test_a_right_decision_is_of_the_event_that_it_names(decisions: DecisionCheck) -> None:
    assert decisions.look([decision()]) == [0]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"score": 0.2501}, "score is 0.2501, not 0.25"),
        ({"score": float("nan")}, "not JSON"),
        ({"decision": "approve"}, "decision is 'approve', not 'review'"),
        ({"degraded": True}, "degraded is True, not False"),
        ({"event_time": "2018-04-01T00:00:31Z"}, "event_time is"),
        ({"contributions": {}}, "no 'features' in it"),
        ({"event_id": "tx-00000001"}, "event_id is 'tx-00000001'"),
        ({"source": {"topic": "q.events", "partition": 1, "offset": 5}}, "source.topic"),
    ],
)
def test_a_wrong_decision_is_told_by_its_first_difference(
    decisions: DecisionCheck, changes: dict[str, object], difference: str
) -> None:
    with pytest.raises(Wrong, match=difference):
        decisions.look([decision(**changes)])


def test_a_decision_at_a_threshold_may_fall_either_way(decisions: DecisionCheck) -> None:
    decisions.expected.near_threshold[0] = True
    assert decisions.look([decision(decision="approve")]) == [0]


def test_an_event_without_an_output_is_told_and_surplus_ones_are_counted() -> None:
    tally = Tally({1: 1, 2: 2})
    assert tally.add([1, 1, 2]) == [True, False, True]
    assert not tally.is_complete()
    with pytest.raises(Wrong, match="the first is event 2: published 2 times, 1 outputs"):
        tally.duplicates()
    assert tally.add([2]) == [True]
    assert tally.is_complete()
    assert tally.duplicates() == 1


def test_tensors_are_compared_with_what_the_network_says() -> None:
    check = TensorCheck(lambda _: PREDICTION)
    assert check.look([Said(b"17", PREDICTION.astype("<f4").tobytes())]) == [17]
    with pytest.raises(Wrong, match="event 17: prediction 0"):
        check.look([Said(b"17", (PREDICTION + 0.001).astype("<f4").tobytes())])
    with pytest.raises(Wrong, match="not '40 bytes'"):
        check.look([Said(b"17", b"")])


def test_text_is_compared_with_its_input() -> None:
    value = text_value(17, pixels(0)[17])
    check = TextCheck(lambda _: PREDICTION, lambda _: value)
    answer = text_outputs([value], PREDICTION[None])[0]
    assert check.look([Said(b"17", answer)]) == [17]
    with pytest.raises(Wrong, match="event 17: created is 1, not 1522540831000"):
        check.look([Said(b"17", json.dumps(json.loads(answer) | {"created": 1}).encode())])


# -- our own W2


def test_the_text_of_an_event_gives_the_tensor_that_it_was_made_of() -> None:
    row = pixels(0)[3]
    found = np.frombuffer(text_inputs(text_value(3, row)), "<f4")
    assert np.abs(found - row).max() < 1e-7


@pytest.mark.parametrize(
    "value",
    [
        b"", b"{}", b"[1]", b'{"id": 1, "created": 2, "data": 3}',
        b'{"id": 1, "created": 2, "data": "1,2"}', b'{"id": 1, "created": 2, "data": "[1"}',
        b'{"id": 1, "created": 2, "data": "' + b",".join([b"1e60"] * 784) + b'"}',
        b'{"id": 1, "created": 2, "data": "' + b",".join([b"[]"] * 784) + b'"}',
    ],
)  # fmt: skip
def test_an_event_that_is_no_input_is_refused_with_a_reason(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        text_inputs(value)
    with pytest.raises(ValueError, match="bytes, not 3136"):
        tensor_inputs(value)


# -- generated pipelines


@pytest.mark.parametrize("graph", [chain(1), chain(8), branches(4)])
def test_generated_pipelines_are_pipeline_files(
    graph: dict[str, list[str]], tmp_path: Path
) -> None:
    file = load_pipeline(written(graph, "w4-chain-8", 16, tmp_path))
    assert [component.name for component in file.pipeline.components] == list(graph)
    assert file.pipeline.partitions == 16
