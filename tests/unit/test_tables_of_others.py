"""Tables as people have them: what `init` understands, publish and train read too."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agents.commands import labelled_events
from agents.commands.pipeline_template import Template, render
from models.data import UnreadableDataset, event_rows
from models.data.number_formats import fitting_formats, number_in
from models.data.time_formats import fitting_patterns
from models.schema import InferredSchema, SchemaOptions, infer_schema, sample_columns
from models.schema.errors import LabelUnusable
from topics.events.event_decoder import EventDecoder
from topics.pipeline import Pipeline, load_pipeline

pa = pytest.importorskip("pyarrow", reason="the extra 'data' (pyarrow) is not installed")

ROWS = 240
LABEL = ["0", "1", "0"] * 80
AMOUNTS = [round(3 + row * 37.31 % 900, 2) for row in range(ROWS)]
IDS = [f"o{row}" for row in range(ROWS)]
MOMENTS = [datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=25 * row) for row in range(ROWS)]
DAYS = [moment.replace(hour=0) for moment in MOMENTS]
Columns = dict[str, Sequence[object]]


def table(**columns: Sequence[object]) -> Columns:
    return {"order_id": IDS, **columns, "label": LABEL}


def as_csv(columns: Mapping[str, Any], separator: str = ",", **options: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, **options)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def written(folder: Path, columns: Mapping[str, Any], name: str = "rows.csv") -> str:
    (folder / name).write_bytes(as_csv(columns).encode())
    return str(folder / name)


def inferred(path: str, **wishes: Any) -> tuple[InferredSchema, Template]:
    sampling = {name: wishes.pop(name) for name in ("missing", "encoding") if name in wishes}
    sampled = sample_columns(path, **sampling)
    schema = infer_schema(
        sampled.columns, SchemaOptions("label", **wishes), numbers_as_text=sampled.numbers_as_text
    )
    template = Template(
        "made", path, sampled.missing_values, novelty=False, review=0.2, yes=0.5,
        thresholds_from="a test", schema_line=False, csv=sampled.csv,
    )  # fmt: skip
    return schema, template


def pipeline_of(path: str, **wishes: Any) -> Pipeline:
    schema, template = inferred(path, **wishes)
    (file := Path(path).parent / "made.yaml").write_text(render(schema, template), "utf-8")
    return load_pipeline(file).pipeline


def published(path: str, **wishes: Any) -> list[dict[str, Any]]:
    """The file's events, each held to the pipeline's own checks, and trained on as well."""
    pipeline = pipeline_of(path, **wishes)
    batches = list(event_rows(pipeline, path, now=lambda: "2023-01-01T00:00:00Z", labelled=True))
    events = [event for batch in batches for event in batch.events()]
    decoder = EventDecoder(pipeline.event)
    for event in events:
        decoder.event(json.dumps(event).encode())
    assert labelled_events.from_file(pipeline, path).rows == len(events)
    return events


def values(events: Sequence[dict[str, Any]], field: str) -> list[Any]:
    return [event.get(field) for event in events]


def warnings(path: str, **wishes: Any) -> str:
    return " ".join(inferred(path, **wishes)[0].warnings)


def european(value: float) -> str:
    return f"{value:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")


@pytest.mark.parametrize(
    "write",
    [
        lambda x: f"{x:,.2f}", european, lambda x: f"${x:.2f}", lambda x: f"{x:,.2f} €",
        lambda x: f"EUR {x:.2f}", lambda x: f"{x:.2f}%", lambda x: f"{x:.2f} %",
        lambda x: f"{x:.2f}".replace(".", ","), lambda x: f"{x:,.2f}".replace(",", "\u00a0"),
        lambda x: f"{x:,.2f}".replace(",", "'"), lambda x: f" {x:.2f} ", lambda x: f"£{x:,.2f}",
        lambda x: f"{x:.2f} kg", lambda x: f"{x:.2e}",
    ],
)  # fmt: skip
def test_amounts_are_the_numbers_that_their_digits_say(
    tmp_path: Path, write: Callable[[float], str]
) -> None:
    amounts = [round(1000 + amount * 7, 2) for amount in AMOUNTS]
    texts = [write(amount) for amount in amounts]
    events = published(written(tmp_path, table(amount=texts)))
    exact = 1e-12 if "e" not in texts[0] else 1e-2
    assert values(events, "amount") == pytest.approx(amounts, rel=exact)


@pytest.mark.parametrize(
    ("text", "form", "number"),
    [
        ("(1,200.50)", "$1,234.56", -1200.5), ("-$5", "$1234.56", -5), ("$-5", "$1234.56", -5),
        ("12-", "1234.56", -12), ("\u22125,5", "1234,56", -5.5),
        ("12,34,567.5", "1,234.56", 1234567.5),
        ("12,34", "1,234.56", None), ("0,592", "1,234.56", None), ("", "1234.56", None),
        ("1.2.3", "1.234,56", None), ("12", "1234.56%", None), ("€5", "$1234.56", None),
        ("1" * 500, "1,234.56", None), ("--5", "1234.56", None), ("five", "1234.56", None),
        ("5", "no picture", None),
    ],
)  # fmt: skip
def test_a_number_is_read_by_its_format_or_not_at_all(
    text: str, form: str, number: float | None
) -> None:
    assert number_in(text, form) == number


@pytest.mark.parametrize(
    "texts", [["$5", "€5"], ["5%", "5"], ["10.0.0.1", "10.0.0.2"], ["12:30"], ["5a", "5b"], []]
)
def test_what_is_no_amount_has_no_format(texts: list[str]) -> None:
    assert fitting_formats(texts, units=True) == []


def test_thousands_or_decimals_are_said_where_both_fit(tmp_path: Path) -> None:
    path = written(tmp_path, table(amount=[f"{1 + row % 9},{row + 100}" for row in range(ROWS)]))
    assert "amount: 1,100 is read as 1,234 writes it; it may be 1234,56 too" in warnings(path)
    assert values(published(path), "amount")[0] == 1100


def test_a_file_with_decimal_commas_has_points_between_thousands(tmp_path: Path) -> None:
    columns = table(
        price=[f"{row % 50},5" for row in range(ROWS)],
        amount=[f"{1 + row % 9}.{row + 100}" for row in range(ROWS)],
    )
    assert values(published(written(tmp_path, columns)), "amount")[0] == 1100


TIMES: dict[str, Callable[[datetime], str]] = {
    "BigQuery": lambda t: f"{t:%Y-%m-%d %H:%M:%S} UTC",
    "BigQuery with decimals": lambda t: f"{t:%Y-%m-%d %H:%M:%S.000000} UTC",
    "Snowflake": lambda t: f"{t - timedelta(hours=8):%Y-%m-%d %H:%M:%S.000} -0800",
    "Java, UTC": lambda t: f"{t:%Y-%m-%dT%H:%M:%S}Z[UTC]",
    "Java, Kolkata": lambda t: f"{t + timedelta(hours=5.5):%Y-%m-%dT%H:%M:%S}+05:30[Asia/Kolkata]",
    "Java, region alone": lambda t: f"{t + timedelta(hours=5.5):%Y-%m-%dT%H:%M}[Asia/Kolkata]",
    "basic ISO": lambda t: f"{t:%Y%m%dT%H%M%S}Z",
    "German, two digits": lambda t: f"{t:%d.%m.%y %H:%M}",
    "RFC 1123": lambda t: f"{t:%a, %d %b %Y %H:%M:%S} GMT",
    "RFC 1123, offset": lambda t: f"{t + timedelta(hours=2):%a, %d %b %Y %H:%M:%S} +0200",
    "US, 12 hours": lambda t: f"{t:%m/%d/%Y %I:%M %p}",
    "JavaScript, US": lambda t: f"{t:%m/%d/%Y, %I:%M:%S %p}",
    "web server": lambda t: f"{t:%d/%b/%Y:%H:%M:%S} +0000",
    "Oracle": lambda t: f"{t:%d-%b-%y %H:%M}".upper(),
    "date": lambda t: f"{t:%a %b %d %H:%M:%S %Y}",
    "JavaScript, in words": lambda t: (
        f"{t:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)"
    ),
    "decimals at times": lambda t: f"{t:%d/%m/%Y %H:%M:%S}" + (".0" if t.hour % 2 else ""),
    "nanoseconds": lambda t: f"{int(t.timestamp()) * 10**9}",
    "microseconds": lambda t: f"{int(t.timestamp()) * 10**6}",
}


@pytest.mark.parametrize("form", TIMES)
def test_times_are_the_moments_that_they_mean(tmp_path: Path, form: str) -> None:
    texts = [TIMES[form](moment) for moment in MOMENTS]
    events = published(written(tmp_path, table(created_at=texts, amount=AMOUNTS)))
    meant = [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in MOMENTS]
    assert values(events, "created_at") == meant


def test_a_column_of_digits_that_is_called_a_date_is_one(tmp_path: Path) -> None:
    columns = table(signup_date=[f"{day:%Y%m%d}" for day in DAYS], amount=AMOUNTS)
    events = published(written(tmp_path, columns))
    assert values(events, "signup_date")[1] == "2023-01-02T00:00:00Z"


def test_an_order_of_day_and_month_that_cannot_be_told_is_said(tmp_path: Path) -> None:
    days = [datetime(2023, 1 + row % 12, 1 + row * 7 % 12, tzinfo=UTC) for row in range(ROWS)]
    path = written(tmp_path, table(signup=[f"{day:%m/%d/%Y}" for day in days], amount=AMOUNTS))
    assert "which is the day and which the month of 01/01/2023 cannot be told" in warnings(path)
    assert "--month-first" in warnings(path)
    assert "cannot be told" not in warnings(path, month_first=True)
    read = values(published(path, month_first=True), "signup")
    assert read == [f"{day:%Y-%m-%dT%H:%M:%SZ}" for day in days]


def test_another_column_tells_the_order_of_day_and_month(tmp_path: Path) -> None:
    days = [datetime(2023, 1 + row % 12, 1 + row * 7 % 12, tzinfo=UTC) for row in range(ROWS)]
    columns = table(
        signup=[f"{day:%m/%d/%Y}" for day in days],
        seen=[f"{moment:%m/%d/%Y}" for moment in MOMENTS], amount=AMOUNTS,
    )  # fmt: skip
    read = values(published(written(tmp_path, columns)), "signup")
    assert read == [f"{day:%Y-%m-%dT%H:%M:%SZ}" for day in days]


@pytest.mark.parametrize("text", ["31/31/2023", "x" * 10_000, "1/1", "", "99:99:99 2023-01-01"])
def test_what_is_no_time_has_no_pattern(text: str) -> None:
    assert fitting_patterns([text]) == []


@pytest.mark.parametrize(
    "word",
    [
        "NaT",
        "\\N",
        "<NA>",
        "#DIV/0!",
        ".",
        "inf",
        "-inf",
        "missing",
        "None",
        "unknown",
        "n.a.",
        "--",
    ],
)
@pytest.mark.parametrize("what", ["amount", "created_at"])
def test_a_word_for_no_value_is_none(tmp_path: Path, word: str, what: str) -> None:
    columns = table(created_at=[f"{moment:%d.%m.%y}" for moment in MOMENTS], amount=AMOUNTS)
    columns[what] = [word, *columns[what][1:]]
    events = published(written(tmp_path, columns))
    assert what not in events[0]
    assert all(what in event for event in events[1:])


def test_a_word_that_says_something_elsewhere_is_kept_there(tmp_path: Path) -> None:
    columns = table(risk=["none", "low"] * 120, amount=["none", *AMOUNTS[1:]])
    events = published(written(tmp_path, columns))
    assert (events[0]["risk"], events[0].get("amount")) == ("none", None)


@pytest.mark.parametrize("first", [2**53 + 1, 2**63 - ROWS, 2**64 - ROWS])
@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_ids_beyond_floats_name_their_rows_exactly_and_are_no_feature(
    tmp_path: Path, first: int, kind: str
) -> None:
    from pyarrow import parquet

    numbers = [first + row for row in range(ROWS)]
    columns = {"customer": numbers, "amount": AMOUNTS, "label": [int(each) for each in LABEL]}
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        as_type = pa.uint64() if first >= 2**63 - ROWS else pa.int64()
        parquet.write_table(pa.table({**columns, "customer": pa.array(numbers, as_type)}), path)
    elif kind == "jsonl":
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        path.write_text(as_csv(columns))
    schema, _ = inferred(str(path), id="customer")
    assert schema.id == "customer"
    assert [feature.of for feature in schema.features] == ["amount"]
    assert [
        int(each) for each in values(published(str(path), id="customer"), "customer")
    ] == numbers


@pytest.mark.parametrize("ids", [
    [float(596 + row % 50) for row in range(ROWS)], [f"S{row % 5}" for row in range(ROWS)],
    [row % 50 for row in range(ROWS)],
])  # fmt: skip
def test_ids_are_never_features(tmp_path: Path, ids: list[object]) -> None:
    schema, _ = inferred(written(tmp_path, table(store_id=ids, amount=AMOUNTS)))
    assert [feature.of for feature in schema.features] == ["amount"]


def test_a_number_that_counts_the_rows_is_no_feature(tmp_path: Path) -> None:
    path = written(tmp_path, table(serial=list(range(7, 7 + ROWS)), amount=AMOUNTS))
    assert [feature.of for feature in inferred(path)[0].features] == ["amount"]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([*map(str, AMOUNTS[:-1]), "tbd"], "nearly a number: 239 of 240 values are, but not 'tbd'"),
        ([*(f"${x}" for x in AMOUNTS[:-1]), "€5"], "is nearly a number"),
        ([*(f"{t:%d.%m.%Y}" for t in MOMENTS[:-1]), "soon"], "is nearly a time"),
        ([f"{t:%Y-%m-%d %H:%M} PST" for t in MOMENTS], "is a time, but what PST means"),
        ([f"{40 + row % 60} {'kg' if row % 5 else 'lb'}" for row in range(ROWS)], "a number"),
        ([*(t.isoformat() for t in MOMENTS[:-1]), "soon"], "--missing=soon reads it as no value"),
    ],
)  # fmt: skip
def test_what_is_nearly_a_number_or_a_time_is_said(
    tmp_path: Path, texts: list[str], said: str
) -> None:
    assert said in warnings(written(tmp_path, table(thing=texts, amount=AMOUNTS)))


def test_a_word_that_is_named_as_missing_is_so_everywhere(tmp_path: Path) -> None:
    path = written(tmp_path, table(amount=["tbd", *AMOUNTS[1:]]))
    events = published(path, missing=["tbd"])
    assert values(events, "amount") == [None, *AMOUNTS[1:]]


def test_a_column_that_nearly_names_the_rows_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, {**table(amount=AMOUNTS), "order_id": [*IDS[:-1], IDS[0]]})
    assert "order_id is nearly an id, but of 240 rows 1 rows repeat a value" in warnings(path)


def test_text_that_reads_as_numbers_in_a_file_with_types_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"order_id": i, "x": f"{a}", "amount": a, "label": int(y)}
            for i, a, y in zip(IDS, AMOUNTS, LABEL, strict=True)]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    assert "x: its text reads as numbers; it stays text unless" in warnings(str(path))


def test_numbers_of_which_some_are_text_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    mixed = [str(a) if row % 3 else a for row, a in enumerate(AMOUNTS)]
    rows = [{"order_id": i, "amount": a, "label": int(y)}
            for i, a, y in zip(IDS, mixed, LABEL, strict=True)]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, rows)))
    assert values(published(str(path)), "amount") == AMOUNTS


CITIES = ["Köln", "Málaga", "Łódź", "Zürich"] * 60


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_any_usual_separator_is_seen(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "rows.csv"
    columns = table(city=CITIES, note=["a, b; c"] * ROWS, amount=AMOUNTS)
    path.write_text(as_csv(columns, separator), encoding="utf-8")
    events = published(str(path))
    assert (values(events, "city"), values(events, "amount")) == (CITIES, AMOUNTS)


@pytest.mark.parametrize("first", ["sep=;\r\n", "SEP=;\n"])
def test_a_first_line_may_name_the_separator(tmp_path: Path, first: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(first + as_csv(table(amount=AMOUNTS), ";"), encoding="utf-8-sig", newline="")
    assert values(published(str(path)), "amount") == AMOUNTS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("packed", [False, True])
def test_unicode_of_any_width_is_read_packed_or_not(
    tmp_path: Path, encoding: str, packed: bool
) -> None:
    path = tmp_path / ("rows.csv.gz" if packed else "rows.csv")
    content = as_csv(table(city=CITIES, amount=AMOUNTS), ";").encode(encoding)
    path.write_bytes(gzip.compress(content) if packed else content)
    events = published(str(path))
    assert (values(events, "city"), values(events, "amount")) == (CITIES, AMOUNTS)


def test_latin_letters_are_read_and_the_guess_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    cities = ["Köln", "Málaga"] * 120
    path.write_bytes(as_csv(table(city=cities, amount=AMOUNTS)).encode("latin-1"))
    assert "read as windows-1252, which is a guess" in sample_columns(str(path)).remarks[0]
    assert values(published(str(path)), "city") == cities
    path.write_bytes(as_csv(table(city=CITIES, amount=AMOUNTS)).encode("iso-8859-2", "replace"))
    assert values(published(str(path), encoding="iso-8859-2"), "city")[2] == "Łódź"


def test_a_later_file_that_is_utf_8_is_read_as_that(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    cities = ["Köln", "Málaga"] * 120
    text = as_csv(table(city=cities, amount=AMOUNTS))
    path.write_bytes(text.encode("latin-1"))
    pipeline = pipeline_of(str(path))
    path.write_bytes(text.encode())
    (batch,) = event_rows(pipeline, str(path), now=lambda: "", labelled=False)
    assert batch.columns["city"] == cities


def test_a_stray_nul_is_no_other_encoding(tmp_path: Path) -> None:
    path = written(tmp_path, table(city=["Köln\0"] * ROWS, amount=AMOUNTS))
    assert sample_columns(path).csv.encoding is None


def test_quotes_behind_backslashes_are_quotes(tmp_path: Path) -> None:
    notes = [f'he said "hi", ok {row % 3}' for row in range(ROWS)]
    columns = table(note=notes, amount=AMOUNTS)
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(columns, escapechar="\\", doublequote=False, quoting=csv.QUOTE_ALL))
    assert values(published(str(path)), "note") == notes


def test_backslashes_that_are_just_there_stay(tmp_path: Path) -> None:
    paths = [f"C:\\new\\{row % 3}\\" for row in range(ROWS)]
    path = written(tmp_path, table(folder=paths, amount=AMOUNTS))
    assert values(published(path), "folder") == paths


def test_line_ends_in_quotes_are_text_however_large_the_file(tmp_path: Path) -> None:
    count = 9000
    texts = [f"line one\nline two, {'x' * 200} {row % 3}" for row in range(count)]
    columns = {
        "order_id": [f"o{row}" for row in range(count)], "note": texts,
        "amount": [row % 97 for row in range(count)], "label": [row % 2 for row in range(count)],
    }  # fmt: skip
    path = written(tmp_path, columns)
    assert Path(path).stat().st_size > 2 << 20
    assert values(published(path), "note") == texts


@pytest.mark.parametrize("end", [",,\n", "\n\n", ",,\n,,\n\n", '"",,""\n'])
def test_blank_rows_at_the_end_are_no_rows(tmp_path: Path, end: str) -> None:
    path = written(tmp_path, table(amount=AMOUNTS))
    with Path(path).open("a") as file:
        file.write(end)
    assert inferred(path)[0].id == "order_id"
    assert values(published(path), "amount") == AMOUNTS


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_of_one_name_are_told_apart(tmp_path: Path, kind: str) -> None:
    from pyarrow import parquet

    path = tmp_path / f"rows.{kind}"
    others = [amount + 1 for amount in AMOUNTS]
    if kind == "csv":
        lines = [f"{i},{a},{b},{y}" for i, a, b, y in zip(IDS, AMOUNTS, others, LABEL, strict=True)]
        path.write_text("\n".join(["order_id,amount,amount,label", *lines]))
    else:
        arrays = [pa.array(IDS), pa.array(AMOUNTS), pa.array(others), pa.array(map(int, LABEL))]
        names = ["order_id", "amount", "amount", "label"]
        parquet.write_table(pa.Table.from_arrays(arrays, names=names), path)
    events = published(str(path))
    assert (values(events, "amount"), values(events, "amount_2")) == (AMOUNTS, others)


def test_decimals_are_numbers_and_bytes_are_text(tmp_path: Path) -> None:
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    exact = [Decimal(str(amount)) for amount in AMOUNTS]
    parquet.write_table(pa.table({
        "order_id": pa.array([each.encode() for each in IDS], pa.binary()),
        "amount": pa.array(exact, pa.decimal128(10, 2)),
        "count": pa.array([row % 7 for row in range(ROWS)], pa.decimal128(10, 0)),
        "label": pa.array(map(int, LABEL)),
    }), path)  # fmt: skip
    events = published(str(path))
    assert values(events, "order_id") == IDS
    assert values(events, "amount") == AMOUNTS
    assert values(events, "count")[:3] == [0, 1, 2]


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (["a", "b", "c"] * 80, "a pipeline tells two outcomes apart: give --positive VALUE"),
        ([str(a) for a in AMOUNTS], "a pipeline tells two outcomes apart and learns no amounts"),
    ],
)
def test_other_targets_are_answered_with_what_is_possible(
    tmp_path: Path, label: list[str], said: str
) -> None:
    with pytest.raises(LabelUnusable, match=said) as caught:
        inferred(written(tmp_path, {"amount": AMOUNTS, "label": label}))
    assert ("--positive" in str(caught.value)) == (label[0] == "a")


@pytest.mark.parametrize(
    "content", [b"\x1f\x8b\x08\x00", gzip.compress(b"a,label\n" * 9999)[:-20], b"\xff\xfea"]
)
def test_what_is_damaged_is_said_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(UnreadableDataset, match=r"rows.csv"):
        sample_columns(str(path))
