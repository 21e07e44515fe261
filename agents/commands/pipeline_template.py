"""A pipeline file for an inferred schema, as a person would write it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from models.schema import FieldPlan, InferredSchema
from topics.pipeline import CsvFormat, EventField, Feature, scalar

_WIDTH = 96
_MANY_ROWS = 5000
_MANY_COLUMNS = 30


class Template(NamedTuple):
    """What a pipeline file is made of, beside the schema."""

    name: str
    source: str
    """The data file, for the comment."""
    missing_values: Sequence[str]
    novelty: bool
    """Whether the features have a model that says how unlike the training data a row is."""
    review: float
    yes: float
    thresholds_from: str
    """Where the thresholds come from, for the comment."""
    schema_line: bool
    """Whether editors find `pipeline.schema.json` beside the file."""
    csv: CsvFormat = CsvFormat()


def render(schema: InferredSchema, template: Template) -> str:
    """The YAML text; `topics.pipeline.file.load_pipeline` accepts it."""
    parts = [_head, _event, _data, _components, _end]
    return "\n".join("\n".join(part(schema, template)) + "\n" for part in parts)


def _head(schema: InferredSchema, template: Template) -> Iterator[str]:
    if template.schema_line:
        yield "# yaml-language-server: $schema=pipeline.schema.json"
    source, label = " ".join(template.source.split()), schema.label
    question = f"is {scalar(label.column)} {scalar(label.positive)}?"
    yield f"# One row of {source} in, no / review / yes out: {question}"
    yield f"pipeline: {scalar(template.name)}"
    yield "partitions: 4"


def _event(schema: InferredSchema, _template: Template) -> Iterator[str]:
    yield "event:"
    yield _remarked(f"  id: {scalar(schema.id)}", _generated_id(schema))
    same = "the partition key: events of one key stay in order"
    yield _remarked(f"  key: {scalar(schema.key)}", same)
    yield _remarked(f"  time: {scalar(schema.time)}", "")
    yield "  fields:"
    for plan in schema.plans:
        if plan.field is not None:
            remark = "" if plan.features or not plan.remark else plan.remark
            if plan.column is not None and remark:
                remark = f"no feature: {remark}"
            yield _remarked(f"    {scalar(plan.name)}: {_field(plan.field)}", remark)
    for plan in schema.plans:
        if plan.field is None:
            yield f"    # left out: {scalar(plan.column)}, {plan.remark}"


def _generated_id(schema: InferredSchema) -> str:
    return "" if schema.row_number is None else "the file has no id column"


def _field(field: EventField) -> str:
    options = [f"type: {field.type}"]
    if field.type == "string" and field.max_length != EventField(type="string").max_length:
        options.append(f"max_length: {field.max_length}")
    if field.optional:
        options.append("optional: true")
    return "{" + ", ".join(options) + "}"


def _data(schema: InferredSchema, template: Template) -> Iterator[str]:
    label = schema.label
    yield _remarked("data:", "how the file's columns become events (publish and train)")
    yield f"  label: {scalar(label.column)}"
    if not label.plain:
        others = ", ".join(scalar(other) for other in label.others[:5])
        more = ", …" if len(label.others) > 5 else ""
        remark = f"the others are negative: {others}{more}"
        yield _remarked(f"  positive: {scalar(label.positive)}", remark)
    if template.missing_values:
        words = ", ".join(map(scalar, template.missing_values))
        yield _remarked(f"  missing_values: [{words}]", "like an empty value")
    if written := template.csv.model_dump(exclude_none=True):
        options = ", ".join(f"{name}: {_quoted(value)}" for name, value in written.items())
        yield _remarked(f"  csv: {{{options}}}", "how CSV files are written")
    if schema.row_number is not None:
        yield _remarked(f"  row_number: {schema.row_number}", "generated when published")
    if schema.published_at is not None:
        yield _remarked(
            f"  published_at: {schema.published_at}",
            "generated when published; training deals the rows out at random",
        )
    yield from _formats(schema)
    renamed = [plan for plan in schema.plans if plan.field and plan.column not in (None, plan.name)]
    if renamed:
        yield "  columns:"
        yield from (f"    {scalar(plan.column)}: {scalar(plan.name)}" for plan in renamed)


def _formats(schema: InferredSchema) -> Iterator[str]:
    """How single columns are written."""
    formats = {plan.name: plan.time_format for plan in schema.plans if plan.time_format}
    if formats:
        yield "  time_formats:"
        yield from (f"    {scalar(name)}: {scalar(form)}" for name, form in formats.items())
    numbers = {plan.name: plan.number_format for plan in schema.plans if plan.number_format}
    if numbers:
        yield _remarked("  number_formats:", "how 1234.56 is written")
        yield from (f"    {scalar(name)}: {_quoted(form)}" for name, form in numbers.items())
    missing = {plan.name: plan.missing_words for plan in schema.plans if plan.missing_words}
    if missing:
        yield _remarked("  missing_values_of:", "like an empty value, in that column")
        for name, texts in missing.items():
            yield f"    {scalar(name)}: [{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    """Text that YAML cannot take for anything else, nor a reader for a number."""
    written = scalar(text)
    return written if written[:1] in "'\"" else "'" + text.replace("'", "''") + "'"


def _components(schema: InferredSchema, template: Template) -> Iterator[str]:
    yield "components:"
    yield "  - name: features"
    yield "    kind: extract_features"
    yield "    from: [events]"
    yield "    features:"
    for plan in schema.plans:
        yield from _features(plan)
    if template.novelty:
        yield _remarked("    model:", "its signal: how unlike the training data the features are")
        yield from _model("sklearn.mixture.GaussianMixture", _mixture(schema))
    yield ""
    yield from _assessor("risk-linear", "assess_risk", ["features"])
    yield from _model("sklearn.linear_model.LogisticRegression", {"max_iter": 1000})
    yield ""
    yield from _assessor("risk-forest", "assess_risk", ["features"])
    leaf = 20 if schema.rows >= _MANY_ROWS else 5
    yield from _model(
        "sklearn.ensemble.RandomForestClassifier",
        {"n_estimators": 50, "max_depth": 8, "min_samples_leaf": leaf},
    )
    yield ""
    yield from _assessor("decision", "decide", _stages(template)[:-1])
    yield from _model("sklearn.linear_model.LogisticRegression", {"max_iter": 1000})


def _features(plan: FieldPlan) -> Iterator[str]:
    for feature in plan.features:
        line = f"      - {_feature(feature)}"
        if len(line) <= _WIDTH or feature.choices is None:
            yield line
            continue
        yield f"      - name: {scalar(feature.name)}"
        yield f"        of: {scalar(feature.of)}"
        yield f"        apply: {feature.apply}"
        choices = list(map(scalar, feature.choices))
        listed = f"        choices: [{', '.join(choices)}]"
        if len(listed) <= _WIDTH:
            yield listed
        else:
            yield "        choices:"
            yield from (f"          - {choice}" for choice in choices)


def _feature(feature: Feature) -> str:
    options = [f"name: {scalar(feature.name)}", f"of: {scalar(feature.of)}"]
    if feature.apply != "identity":
        options.append(f"apply: {feature.apply}")
    if feature.choices is not None:
        options.append(f"choices: [{', '.join(map(scalar, feature.choices))}]")
    if feature.missing is not None:
        options.append(f"missing: {scalar(_plain(feature.missing))}")
    return "{" + ", ".join(options) + "}"


def _plain(number: float) -> float:
    """A whole number without its decimal point."""
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _mixture(schema: InferredSchema) -> dict[str, object]:
    width = sum(len(feature.choices or [0]) for feature in schema.features)
    shape = {"covariance_type": "diag"} if width > _MANY_COLUMNS else {}
    return {"n_components": 4 if schema.rows >= _MANY_ROWS else 2, "reg_covar": 0.01, **shape}


def _stages(template: Template) -> list[str]:
    return [*(["features"] if template.novelty else []), "risk-linear", "risk-forest", "decision"]


def _assessor(name: str, kind: str, inputs: Sequence[str]) -> Iterator[str]:
    yield f"  - name: {name}"
    yield f"    kind: {kind}"
    yield f"    from: [{', '.join(inputs)}]"
    yield "    model:"


def _model(estimator: str, parameters: dict[str, object]) -> Iterator[str]:
    yield f"      estimator: {estimator}"
    listed = ", ".join(f"{name}: {scalar(value)}" for name, value in parameters.items())
    yield f"      parameters: {{{listed}}}"


def _end(_schema: InferredSchema, template: Template) -> Iterator[str]:
    yield "weighting:"
    yield f"  from: [{', '.join(_stages(template))}]"
    yield "  weights: learned"
    yield ""
    yield _remarked("policy:", template.thresholds_from)
    yield "  otherwise: 'no'"
    yield "  thresholds:"
    yield f"    review: {scalar(template.review)}"
    yield f"    'yes': {scalar(template.yes)}"


def _remarked(line: str, remark: str) -> str:
    return f"{line:<23}  # {remark}" if remark else line
