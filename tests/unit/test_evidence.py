"""Evidence packs: one changed byte is found, and what is consistent but not so is, too."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.evidence import archive as archives
from agents.evidence.archive import opened_archive, write_archive
from agents.evidence.contents import Contents, model_entry
from agents.evidence.environment import Environment
from agents.evidence.errors import PackDamaged, PackUnreadable
from agents.evidence.manifest import EntryDigest, Manifest
from agents.evidence.packed_record import PackedRecord
from agents.evidence.rederivation import Rederivation
from agents.evidence.verifier import Verification, verify_pack
from agents.explanations import NotComputed
from models.registry import digest_of
from tests.unit import evidence_pack
from tests.unit.evidence_pack import (
    AT_MS,
    EVENT,
    ONNX,
    PIPELINE,
    SOURCE,
    Entries,
    decided_entries,
    entries_of,
    event_record,
    pack_of,
    provenance,
)
from tests.unit.onnx_networks import network
from tests.unit.topic_log import record
from topics.records.dead_letter import dead_letter
from topics.records.decision import rfc3339_time
from topics.records.stage_batch import Failure, StageBatch


def verified(home: Path, entries: Entries) -> Verification:
    path = home / "pack.zip"
    digest = write_archive(path, entries)
    result = verify_pack(path)
    assert result.sha256 == digest
    assert verify_pack(path, f"sha256:{digest}") == result
    return result


def differing(result: Verification) -> dict[str, str]:
    return {each.what: each.said for each in result.findings if not each.holds}


def resealed(entries: Entries, **changes: bytes) -> Entries:
    """Entries changed by somebody who makes all digests anew; `manifest.json` says so."""
    entries = {**entries, **changes}
    manifest = Manifest.of(entries.pop("manifest.json"), Path())
    digests = {
        name: EntryDigest(sha256=digest_of(content), bytes=len(content))
        for name, content in entries.items()
    }
    return {"manifest.json": manifest.model_copy(update={"entries": digests}).to_bytes(), **entries}


@pytest.fixture(scope="module")
def pack() -> Entries:
    return pack_of(decided_entries())


@pytest.fixture(scope="module")
def content(pack: Entries, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("pack") / "pack.zip"
    write_archive(path, pack)
    return path.read_bytes()


def test_a_decision_comes_out_again_to_the_bit(tmp_path: Path, pack: Entries) -> None:
    result = verified(tmp_path, pack)
    assert differing(result) == {}
    assert (result.agreement, result.expected) == ("bits", "bits")
    said = {each.what: each.said for each in result.findings}
    assert said["features"] == "amount, size derived from the raw event again"
    assert said["signals"] == ("risk derived again, to the bit; taken as recorded: features, own")
    assert said["named files"] == (
        "pipeline.yaml, policy.json, weights.json are those that the decision names by SHA-256"
    )
    assert said["explanation"] == "base and 2 groups come out again, and sum to the score"


def test_the_same_event_gives_the_same_bytes_that_any_unzip_reads(
    tmp_path: Path, pack: Entries
) -> None:
    digests = [write_archive(tmp_path / name, pack_of(decided_entries())) for name in "ab"]
    assert digests[0] == digests[1]
    with ZipFile(tmp_path / "a") as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == pack


@settings(max_examples=300)
@given(data=st.data())
def test_any_changed_byte_is_found(
    data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at = data.draw(st.integers(0, len(content) - 1))
    change = data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "changed.zip"
    path.write_bytes(content[:at] + bytes([content[at] ^ change]) + content[at + 1 :])
    result = verify_pack(path)
    assert not result.holds
    assert [each.what for each in result.findings] == ["archive"]


@settings(max_examples=100)
@given(data=st.data())
def test_whatever_is_cut_inserted_or_made_up_is_none(
    data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    at = data.draw(st.integers(0, len(content)))
    to = data.draw(st.integers(at, min(len(content), at + 200)))
    between = data.draw(st.binary(max_size=100).filter(lambda each: each != content[at:to]))
    path = tmp_path_factory.getbasetemp() / "cut.zip"
    path.write_bytes(content[:at] + between + content[to:])
    assert not verify_pack(path).holds


@settings(max_examples=150)
@given(data=st.data())
def test_entries_of_anybodys_making_never_raise(
    data: st.DataObject, pack: Entries, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = data.draw(st.sampled_from(sorted(pack.keys() - {"manifest.json", "trace.json"})))
    old = pack[name]
    at = data.draw(st.integers(0, len(old)))
    to = data.draw(st.integers(at, min(len(old), at + 40)))
    new = old[:at] + data.draw(st.binary(max_size=20)) + old[to:]
    path = tmp_path_factory.getbasetemp() / "resealed.zip"
    write_archive(path, resealed(pack, **{name: new}))
    result = verify_pack(path)
    assert result.findings[0].holds, "as an archive it is whole"
    assert all(each.said and "\n" not in each.said for each in result.findings)


def zipped(names: list[str], **options: Any) -> bytes:
    file = io.BytesIO()
    with ZipFile(file, "w", **options) as made:
        for name in names:
            made.writestr(ZipInfo(name), b"x" * 100)
    return file.getvalue()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no entry is at byte 0"),
    "no zip": (b"%PDF-1.7 and so on, and on, and on", "no entry is at byte 0"),
    "an empty zip": (zipped([]), "no entry is at byte 0"),
    "out of the folder": (zipped(["../../etc/passwd"]), "has a name that no pack has"),
    "absolute": (zipped(["/etc/passwd"]), "has a name that no pack has"),
    "a windows path": (zipped(["a\\b"]), "has a name that no pack has"),
    "a dot": (zipped(["a/./b"]), "has a name that no pack has"),
    "other tools' stored files": (
        zipped(["manifest.json"]),
        "its directory, from byte 143 on, is not",
    ),
}


@pytest.mark.parametrize(("made", "said"), FOREIGN.values(), ids=FOREIGN)
def test_other_files_are_refused_by_what_is_wrong_with_them(
    tmp_path: Path, made: bytes, said: str
) -> None:
    path = tmp_path / "foreign.zip"
    path.write_bytes(made)
    assert said in differing(verify_pack(path))["archive"]


def test_compressed_entries_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with ZipFile(path, "w", ZIP_DEFLATED) as made:
        made.writestr("manifest.json", bytes(200 * 2**20))
    assert "manifest.json is compressed" in differing(verify_pack(path))["archive"]


def test_a_size_beyond_the_file_is_not_believed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "long.zip"
    path.write_bytes(content[:18] + struct.pack("<II", 2**31, 2**31) + content[26:])
    assert differing(verify_pack(path))["archive"] == "manifest.json is cut off"


def raw_archive(path: Path, names: list[str]) -> None:
    """An archive in the very form of packs, of entries in this order."""
    entries, body = [], b""
    for name in names:
        entry = archives._Entry(name, len(body), 0, 1, 0x8CDC1683)
        entries.append(entry)
        body += archives._local(entry) + b"x"
    path.write_bytes(body + archives._tail(entries, len(body)))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["manifest.json", "a", "a"], "a stands behind a, twice or out of order"),
        (["manifest.json", "b", "a"], "a stands behind b, twice or out of order"),
        (["a", "b"], "it does not begin with manifest.json"),
        (["manifest.json", "manifest.json"], "twice or out of order"),
    ],
)
def test_names_stand_once_and_in_order(tmp_path: Path, names: list[str], said: str) -> None:
    path = tmp_path / "pack.zip"
    raw_archive(path, names)
    with pytest.raises(PackDamaged, match=said), opened_archive(path):
        pass


def test_an_entry_too_many_and_one_too_few_are_named(tmp_path: Path, pack: Entries) -> None:
    assert differing(verified(tmp_path, pack | {"readme": b"hello"})) == {
        "archive": "readme is in it, and manifest.json does not name it"
    }
    without = {name: each for name, each in pack.items() if name != "policy.json"}
    assert differing(verified(tmp_path, without)) == {"archive": "policy.json is missing"}


def test_a_manifest_of_another_schema_is_named(tmp_path: Path, pack: Entries) -> None:
    rest = pack["manifest.json"].partition(b"\n")[2].replace(b'"schema": 1', b'"schema": 2')
    seal = b'{"manifest_digest": "%s",\n' % digest_of(rest).encode()
    said = differing(verified(tmp_path, pack | {"manifest.json": seal + rest}))["archive"]
    assert said.startswith("manifest.json is not readable: schema")


@pytest.mark.parametrize(
    "told", [{"state": "dead"}, {"pipeline": "q"}, {"event_id": "tx-8"}, {"attempt": 2}]
)
def test_a_manifest_that_tells_of_another_end_is_found(
    tmp_path: Path, pack: Entries, told: dict[str, Any]
) -> None:
    entries = {name: each for name, each in pack.items() if name != "manifest.json"}
    manifest = Manifest.of(pack["manifest.json"], Path()).model_copy(update=told)
    result = verified(tmp_path, {"manifest.json": manifest.to_bytes(), **entries})
    assert [*differing(result)] == ["manifest"]


def test_what_a_newer_version_says_besides_is_passed_over(tmp_path: Path, pack: Entries) -> None:
    rest = pack["manifest.json"].partition(b"\n")[2].replace(b'  "state"', b'  "more": 1, "state"')
    seal = b'{"manifest_digest": "%s",\n' % digest_of(rest).encode()
    assert b'"more"' in rest
    assert verified(tmp_path, pack | {"manifest.json": seal + rest}).holds


def test_another_pack_in_its_place_is_found_by_the_noted_digest(
    tmp_path: Path, pack: Entries
) -> None:
    noted = write_archive(tmp_path / "a.zip", pack)
    write_archive(tmp_path / "b.zip", pack_of(decided_entries(latency_ms=14.0)))
    assert verify_pack(tmp_path / "b.zip").holds
    assert "not the one that was noted" in differing(verify_pack(tmp_path / "b.zip", noted))["file"]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PackUnreadable, match="No such file"):
        verify_pack(tmp_path / "nothing.zip")
    with pytest.raises(PackUnreadable, match="is a folder"):
        verify_pack(tmp_path)


def edited(name: str, **changes: Any) -> Callable[[dict[str, StageBatch]], None]:
    def edit(rows: dict[str, StageBatch]) -> None:
        rows[name] = replace(rows[name], **changes)

    return edit


_THREE_QUARTERS = np.array([0.75], np.float32)

FORGED: dict[str, tuple[Callable[[], Entries], str, str]] = {
    "a feature": (
        lambda: decided_entries(edited("features", output=np.array([[99.0, np.log1p(99.0)]]))),
        "features", "features: amount comes out as 12.5, recorded is 99",
    ),
    "a signal of a model": (
        lambda: decided_entries(
            edited("risk", signal=_THREE_QUARTERS, output=_THREE_QUARTERS[:, None])
        ),
        "signals", "recorded is 0.75",
    ),
    "what a model passed on": (
        lambda: decided_entries(edited("risk", output=_THREE_QUARTERS[:, None])),
        "signals", "the output of risk",
    ),
    "a signal of one's own": (
        lambda: decided_entries(edited("own", signal=np.array([0.25], np.float32))),
        "score", "the decision has another signal of own than its record",
    ),
    "a score": (lambda: decided_entries(score=0.31), "score", "it comes out as 0."),
    "a decision": (
        lambda: decided_entries(decision="decline"), "decision", "p@1 gives review, not decline",
    ),
    "a policy": (
        lambda: decided_entries(policy="p@2"), "decision", "p@2 has decided, and p@1 is packed",
    ),
    "weights": (
        lambda: decided_entries(weights=3), "score", "the card of @weights@2, not of @weights@3",
    ),
    "the pipeline file": (
        lambda: decided_entries(provenance=provenance() | {"pipeline_file": "sha256:00"}),
        "named files", "pipeline.yaml is another one than the decision names",
    ),
    "the thresholds under an old number": (
        lambda: decided_entries(provenance=provenance() | {"policy": "sha256:00"}),
        "named files", "policy.json is another one than the decision names",
    ),
    "the card of weights": (
        lambda: decided_entries(provenance=provenance() | {"weights": "sha256:00"}),
        "named files", "weights.json is another one than the decision names",
    ),
    "what was missing": (
        lambda: decided_entries(missing=["own"], degraded=True), "score", "missing is nothing",
    ),
    "an event": (
        lambda: decided_entries(event_id="tx-8"), "event", "the raw event has the id 'tx-7'",
    ),
    "a time": (
        lambda: decided_entries(event_time="2020-01-01T00:00:00.000Z"),
        "event", "the raw event happened at 2027-01-15T08:00:00.000Z",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "what", "said"), FORGED.values(), ids=FORGED)
def test_what_does_not_come_out_again_is_named(
    tmp_path: Path, make: Callable[[], Entries], what: str, said: str
) -> None:
    assert said in differing(verified(tmp_path, pack_of(make())))[what]


def test_another_model_under_the_old_name_is_found(tmp_path: Path, pack: Entries) -> None:
    forged = resealed(pack, **{model_entry(digest_of(ONNX)): network(2) + b"\x00"})
    assert "another SHA-256" in differing(verified(tmp_path, forged))["models"]


def test_no_explanation_calls_code_and_a_pack_says_so(
    tmp_path: Path, pack: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    pure = evidence_pack.PIPELINE.replace(
        'import: "elsewhere:Component", from: [events]',
        'import: "elsewhere:Component", from: [features], pure: true',
    )
    monkeypatch.setattr(evidence_pack, "PIPELINE", pure)
    entries = pack_of(decided_entries())
    result = verified(tmp_path, entries)
    assert result.holds, differing(result)
    assert result.manifest is not None
    why = (
        "it calls component own, which is declared pure, and no pack holds code: anabranch explain"
    )
    assert (result.manifest.without_explanation or "").startswith(why)
    forged = resealed(entries, **{"explanation.json": pack["explanation.json"]})
    assert why in differing(verified(tmp_path, forged))["explanation"]


def test_another_explanation_is_found(tmp_path: Path, pack: Entries) -> None:
    explanation = json.loads(pack["explanation.json"])
    explanation["groups"][0]["value"] += 0.01
    forged = resealed(pack, **{"explanation.json": json.dumps(explanation).encode()})
    assert "base and groups sum to" in differing(verified(tmp_path, forged))["explanation"]
    explanation["base"] -= 0.01
    forged = resealed(pack, **{"explanation.json": json.dumps(explanation).encode()})
    assert differing(verified(tmp_path, forged)) == {
        "explanation": "base or groups come out otherwise"
    }


def test_words_of_ones_own_are_found_beside_values_that_are_nearly_right(
    tmp_path: Path, pack: Entries
) -> None:
    """Values a little off are as another processor gives them; what they come to is arithmetic."""
    explanation = json.loads(pack["explanation.json"])
    explanation["base"] = float(np.nextafter(explanation["base"], 1))
    near = resealed(pack, **{"explanation.json": json.dumps(explanation).encode()})
    assert differing(verified(tmp_path, near)) == {}
    for change in (
        {"reason": "it is what all do"}, {"reasons": {"en": "it is what all do"}},
        {"groups": [{**explanation["groups"][0], "share": 0.0}, explanation["groups"][1]]},
        {"groups": [{**explanation["groups"][0], "rank": 9}, explanation["groups"][1]]},
    ):  # fmt: skip
        forged = json.dumps({**explanation, **change}).encode()
        said = differing(verified(tmp_path, resealed(pack, **{"explanation.json": forged})))
        assert said == {"explanation": "ranks, shares or words come out otherwise"}


def test_what_no_check_looks_into_is_named(tmp_path: Path, pack: Entries) -> None:
    result = verified(tmp_path, resealed(pack, **{"notes.txt": b"the customer has confessed"}))
    assert result.findings[0].said.endswith("; no more is proven of notes.txt, trace.json")


def clipped_entries(
    time_ms: int, text: str = PIPELINE.replace("time: at", "time: at\n  beyond_future: clip"),
    **decision: Any,
) -> Entries:  # fmt: skip
    """Of an event whose time was set back, so its records say, to *time_ms*."""

    def clip(rows: dict[str, StageBatch]) -> None:
        for name, row in rows.items():
            at, clipped = np.array([time_ms]), np.array([True])
            set_back = replace(row.rows, event_time_ms=at, clipped=clipped)
            rows[name] = replace(row, rows=set_back)

    named = provenance() | {"pipeline_file": digest_of(text.encode())}
    said = {"event_time": rfc3339_time(time_ms), "clipped": True, "provenance": named}
    return decided_entries(clip, **said | decision) | {"pipeline.yaml": text.encode()}


def test_a_time_that_was_set_back_is_held_against_the_records_own(tmp_path: Path) -> None:
    """The record was published a day before the event says that it happened."""
    early = AT_MS - 86_400_000
    event = event_record(published_ms=early)

    def of(entries: Entries) -> dict[str, str]:
        entries = entries | dict(PackedRecord(event).entries())
        result = verified(tmp_path, pack_of(entries))
        return {each.what: each.said for each in result.findings if each.what == "event"}

    set_back = f"its time was set back to {rfc3339_time(early)}"
    assert of(clipped_entries(early)) == {"event": f"the id is that of the raw event; {set_back}"}
    assert "happened at" in of(clipped_entries(early + 1))["event"]
    assert "is not valid" in of(clipped_entries(early, PIPELINE))["event"]
    assert "disagree" in of(clipped_entries(early, clipped=False))["event"]


def test_a_time_that_need_not_be_set_back_is_not(tmp_path: Path) -> None:
    earlier = AT_MS - 10**6
    said = differing(verified(tmp_path, pack_of(clipped_entries(earlier))))
    assert said["event"] == "the raw event happened at 2027-01-15T08:00:00.000Z"


def test_an_event_whose_producer_has_no_clock_comes_out_again(tmp_path: Path) -> None:
    """Workers go by their own clock then: the event was there when it was decided."""
    entries = decided_entries() | dict(PackedRecord(event_record(published_ms=0)).entries())
    stem = "records/p.decisions/0/7.json"
    entries[stem] = entries[stem].replace(b'"timestamp_ms": 0', b'"timestamp_ms": %d' % AT_MS)
    assert differing(verified(tmp_path, pack_of(entries))) == {}


def test_models_that_fail_are_a_reason_and_no_crash(pack: Entries) -> None:
    contents = Contents([*pack], pack.__getitem__, SOURCE)
    assert contents.decision is not None
    of_nothing = contents.decision.model_copy(update={"contributions": {}})
    with pytest.raises(NotComputed, match="the models fail on"):
        Rederivation(contents).explanation(of_nothing)


def test_another_processor_only_has_to_come_near(
    tmp_path: Path, pack: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal a few units in the last place away is as another kind of processor gives it."""

    def shifted(rows: dict[str, StageBatch]) -> None:
        signal = np.nextafter(rows["risk"].signal, np.float32(1))
        rows["risk"] = replace(rows["risk"], signal=signal, output=signal[:, None])

    rows_entries = decided_entries()
    exact = verified(tmp_path, pack_of(rows_entries))
    assert exact.agreement == "bits"
    near = pack_of(decided_entries(shifted))
    assert b'"agreement": "1e-6"' in near["manifest.json"]
    result = verified(tmp_path, near)
    assert (result.agreement, result.expected) == ("1e-6", "1e-6")
    assert "another kind than the one that decided" in result.because

    here = Environment.of_this_process()
    other = here.model_copy(update={"onnxruntime": "1.0"})
    monkeypatch.setattr(Environment, "of_this_process", lambda: other)
    result = verified(tmp_path, pack)
    assert result.holds
    assert (result.agreement, result.expected) == ("bits", "1e-6")
    assert result.because == f"onnxruntime is 1.0 here, the pack was made with {here.onnxruntime}"


def late_entries(**decision: Any) -> Entries:
    return decided_entries(
        **{
            "decided_by": "late", "score": None, "contributions": {}, "decision": "review",
            "degraded": True, "missing": ["risk"], "missing_because": {"risk": "late"},
        } | decision
    )  # fmt: skip


def test_a_late_decision_has_no_score_to_derive(tmp_path: Path) -> None:
    result = verified(tmp_path, pack_of(late_entries()))
    assert differing(result) == {}
    said = {each.what: each.said for each in result.findings}
    assert said["decision"] == "review is what the pipeline file has for what is late"
    assert result.manifest is not None
    assert result.manifest.without_explanation == "it was decided without a score"
    other = verified(tmp_path, pack_of(late_entries(decision="approve")))
    assert "for what is late the pipeline file has review" in differing(other)["decision"]


def dead_entries(error: str, reason: str, event: object) -> Entries:
    source = event_record(event)
    letter = dead_letter(
        Failure(0, "features", error, reason), ("p.events", 0, 7),
        (source.key, source.value, source.headers), 1, published_ms=source.timestamp,
    )  # fmt: skip
    dead = record("p.dead-letters", 3, letter.value, key=letter.key, headers=letter.headers)
    entries = entries_of([PackedRecord(source), PackedRecord(dead)])
    for name in ("policy.json", "weights.json", "background.npz"):
        del entries[name]
    return entries


def test_a_dead_event_is_held_against_its_letter(tmp_path: Path) -> None:
    broken = EVENT | {"amount": "much"}
    reason = "amount: Input should be a valid number"
    result = verified(tmp_path, pack_of(dead_entries("InvalidEvent", reason, broken)))
    assert differing(result) == {}
    assert result.agreement == "none"
    assert result.findings[-1].said == "attempt 1: features: InvalidEvent, which comes out again"
    for change in ({"event_id": "tx-8"}, {"attempt": 3}, {"event_id": None}):
        manifest = Manifest.of(pack_of(dead_entries("InvalidEvent", reason, broken))[
            "manifest.json"], Path()).model_copy(update=change)  # fmt: skip
        entries = pack_of(dead_entries("InvalidEvent", reason, broken))
        told = verified(tmp_path, entries | {"manifest.json": manifest.to_bytes()})
        assert "the records of ('p', 'dead', 'tx-7', 1)" in differing(told)["manifest"]
    other = verified(tmp_path, pack_of(dead_entries("TooSmall", reason, broken)))
    assert "the letter says TooSmall: amount" in differing(other)["dead letter"]


def test_names_are_those_that_no_tool_takes_for_other_places(tmp_path: Path) -> None:
    for name in ("../a", "a/../b", "/a", "a//b", "a/", ".", "é", "a\n", "a" * 700, ""):
        with pytest.raises(ValueError, match="no entry can be called"):
            write_archive(tmp_path / "pack.zip", {"manifest.json": b"", name: b""})


def test_the_source_of_a_pack_is_that_of_its_manifest(tmp_path: Path, pack: Entries) -> None:
    entries = {name: each for name, each in pack.items() if name != "manifest.json"}
    manifest = Manifest.of(pack["manifest.json"], Path())
    other = manifest.model_copy(update={"source": SOURCE.model_copy(update={"offset": 8})})
    result = verified(tmp_path, {"manifest.json": other.to_bytes(), **entries})
    assert differing(result)["records"] == "the event in it is p.events/0/7"
