"""Data files become events and labels, whatever the format."""

from __future__ import annotations

import io
import json
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.columns import json_values, timestamps_to_text, typed
from models.data.datasets import RowBatch, count_rows, read_rows
from models.data.errors import (
    DatasetError,
    DatasetNotFound,
    LabelNotBinary,
    MissingColumns,
    MissingLabel,
    UnknownFormat,
    UnreadableDataset,
)
from models.data.text_files import BLOCK_BYTES, check_is_text
from topics.errors import MissingExtra

pa = pytest.importorskip("pyarrow", reason="the extra 'data' (pyarrow) is not installed")
csv = pytest.importorskip("pyarrow.csv", reason="the extra 'data' (pyarrow) is not installed")
parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'data' is not installed")

TYPES = {"id": "string", "at": "timestamp", "amount": "number", "visits": "integer"}
COLUMNS = {"TX_ID": "id", "TX_DATETIME": "at", "TX_AMOUNT": "amount"}
ROWS: dict[str, list[object]] = {
    "TX_ID": [7, 8, 9],
    "TX_DATETIME": [datetime(2018, 4, 1, 0, 0, second) for second in (31, 32, 33)],
    "TX_AMOUNT": [57.16, 81.51, 146.0],
    "visits": [1, 2, 3],
    "TX_FRAUD": [0, 1, 0],
    "ignored": ["a", "b", "c"],
}
EVENTS = [
    {"id": "7", "at": "2018-04-01T00:00:31Z", "amount": 57.16, "visits": 1},
    {"id": "8", "at": "2018-04-01T00:00:32Z", "amount": 81.51, "visits": 2},
    {"id": "9", "at": "2018-04-01T00:00:33Z", "amount": 146.0, "visits": 3},
]


def write(folder: Path, form: str, rows: dict[str, list[object]]) -> str:
    path = folder / f"rows.{form}"
    if form == "parquet":
        parquet.write_table(pa.table(rows), path)
    elif form == "csv":
        csv.write_csv(pa.table(rows), path)
    else:
        lines = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
        path.write_text("".join(json.dumps(line, default=str) + "\n" for line in lines))
    return str(path)


def read(path: str, **changes: Any) -> list[RowBatch]:
    asked: dict[str, Any] = {
        "columns": COLUMNS,
        "fields": TYPES,
        "types": TYPES,
        "label": "TX_FRAUD",
    }
    return list(read_rows(path, **(asked | changes)))


def events(batches: list[RowBatch]) -> list[dict[str, object]]:
    return [event for batch in batches for event in batch.events()]


def labels(batches: list[RowBatch]) -> list[bool]:
    return [label for batch in batches if batch.labels is not None for label in batch.labels]


every_format = pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])


@every_format
def test_every_format_gives_the_same_events_and_labels(tmp_path: Path, form: str) -> None:
    batches = read(write(tmp_path, form, ROWS))
    assert events(batches) == EVENTS
    assert labels(batches) == [False, True, False]
    assert json.loads(json.dumps(events(batches))) == EVENTS


@every_format
def test_columns_are_typed_arrays(tmp_path: Path, form: str) -> None:
    (batch,) = read(write(tmp_path, form, ROWS))
    assert batch.rows == 3
    assert batch.columns["id"] == ["7", "8", "9"]
    kinds = {
        name: column.dtype
        for name, column in batch.columns.items()
        if isinstance(column, np.ndarray)
    }
    assert kinds == {"at": "M8[us]", "amount": np.float64, "visits": np.int64}


@every_format
def test_batches_hold_at_most_the_rows_asked_for(tmp_path: Path, form: str) -> None:
    batches = read(write(tmp_path, form, ROWS), batch_rows=2)
    assert [batch.rows for batch in batches] == [2, 1]
    assert events(batches) == EVENTS


@every_format
def test_without_a_label_there_are_no_labels(tmp_path: Path, form: str) -> None:
    assert [b.labels for b in read(write(tmp_path, form, ROWS), label=None)] == [None]


@every_format
def test_the_label_may_have_its_mapped_name(tmp_path: Path, form: str) -> None:
    mapped = COLUMNS | {"TX_FRAUD": "is_fraud"}
    batches = read(write(tmp_path, form, ROWS), columns=mapped, label="is_fraud")
    assert labels(batches) == [False, True, False]
    assert "is_fraud" not in events(batches)[0]


@every_format
def test_missing_values_are_left_out_of_the_event(tmp_path: Path, form: str) -> None:
    gaps = ROWS | {"TX_AMOUNT": [1.5, None, 2.5], "visits": [1, None, 3], "TX_ID": [7, 8, None]}
    gaps["TX_DATETIME"] = [ROWS["TX_DATETIME"][0], None, ROWS["TX_DATETIME"][2]]
    (batch,) = read(write(tmp_path, form, gaps))
    assert list(batch.events()) == [
        {"id": "7", "at": "2018-04-01T00:00:31Z", "amount": 1.5, "visits": 1},
        {"id": "8"},
        {"at": "2018-04-01T00:00:33Z", "amount": 2.5, "visits": 3},
    ]


@every_format
def test_a_field_without_a_column_is_an_error_unless_optional(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form, ROWS)
    with pytest.raises(MissingColumns, match=r"field place; .*TX_DATETIME.*\{COLUMN: place\}"):
        read(path, fields=[*TYPES, "place"])
    assert events(read(path, fields=[*TYPES, "place"], optional=["place"])) == EVENTS


@every_format
def test_a_label_column_that_is_not_there_is_an_error(tmp_path: Path, form: str) -> None:
    with pytest.raises(MissingLabel, match="no label column fraud; the file has columns TX_ID"):
        read(write(tmp_path, form, ROWS), label="fraud")


@every_format
@pytest.mark.parametrize("wrong", [[0, 1, 2], [0.0, 1.0, 0.5], [1, 0, None]])
def test_a_label_that_is_not_binary_names_its_row(
    tmp_path: Path, form: str, wrong: list[object]
) -> None:
    with pytest.raises(LabelNotBinary, match="row 3 has"):
        read(write(tmp_path, form, ROWS | {"TX_FRAUD": wrong}), batch_rows=2)


@every_format
def test_labels_may_be_booleans(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, form, ROWS | {"TX_FRAUD": [True, False, True]})
    assert labels(read(path)) == [True, False, True]


@every_format
def test_words_for_no_value_and_times_in_other_formats_are_understood(
    tmp_path: Path, form: str
) -> None:
    rows: dict[str, list[object]] = {
        "at": ["31/12/2018", "NA", "soon"], "seen": [1522540831, 1522540832, None],
        "place": ["NA", "x", "?"], "paid": ["yes", "No", "NA"],
    }  # fmt: skip
    types = {"at": "timestamp", "seen": "timestamp", "place": "string", "paid": "boolean"}
    batches = read(
        write(tmp_path, form, rows), columns={}, fields=types, types=types, label=None,
        missing_values=["NA"], time_formats={"at": "%d/%m/%Y", "seen": "epoch_s"},
    )  # fmt: skip
    assert events(batches) == [
        {"at": "2018-12-31T00:00:00Z", "seen": "2018-04-01T00:00:31Z", "paid": True},
        {"seen": "2018-04-01T00:00:32Z", "place": "x", "paid": False},
        {"at": "soon", "place": "?"},
    ]


@every_format
def test_a_positive_value_makes_labels_and_drops_rows_without_one(
    tmp_path: Path, form: str
) -> None:
    path = write(tmp_path, form, ROWS | {"TX_FRAUD": ["Fraud", None, "ok"]})
    batches = read(path, positive="fraud")
    assert events(batches) == [EVENTS[0], EVENTS[2]]
    assert labels(batches) == [True, False]


def test_csv_identifiers_keep_their_leading_zeros(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,at\n007,2018-04-01T02:00:31+02:00\nA8,2018-04-01 00:00:32.25\n")
    assert events(read(str(path), fields=["id", "at"], label=None)) == [
        {"id": "007", "at": "2018-04-01T00:00:31Z"},
        {"id": "A8", "at": "2018-04-01T00:00:32.250Z"},
    ]


def test_parquet_times_in_other_zones_and_precisions_become_utc(tmp_path: Path) -> None:
    moment = datetime(2018, 4, 1, 12, tzinfo=UTC)
    paris = pa.array(
        [moment, moment + timedelta(microseconds=5)], pa.timestamp("ns", "Europe/Paris")
    )
    parquet.write_table(pa.table({"at": paris}), tmp_path / "rows.parquet")
    assert events(read(str(tmp_path / "rows.parquet"), fields=["at"], label=None)) == [
        {"at": "2018-04-01T12:00:00Z"},
        {"at": "2018-04-01T12:00:00.000005Z"},
    ]


def test_parquet_vectors_booleans_and_dictionaries_become_json(tmp_path: Path) -> None:
    table = pa.table(
        {
            "pixels": pa.array([[0.5, 1.0], [2.0, 3.0]], pa.list_(pa.float32())),
            "present": pa.array([0, 1], pa.int8()),
            "place": pa.array(["x", "y"]).dictionary_encode(),
            "id": pa.array([596.0, None]),
        }
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    types = {"pixels": "vector", "present": "boolean", "place": "string", "id": "string"}
    batches = read(str(tmp_path / "rows.parquet"), fields=types, types=types, label=None)
    assert events(batches) == [
        {"pixels": [0.5, 1.0], "present": False, "place": "x", "id": "596"},
        {"pixels": [2.0, 3.0], "present": True, "place": "y"},
    ]


def test_a_cell_that_is_no_number_costs_its_row_alone(tmp_path: Path) -> None:
    (path := tmp_path / "rows.csv").write_text("amount,visits\n1.5, 2\nmuch,+3\n")
    batches = read(str(path), fields=["amount", "visits"], label=None)
    assert events(batches) == [{"amount": 1.5, "visits": 2}, {"amount": "much", "visits": 3}]


def test_a_jsonl_value_of_the_wrong_type_stays_for_the_pipeline_to_refuse(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"at": "soon", "amount": "much"}\n\n'
        '{"at": "2018-04-01 00:00:31", "amount": 2, "visits": 3}'
    )
    batches = read(str(path), label=None, optional=TYPES)
    assert events(batches) == [
        {"at": "soon", "amount": "much"},
        {"at": "2018-04-01T00:00:31Z", "amount": 2, "visits": 3},
    ]


@pytest.mark.parametrize(
    ("line", "reason"), [("{oops}", "column 2"), ("[1]", "a JSON object is needed"), ("NaN", "")]
)
def test_a_bad_json_line_is_named_by_its_number(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"id": 1}}\n\n{line}\n')
    with pytest.raises(UnreadableDataset, match=f"rows.jsonl:3: cannot be read: .*{reason}"):
        read(str(path), fields=["id"], label=None)


def test_a_dash_reads_json_lines_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b'{"id": 1, "visits": 2}\n{"id": "x", "amount": 0.5}'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    batches = read("-", fields=["id", "visits", "amount"], optional=["amount"], label=None)
    assert events(batches) == [{"id": "1", "visits": 2}, {"id": "x", "amount": 0.5}]


def test_a_line_that_trickles_in_is_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trickle(io.BytesIO):
        def read1(self, _size: int | None = -1, /) -> bytes:
            return self.readline()

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Trickle(b'{"id": 1}\n{"id": 2, "at": 3}\n')))
    batches = read("-", fields=["id", "at"], optional=["at"], label=None)
    assert [list(batch.events()) for batch in batches] == [[{"id": "1"}], [{"id": "2", "at": 3}]]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("nowhere.parquet", None, DatasetNotFound),
        ("nowhere.csv", None, DatasetNotFound),
        ("nowhere.jsonl", None, DatasetNotFound),
        ("rows.xlsx", b"", UnknownFormat),
        ("rows.parquet", b"not parquet", UnreadableDataset),
        ("rows.csv", b"", UnreadableDataset),
        ("rows.jsonl", b"", UnreadableDataset),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: bytes | None, error: type[DatasetError]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=name) as caught:
        read(str(path), fields=["amount"], label=None)
    assert isinstance(caught.value, DatasetError)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv", "rows.jsonl"])
def test_a_folder_is_not_a_data_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UnreadableDataset, match=name):
        read(str(tmp_path / name), label=None)


def test_reading_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="'data'"):
        read(path)


def test_only_parquet_knows_its_row_count(tmp_path: Path) -> None:
    assert count_rows(write(tmp_path, "parquet", ROWS)) == 3
    assert count_rows(write(tmp_path, "csv", ROWS)) is None
    assert count_rows("-") is None
    with pytest.raises(DatasetNotFound):
        count_rows(str(tmp_path / "nowhere.parquet"))


@given(st.lists(st.none() | st.datetimes(min_value=datetime(1900, 1, 1)), max_size=20))
def test_timestamps_survive_text_to_the_microsecond(moments: list[datetime | None]) -> None:
    text = timestamps_to_text(np.array(moments, dtype="datetime64[us]"))
    back = [None if t is None else datetime.fromisoformat(str(t)) for t in text]
    assert back == [m and m.replace(tzinfo=UTC) for m in moments]
    assert typed(text, "timestamp").tolist() == moments  # type: ignore[union-attr]


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("2018")


@given(st.sampled_from([*TYPES.values(), "boolean", "vector", None]), st.lists(anything))
def test_any_json_value_survives_as_something_json_can_carry(
    kind: str | None, values: list[object]
) -> None:
    carried = json_values(typed(values, kind))
    assert len(carried) == len(values)
    assert all(type(v) in (type(None), bool, int, float, str) for v in carried)
    assert all(c is None for c, v in zip(carried, values, strict=True) if v is None)


def test_numbers_that_are_not_finite_are_missing() -> None:
    column = typed([1, 2.5, float("nan"), float("inf"), None], "number")
    assert json_values(column) == [1.0, 2.5, None, None, None]


HEADER, ROW = "größe,ort", "1,Köln"
AS_JSON = '{"größe": 1, "ort": "Köln"}\n'
ENCODED = {
    "latin-1": "byte 0x[0-9a-f]+ behind '.*' is not UTF-8; if the file is Latin-1",
    "utf-16-le": "it is UTF-16, not UTF-8 text",
}


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_in_another_encoding_is_said_in_a_sentence(
    tmp_path: Path, suffix: str, encoding: str
) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes((f"{HEADER}\n{ROW}\n" if suffix == ".csv" else AS_JSON).encode(encoding))
    with pytest.raises(UnreadableDataset, match=f"rows{suffix}(:1)?: .*{ENCODED[encoding]}"):
        list(read_rows(str(path), columns={}, fields=["ort"]))


def test_a_cell_in_another_encoding_is_said_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"size,place\n1,K\xf6ln\n")
    with pytest.raises(UnreadableDataset, match=r"if the file is Latin-1 .* iconv"):
        list(
            read_rows(
                str(path), columns={}, fields=["size", "place"], types={"place": "string"}
            )
        )  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    text = f"{HEADER}\n{ROW}\n" if suffix == ".csv" else AS_JSON
    path.write_bytes(text.encode("utf-8-sig"))
    (batch,) = read_rows(str(path), columns={}, fields=["größe", "ort"])
    assert list(batch.events()) == [{"größe": 1, "ort": "Köln"}]


@pytest.mark.parametrize(("beginning", "what"), [(b"PK\x03\x04", "ZIP"), (b"PAR1", "Parquet")])
def test_another_kind_of_file_is_named(tmp_path: Path, beginning: bytes, what: str) -> None:
    (path := tmp_path / "rows.csv").write_bytes(beginning + b"\x00\x01")
    with pytest.raises(UnreadableDataset, match=f"it is {what}.*, not UTF-8 text; unpack it"):
        list(read_rows(str(path), columns={}, fields=["a"]))


def test_a_first_line_longer_than_a_block_may_be_cut_within_a_character(tmp_path: Path) -> None:
    name = "é" * BLOCK_BYTES  # its first block ends within one, behind the letter
    (path := tmp_path / "rows.csv").write_text(f"x{name},b\n1,2\n", encoding="utf-8")
    with suppress(UnreadableDataset):  # the reader has bounds of its own
        list(read_rows(str(path), columns={}, fields=["b"]))
    check_is_text("rows.csv", f"x{name}".encode()[:BLOCK_BYTES])
