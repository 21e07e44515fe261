"""A pipeline for a file that nobody has seen: types, roles, features, label."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.commands import labelled_events
from agents.commands.pipeline_template import Template, render
from models.data.columns import outcome_name
from models.errors import TooFewRows
from models.schema.column_types import infer_column
from models.schema.errors import LabelUnusable, NoFeature, NoSuchColumn, RoleUnusable
from models.schema.feature_choice import auc
from models.schema.infer import (
    FieldNames,
    FieldPlan,
    InferredSchema,
    SchemaOptions,
    infer_schema,
    slug,
)
from models.schema.inferred_columns import InferredColumn
from models.schema.sampled_columns import sample_columns
from models.training.train import TrainingData
from topics.pipeline.file import load_pipeline
from topics.pipeline.schema import Pipeline
from topics.pipeline.yaml_text import scalar

pytest.importorskip("pyarrow", reason="the extra 'data' (pyarrow) is not installed")

ROWS = 240
LABEL = ["no", "yes", "no", "no"] * 60
NUMBERS = [str(row % 37 + 0.5) for row in range(ROWS)]
Table = dict[str, Sequence[object]]


def written(folder: Path, table: Table) -> str:
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return str(path)


def inferred(path: str, **wishes: Any) -> InferredSchema:
    sampled = sample_columns(path)
    asked = SchemaOptions(**{"label": "label", **wishes})
    return infer_schema(sampled.columns, asked, numbers_as_text=sampled.numbers_as_text)


def pipeline_of(path: str, folder: Path, **wishes: Any) -> Pipeline:
    template = Template(
        "made", path, sample_columns(path).missing_values, novelty=True, review=0.2, yes=0.5,
        thresholds_from="a test", schema_line=True, csv=sample_columns(path).csv,
    )  # fmt: skip
    (folder / "made.yaml").write_text(render(inferred(path, **wishes), template), "utf-8")
    return load_pipeline(folder / "made.yaml").pipeline


def read(path: str, folder: Path, **wishes: Any) -> tuple[Pipeline, TrainingData]:
    pipeline = pipeline_of(path, folder, **wishes)
    return pipeline, labelled_events.from_file(pipeline, path)


def plan(schema: InferredSchema, column: str) -> FieldPlan:
    return next(plan for plan in schema.plans if plan.column == column)


def of_text(*texts: str | None, name: str = "x", time: bool = False) -> InferredColumn:
    return infer_column(name, list(texts), numbers_as_text=True, time=time)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "2", "-3"], "integer"),
        (["1", "2.5", None], "number"),
        (["1e3", ".5", "7."], "number"),
        (["007", "12"], "string"),
        ([" 39", "4 "], "integer"),
        ([" +3", "-.5"], "number"),
        (["٣", "٤"], "string"),
        (["1,5", "2,5"], "number"),
        (["12345678901234567890", "1"], "number"),
        (["yes", "No", None], "boolean"),
        (["true", "false"], "boolean"),
        (["0", "1"], "boolean"),
        (["1", "1"], "integer"),
        (["yes", "maybe"], "string"),
        (["2024-01-05", "2024-01-06T10:00:00+02:00", "2024-01-06 10:00:00.25"], "timestamp"),
        (["31/12/2023", "01/02/2024"], "timestamp"),
        (["12/31/2023", "01/02/2024"], "timestamp"),
        (["31.12.2023 10:05", None], "timestamp"),
        (["31/12/2023", "2024-01-01"], "string"),
        (["20240105", "20240106"], "integer"),
    ],
)
def test_the_type_fits_every_value(texts: list[str | None], kind: str) -> None:
    assert of_text(*texts).type == kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, None], "integer"),
        ([1, 2.5], "number"),
        ([True, None, False], "boolean"),
        ([1, 0], "boolean"),
        (["1", "2"], "string"),
        (["2024-01-05", None], "timestamp"),
        ([2**70, 1], "number"),
        ([[1], [2]], None),
        ([{"a": 1}], None),
        ([1, "one"], None),
        ([None, None], None),
    ],
)
def test_values_with_types_keep_them(values: list[object], kind: str | None) -> None:
    assert infer_column("x", values, numbers_as_text=False).type == kind


@pytest.mark.parametrize(
    ("text", "form"), [("1700000000", "epoch_s"), ("1700000000123", "epoch_ms")]
)
def test_an_epoch_is_a_time_by_its_name_or_when_asked(text: str, form: str) -> None:
    other = str(int(text) + 1000)
    assert of_text(text, other).type == "integer"
    named, asked = of_text(text, other, name="createdAt"), of_text(text, other, time=True)
    assert (named.type, named.time_format) == (asked.type, asked.time_format) == ("timestamp", form)
    seconds = int(text) / (1000 if form == "epoch_ms" else 1)
    assert named.values[0] == pytest.approx(seconds * 1000)


def test_days_come_before_months_where_both_fit() -> None:
    (moment,) = of_text("03/04/2024").values
    assert datetime.fromtimestamp(moment / 1000, UTC).date().isoformat() == "2024-04-03"


@pytest.mark.parametrize(
    ("values", "positive", "plain"),
    [
        (["0", "1"], "1", True),
        (["no", "yes"], "yes", True),
        (["FALSE", "TRUE"], "TRUE", True),
        (["-1", "1"], "1", False),
        (["stayed", "left", "stayed", "stayed"], "left", False),
        (["1", "2", "1", "1"], "2", False),
    ],
)  # fmt: skip
def test_the_positive_outcome_is_yes_or_the_rarer_one(
    tmp_path: Path, values: list[str], positive: str, plain: bool
) -> None:
    label = values * (ROWS // len(values))
    path = written(tmp_path, {"x": NUMBERS, "label": label})
    found = inferred(path).label
    assert (found.positive, found.plain) == (positive, plain)
    assert found.positives == label.count(positive)
    pipeline, data = read(path, tmp_path)
    assert data.labels.sum() == label.count(positive)
    assert pipeline.data.positive is None or not plain


def test_the_user_may_choose_the_positive_outcome_of_many(tmp_path: Path) -> None:
    label = ["a", "b", "c"] * 80
    path = written(tmp_path, {"x": NUMBERS, "label": label})
    with pytest.raises(
        LabelUnusable,
        match=r"has 3 values, 'a', 'b', 'c'; a pipeline .* give --positive",
    ):
        inferred(path)
    found = inferred(path, positive="b").label
    assert (found.positives, found.others) == (80, ("a", "c"))
    assert read(path, tmp_path, positive="b")[1].labels.sum() == 80


def test_rows_without_an_outcome_are_not_trained_on(tmp_path: Path) -> None:
    label = ["NA", *LABEL[1:-1], ""]
    path = written(tmp_path, {"x": NUMBERS, "label": label})
    pipeline, data = read(path, tmp_path)
    assert pipeline.data.positive == "yes"
    assert (data.rows, data.labels.sum()) == (ROWS - 2, 60)


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        (["yes"] * ROWS, "one value only, 'yes'"),
        ([""] * ROWS, "is empty"),
        (["yes"] * 9 + ["no"] * (ROWS - 9), "one outcome in only 9 rows"),
    ],
)
def test_a_label_that_tells_nothing_apart_is_refused(
    tmp_path: Path, label: list[str], problem: str
) -> None:
    with pytest.raises(LabelUnusable, match=problem):
        inferred(written(tmp_path, {"x": NUMBERS, "label": label}))


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    table: Table = {"x": NUMBERS[:199], "label": LABEL[:199]}
    with pytest.raises(TooFewRows, match="199 rows"):
        inferred(written(tmp_path, table))


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"label": "lable"}, "--label: the file has no column 'lable'; did you mean 'label'?"),
        ({"label": "z"}, "the columns are x, label"),
        ({"time": "X_"}, "--time: the file has no column 'X_'"),
    ],
)
def test_an_unknown_column_is_named_with_those_like_it(
    tmp_path: Path, wishes: dict[str, str], message: str
) -> None:
    with pytest.raises(NoSuchColumn) as caught:
        inferred(written(tmp_path, {"x": NUMBERS, "label": LABEL}), **wishes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"time": "x"}, "type number, not times"),
        ({"id": "x"}, "type number, not texts or whole numbers"),
        ({"key": "gap"}, "has no value in 60 rows"),
        ({"id": "label"}, "is the label"),
        ({"time": "day"}, "sorts the label"),
    ],
)
def test_a_column_that_cannot_have_a_role_is_refused(
    tmp_path: Path, wishes: dict[str, str], message: str
) -> None:
    days = [f"2024-01-{1 + (each == 'yes'):02}" for each in LABEL]
    table: Table = {"x": NUMBERS, "gap": ["", "a", "b", "c"] * 60, "day": days, "label": LABEL}
    with pytest.raises(RoleUnusable, match=message):
        inferred(written(tmp_path, table), **wishes)


def test_a_file_with_other_separators_is_read_by_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("x;label\n" + "1;0\n3;1\n3;0\n" * 80)
    assert pipeline_of(str(path), tmp_path).data.csv.separator == ";"


def test_an_id_that_repeats_is_said(tmp_path: Path) -> None:
    table: Table = {"shop": [row % 9 for row in range(ROWS)], "x": NUMBERS, "label": LABEL}
    schema = inferred(written(tmp_path, table), id="shop")
    assert schema.id == schema.key == "shop"
    assert any("shop is the same in several rows" in warning for warning in schema.warnings)


def test_a_constant_with_gaps_is_only_there_or_missing(tmp_path: Path) -> None:
    schema = inferred(written(tmp_path, {"x": ["5", "", "5", ""] * 60, "label": LABEL}))
    assert [(f.name, f.apply) for f in schema.features] == [("x_missing", "missing")]


def test_two_columns_of_one_name_are_told_apart_by_a_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("x,x,label\n" + "1,2,0\n3,4,1\n3,2,0\n" * 80)
    assert [plan.column for plan in inferred(str(path)).plans if plan.column] == ["x", "x_2"]


def test_columns_that_say_nothing_make_no_feature(tmp_path: Path) -> None:
    table: Table = {
        "customer_id": range(ROWS), "constant": ["a"] * ROWS, "empty": [""] * ROWS,
        "comment": [f"text {row}" for row in range(ROWS)], "label": LABEL,
    }  # fmt: skip
    path = written(tmp_path, table)
    with pytest.raises(NoFeature, match="'label'"):
        inferred(path)
    schema = inferred(written(tmp_path, {**table, "x": NUMBERS}))
    assert [feature.name for feature in schema.features] == ["x"]
    assert plan(schema, "constant").remark == "constant"
    assert "240 different values" in plan(schema, "comment").remark
    assert plan(schema, "empty").field is None
    assert schema.id == schema.key == "customer_id"


def test_without_an_id_and_a_time_both_are_generated(tmp_path: Path) -> None:
    path = written(tmp_path, {"row_number": NUMBERS, "label": LABEL})
    pipeline, data = read(path, tmp_path)
    assert pipeline.event.id == pipeline.data.row_number == "row_number_2"
    assert pipeline.event.time == pipeline.data.published_at == "published_at"
    assert sorted(data.columns["row_number_2"]) == list(range(1, ROWS + 1))
    assert set(data.columns["published_at"]) == {0}


def test_rows_without_times_are_dealt_out_evenly_and_always_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, {"x": NUMBERS, "label": sorted(LABEL)})
    _, data = read(path, tmp_path)
    assert [int(part.sum()) for part in np.split(data.labels, 10)] == [6] * 10
    assert read(path, tmp_path)[1].digest() == data.digest()
    pipeline = pipeline_of(path, tmp_path)
    assert labelled_events.from_file(pipeline, path, seed=1).digest() != data.digest()


def test_the_only_complete_time_is_the_events(tmp_path: Path) -> None:
    days = [f"2024-01-{row % 27 + 1:02}" for row in range(ROWS)]
    table: Table = {"day": days, "birth_date": days, "x": NUMBERS, "label": LABEL}
    schema = inferred(written(tmp_path, table))
    assert schema.time == "day"
    assert [f.name for f in plan(schema, "day").features] == ["day_day_of_week"]
    several = inferred(written(tmp_path, {**table, "due": days, "seen": days}))
    assert several.published_at == "published_at"
    assert any("day, seen could each be the event time" in text for text in several.warnings)
    assert inferred(written(tmp_path, {**table, "seen": days}), time="seen").time == "seen"


def test_a_time_that_sorts_the_label_is_not_used(tmp_path: Path) -> None:
    days = [f"2024-{row // 20 + 1:02}-{row % 20 + 1:02}" for row in range(ROWS)]
    schema = inferred(written(tmp_path, {"day": days, "x": NUMBERS, "label": sorted(LABEL)}))
    assert schema.published_at == "published_at"
    assert any("day is not used as the event time" in warning for warning in schema.warnings)


def test_missing_numbers_count_as_the_median_and_as_missing(tmp_path: Path) -> None:
    numbers = ["", "NA", "null", *map(str, range(ROWS - 3))]
    schema = inferred(written(tmp_path, {"x": numbers, "label": LABEL}))
    value, gone = plan(schema, "x").features
    assert (value.missing, gone.apply) == (118, "missing")


def test_words_for_no_value_may_have_blanks_around_them(tmp_path: Path) -> None:
    path = written(tmp_path, {"x": [" ?", " ", *NUMBERS[2:]], "label": LABEL})
    pipeline, data = read(path, tmp_path)
    assert pipeline.data.missing_values == [" ", " ?"]
    assert np.isnan(data.columns["x"]).sum() == 2


def test_amounts_over_orders_of_magnitude_become_logarithms(tmp_path: Path) -> None:
    amounts = [10 ** (row % 7) for row in range(ROWS)]
    schema = inferred(written(tmp_path, {"paid": amounts, "label": LABEL}))
    assert [(f.name, f.apply) for f in schema.features] == [("paid_log", "log1p")]


def test_categories_become_columns_and_scales_keep_their_order(tmp_path: Path) -> None:
    table: Table = {
        "size": ["Large", "Small", "Medium"] * 80, "town": ["Brno", "Aš", ""] * 80, "label": LABEL,
    }  # fmt: skip
    size, town = inferred(written(tmp_path, table)).features
    assert (size.apply, size.choices) == ("ordinal", ["Small", "Medium", "Large"])
    assert (town.apply, town.choices) == ("one_hot", ["Aš", "Brno"])


@pytest.mark.parametrize(
    ("column", "warning", "features"),
    [
        (["A" if each == "no" else "B" for each in LABEL], "equals the label", 0),
        (["7" if each == "no" else "1" for each in LABEL], "equals the label", 0),
        ([f"{i % 5 + 9 * (each == 'yes')}" for i, each in enumerate(LABEL)], "without error", 1),
        (["" if each == "no" else NUMBERS[i] for i, each in enumerate(LABEL)], "is missing", 2),
        ([each + "ab"[i % 2] for i, each in enumerate(LABEL)], "one outcome only", 1),
    ],
)
def test_a_column_that_gives_the_label_away_is_reported(
    tmp_path: Path, column: list[str], warning: str, features: int
) -> None:
    schema = inferred(written(tmp_path, {"leak": column, "x": NUMBERS, "label": LABEL}))
    assert len(schema.warnings) == 1
    assert schema.warnings[0].startswith("leak ")
    assert warning in schema.warnings[0]
    assert len(plan(schema, "leak").features) == features


def test_ordinary_columns_raise_no_warning(tmp_path: Path) -> None:
    assert inferred(written(tmp_path, {"x": NUMBERS, "label": LABEL})).warnings == []


@pytest.mark.parametrize(
    "name", ["", "no", "null", "a: b", "客户", "1st", "#", "'", "x" * 300, "π\t", "<<"]
)
def test_any_column_name_makes_a_pipeline_file(tmp_path: Path, name: str) -> None:
    pipeline, data = read(written(tmp_path, {name: NUMBERS, "label": LABEL}), tmp_path)
    assert data.rows == ROWS
    assert len(pipeline.component("features").features or []) == 1


def test_columns_whose_names_become_one_stay_apart(tmp_path: Path) -> None:
    table: Table = {
        "a b": NUMBERS, "a-b": ["", *NUMBERS[1:]], "A_B": NUMBERS, "a_b_2_missing": NUMBERS,
        "label": LABEL,
    }  # fmt: skip
    pipeline, data = read(written(tmp_path, table), tmp_path)
    assert list(pipeline.event.fields)[2:] == ["a_b", "a_b_2", "a_b_3", "a_b_2_missing"]
    assert np.isnan(data.columns["a_b_2"]).sum() == 1


def test_json_lines_and_parquet_make_the_same_pipeline(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    days = [datetime(2024, 1, row % 28 + 1, row % 24, tzinfo=UTC) for row in range(ROWS)]
    table: dict[str, list[Any]] = {
        "at": days, "x": [float(each) for each in NUMBERS], "n": [None, 3, 4, 5] * 60,
        "town": ["Brno", None] * 120, "paid": [True, False, None] * 80, "label": [0, 1] * 120,
    }  # fmt: skip
    parquet.write_table(pa.table(table), tmp_path / "rows.parquet")
    lines = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    text = "".join(json.dumps(line, default=datetime.isoformat) + "\n" for line in lines)
    (tmp_path / "rows.jsonl").write_text(text)
    path = [read(str(tmp_path / f"rows.{form}"), tmp_path) for form in ("parquet", "jsonl")]
    (one, first), (other, second) = path
    assert one == other
    assert first.digest() == second.digest()
    assert first.rows == ROWS
    assert one.event.time == "at"


cells = st.one_of(
    st.sampled_from(
        [
            "",
            "NA",
            "null",
            "-",
            "?",
            "yes",
            "no",
            "0",
            "1",
            "2024-01-05",
            "007",
            " 5",
            " ",
            " NA",
            "+1",
        ]
    ),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(str),
    st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1)).map(str),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), max_size=12),
)
pools = st.one_of(
    st.lists(cells, min_size=1, max_size=6),
    *(st.lists(kind, min_size=1, max_size=6) for kind in (
        st.integers(-(10**20), 10**20).map(str),
        st.sampled_from(["", "NA", "1", "2.5", "1e30", "3"]),
        st.sampled_from(["yes", "No", "", "TRUE", "f"]),
        st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1)).map(str),
        st.dates().map(lambda day: day.strftime("%d/%m/%Y")),
    )),
)  # fmt: skip


@settings(max_examples=40)
@given(st.lists(pools, min_size=1, max_size=4))
def test_every_row_of_any_file_is_a_valid_event(columns: list[list[str]]) -> None:
    table: Table = {"x": NUMBERS, "label": LABEL}
    table |= {
        f"c{place}": [pool[row % len(pool)] for row in range(ROWS)]
        for place, pool in enumerate(columns)
    }
    with TemporaryDirectory() as folder:
        _, data = read(written(Path(folder), table), Path(folder))
    assert data.rows == ROWS


@given(st.text() | st.floats() | st.integers() | st.booleans() | st.none())
def test_an_outcome_has_one_name_or_none(value: object) -> None:
    name = outcome_name(value)
    assert name is None or outcome_name(name) == name


@given(st.text(max_size=80))
def test_a_slug_is_a_plain_name_and_its_own_slug(name: str) -> None:
    made = slug(name)
    assert not made or made.isidentifier()
    assert slug(made) == made


@given(st.lists(st.sampled_from(["A", "a", "a_2", "b", ""]), unique=True))
def test_field_names_are_used_once(columns: list[str]) -> None:
    names = FieldNames(columns)
    assert len({names.of(column) for column in columns}) == len(columns)


def test_a_column_called_as_what_features_count_is_a_field_like_any_other(tmp_path: Path) -> None:
    path = written(tmp_path, {"Events": NUMBERS, "outcomes": NUMBERS[::-1], "label": LABEL})
    features = pipeline_of(path, tmp_path).components[0].features or []
    assert [feature.of for feature in features] == ["events_2", "outcomes_2"]


@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(["<<", "=", "~", "on"]))
@example("\n")
def test_any_text_is_one_line_of_yaml(text: str) -> None:
    import yaml

    line = scalar(text)
    assert "\n" not in line
    assert yaml.safe_load(f"a:\n  {line}: [{line}, 1]\n") == {"a": {text: [text, 1]}}


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2))
def test_auc_is_that_of_all_pairs(rows: list[tuple[int, bool]]) -> None:
    positives = [value for value, outcome in rows if outcome]
    negatives = [value for value, outcome in rows if not outcome]
    if positives and negatives:
        wins = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
        values, outcomes = zip(*rows, strict=True)
        made = auc(np.array(values, float), np.array(outcomes, bool))
        assert made == pytest.approx(sum(wins) / len(wins))
