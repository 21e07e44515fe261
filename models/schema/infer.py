"""A pipeline's schema from the columns of a data file: fields, roles, features, label."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from models.data import PLAIN, Column, json_values
from models.schema.column_types import Customs, has_decimal_comma, infer_column, month_first
from models.schema.errors import NoFeature, NoSuchColumn, RoleUnusable
from models.schema.feature_choice import choose_features, tells_the_label
from models.schema.inferred_columns import InferredColumn
from models.schema.label import InferredLabel, infer_label
from models.schema.roles import find_id, find_time, usable
from topics.pipeline import EVENTS, OUTCOMES, EventField, Feature


@dataclass(frozen=True, slots=True)
class SchemaOptions:
    """What the user said about the columns; None is left to inference."""

    label: str
    positive: str | None = None
    id: str | None = None
    key: str | None = None
    time: str | None = None
    month_first: bool | None = None
    """How dates are read that can be read both ways."""


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """What becomes of a column of the file."""

    column: str | None
    """None for a field that is generated."""
    name: str
    """The event field."""
    field: EventField | None
    """None for a column that is left out."""
    features: Sequence[Feature] = ()
    time_format: str | None = None
    number_format: str | None = None
    missing_words: Sequence[str] = ()
    """Text that stands for no value in this column alone."""
    remark: str = ""
    """Why it has no feature, or no field."""


@dataclass(frozen=True, slots=True)
class InferredSchema:
    """All that a pipeline file says about the data."""

    label: InferredLabel
    rows: int
    plans: Sequence[FieldPlan]
    id: str
    key: str
    time: str
    row_number: str | None
    """The field that is generated for want of an id column; it is the id then."""
    published_at: str | None
    """The field that is generated for want of event times; it is the time then."""
    warnings: Sequence[str] = field(default_factory=list)

    @property
    def features(self) -> list[Feature]:
        """The features of all columns, in the order of the file."""
        return [feature for plan in self.plans for feature in plan.features]

    def role(self, plan: FieldPlan) -> str:
        """`id`, `key`, `time`, several of them, or nothing."""
        roles = {"id": self.id, "key": self.key, "time": self.time}
        return ", ".join(role for role, name in roles.items() if plan.field and name == plan.name)


def infer_schema(
    columns: Mapping[str, Column], options: SchemaOptions, *, numbers_as_text: bool
) -> InferredSchema:
    """The schema of a file with these columns (name → N values).

    `numbers_as_text` as in `infer_column`. Raises SchemaError and TooFewRows.
    """
    _check(columns, options)
    label = infer_label(options.label, columns[options.label], options.positive)
    inferred, warnings = _inferred(columns, options, numbers_as_text=numbers_as_text)
    id_column = find_id(inferred, options.id, warnings)
    if id_column is not None and inferred[id_column].distinct < label.known.size:
        warnings.append(
            f"{id_column} is the same in several rows: a decision names it all the same"
        )
    key_column = id_column if options.key is None else usable(inferred, options.key, "key")
    time_column = find_time(inferred, options.time, label, warnings)
    names = FieldNames(columns)
    row_number = names.new("row_number") if id_column is None else None
    published_at = names.new("published_at") if time_column is None else None
    plans = [
        *_generated(row_number, published_at),
        *(
            _plan(column, names.of(name), label, warnings, is_event_time=name == time_column,
                  is_id=name == id_column)
            for name, column in inferred.items()
        ),
    ]  # fmt: skip
    if not any(plan.features for plan in plans):
        raise NoFeature(options.label)
    plans = _with_unique_names(plans)
    identity = row_number or names.of(id_column or "")
    return InferredSchema(
        label, len(label.known), plans, row_number=row_number, published_at=published_at,
        id=identity, key=identity if key_column is None else names.of(key_column),
        time=published_at or names.of(time_column or ""), warnings=warnings,
    )  # fmt: skip


def _inferred(
    columns: Mapping[str, Column], options: SchemaOptions, *, numbers_as_text: bool
) -> tuple[dict[str, InferredColumn], list[str]]:
    """Each column but the label, and what is to be said of some.

    What can be read in two ways is read as the file's other columns are.
    """

    def infer(name: str, customs: Customs) -> InferredColumn:
        return infer_column(
            name, columns[name], numbers_as_text=numbers_as_text, time=name == options.time,
            customs=customs,
        )  # fmt: skip

    wished = Customs(month_first=options.month_first)
    inferred = {name: infer(name, wished) for name in columns if name != options.label}
    plain = [column for column in inferred.values() if not column.other_formats]
    months = {month_first(column) for column in plain} - {None}
    customs = Customs(
        months.pop() if options.month_first is None and len(months) == 1 else options.month_first,
        decimal_comma=any(has_decimal_comma(column) for column in plain),
    )
    warnings: list[str] = []
    for name, column in inferred.items():
        is_plain = column.type == "number" and column.number_format is None
        if column.other_formats or (customs.decimal_comma and is_plain):
            inferred[name] = again = infer(name, customs)
            warnings += filter(None, [_either_way(again, columns[name], options)])
        if inferred[name].remark:
            warnings.append(f"{name}{inferred[name].remark}")
    return inferred, warnings


def _either_way(column: InferredColumn, values: Column, options: SchemaOptions) -> str:
    """What a column's values may be taken for as well; "" where the user has said it."""
    example = next((str(value) for value in json_values(values) if value is not None), "")
    others = " or ".join(column.other_formats)
    if not others:
        return ""
    if column.time_format is not None:
        if options.month_first is not None:
            return ""
        other = "--day-first" if month_first(column) else "--month-first"
        return (
            f"{column.name}: which is the day and which the month of {example} cannot be told; "
            f"read as {column.time_format}, not {others}: {other} for that"
        )
    return (
        f"{column.name}: {example} is read as {column.number_format or PLAIN} writes it; it may be "
        f"{others} too: data.number_formats in the pipeline file says which"
    )


def _check(columns: Mapping[str, Column], options: SchemaOptions) -> None:
    """Raise NoSuchColumn or RoleUnusable for a wish that the file cannot fulfil."""
    asked = {"label": options.label, "id": options.id, "key": options.key, "time": options.time}
    for option, name in asked.items():
        if name is not None and name not in columns:
            raise NoSuchColumn(option, name, list(columns))
    for option in ("id", "key", "time"):
        if asked[option] == options.label:
            raise RoleUnusable(option, options.label, "is the label, which is never published")


def _generated(row_number: str | None, published_at: str | None) -> list[FieldPlan]:
    plans = []
    if row_number is not None:
        remark = "generated: the row's number in the file"
        plans.append(FieldPlan(None, row_number, EventField(type="integer"), remark=remark))
    if published_at is not None:
        remark = "generated: the time of publishing"
        plans.append(FieldPlan(None, published_at, EventField(type="timestamp"), remark=remark))
    return plans


def _plan(
    column: InferredColumn, name: str, label: InferredLabel, warnings: list[str], *,
    is_event_time: bool, is_id: bool,
) -> FieldPlan:  # fmt: skip
    if column.type is None:
        return FieldPlan(column.name, name, None, remark=column.problem)
    event_field = EventField(
        type=column.type, optional=bool(column.missing.any()), max_length=_max_length(column)
    )
    telling = tells_the_label(_known(column, label), label.outcomes[label.known])
    features, remark = ([], "") if is_id else choose_features(
        column, name, is_event_time=is_event_time
    )  # fmt: skip
    if telling == "equals the label":
        features, remark = [], telling
    if telling and (features or remark == telling):
        kept = "it makes no feature" if not features else (
            "a model that reads it says nothing else; remove its features unless its value is "
            "known when the event happens"
        )  # fmt: skip
        warnings.append(f"{column.name} {telling}: {kept}")
    return FieldPlan(
        column.name, name, event_field, features, column.time_format, column.number_format,
        column.missing_words, remark,
    )  # fmt: skip


def _with_unique_names(plans: Sequence[FieldPlan]) -> list[FieldPlan]:
    """The plans with a number behind a feature's name that another feature has."""
    names = FieldNames()
    return [
        replace(plan, features=[
            feature.model_copy(update={"name": names.new(feature.name)})
            for feature in plan.features
        ])
        for plan in plans
    ]  # fmt: skip


def _known(column: InferredColumn, label: InferredLabel) -> InferredColumn:
    """The column in the rows that have an outcome."""
    return InferredColumn(column.name, column.type, column.values[label.known], column.distinct)


def _max_length(column: InferredColumn) -> int:
    """Room for texts twice as long as the longest one, in powers of two; 256 at least."""
    if column.type != "string":
        return 256
    longest = max(map(len, column.values.tolist()))
    return max(256, 1 << (2 * longest - 1).bit_length())


class FieldNames:
    """Event field names for columns: short, readable, each used once.

    None is `events` or `outcomes`: a feature `of:` these is of what has come, not of a field.
    """

    def __init__(self, columns: Iterable[str] = ()) -> None:
        self._taken = {EVENTS, OUTCOMES}
        self._of = {name: self.new(slug(name) or f"column_{place}")
                    for place, name in enumerate(columns, 1)}  # fmt: skip

    def of(self, column: str) -> str:
        """The field of a column."""
        return self._of[column]

    def new(self, wanted: str) -> str:
        """*wanted*, or with a number behind it when that is taken."""
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name


def slug(name: str) -> str:
    """The name in lower case ASCII letters, digits and underscores; "" when none is left.

    >>> slug("Montant payé (€)"), slug("2nd visit"), slug("客户")
    ('montant_paye', 'n2nd_visit', '')
    """
    spaced = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)
    plain = unicodedata.normalize("NFKD", spaced).encode("ascii", "ignore").decode().casefold()
    ascii_name = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:40].rstrip("_")
    return f"n{ascii_name}" if ascii_name[:1].isdigit() else ascii_name
