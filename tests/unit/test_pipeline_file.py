"""Every mistake in a pipeline file is told with its line and its field, all at once."""

from __future__ import annotations

from graphlib import CycleError
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are another package
import pytest
import yaml

from topics.errors import AnabranchError
from topics.pipeline.file import (
    PipelineFileError,
    PipelineNotFound,
    find_pipeline,
    load_pipeline,
    load_policy,
)
from topics.pipeline.readers import in_order
from topics.pipeline.schema import Pipeline

CARD_FRAUD = Path(__file__).parents[2] / "deploy" / "pipelines" / "card-fraud.yaml"

MINIMAL = """\
pipeline: parcels
partitions: 3
event:
  id: parcel_id
  key: parcel_id
  time: sent_at
  fields:
    parcel_id: {type: string}
    sent_at: {type: timestamp}
    weight: {type: number, minimum: 0}
    country: {type: string}
    fragile: {type: boolean, optional: true}
    shape: {type: vector, length: 3}
    count: {type: integer}
data:
  label: LOST
  columns:
    WEIGHT: weight
components:
  - name: features
    kind: extract_features
    from: [events]
    features:
      - {name: weight, of: weight}
      - {name: hour, of: sent_at, apply: hour}
  - name: risk
    kind: assess_risk
    from: [features]
    partitions: 3
    model:
      estimator: sklearn.linear_model.LogisticRegression
  - name: own
    import: my.module:Own
    from: [events]
    options: {speed: 3}
weighting:
  from: [features, risk, own]
  weights: {features: 0.2, risk: 0.5, own: 0.3}
policy:
  otherwise: pass
  thresholds:
    review: 0.1
    stop: 0.5
"""


def written(*changes: tuple[str, str]) -> str:
    """The minimal pipeline file with the text of each change replaced."""
    text = MINIMAL
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text


def line_of(part: str, text: str = MINIMAL) -> int:
    lines = [number for number, line in enumerate(text.split("\n"), 1) if part in line]
    assert len(lines) == 1, f"{part!r} is on lines {lines}"
    return lines[0]


def problems(folder: Path, text: str | bytes) -> list[tuple[int, str, str]]:
    path = folder / "parcels.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PipelineFileError) as caught:
        load_pipeline(path)
    for line, (at, field, message) in zip(
        str(caught.value).splitlines(), caught.value.problems, strict=True
    ):
        assert line == f"{path}:{at}: {field}{': ' if field else ''}{message}"
    assert isinstance(caught.value, AnabranchError)
    return caught.value.problems


def test_a_minimal_pipeline_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "parcels.yaml"
    path.write_text(MINIMAL)
    loaded = load_pipeline(path)
    pipeline = loaded.pipeline
    assert loaded.path == path
    assert pipeline.name == "parcels"
    assert pipeline.partitions == 3
    assert [component.name for component in pipeline.components] == ["features", "risk", "own"]
    assert pipeline.component("risk").inputs == ["features"]
    assert pipeline.component("own").options == {"speed": 3}
    assert pipeline.weighting.missing == "renormalise"
    assert in_order(pipeline).index("risk") > in_order(pipeline).index("features")
    assert loaded.lines["components", 1, "from"] == line_of("from: [features]")
    with pytest.raises(KeyError):
        pipeline.component("nobody")


def test_card_fraud_loads_and_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_pipeline("card-fraud").samefile(CARD_FRAUD)
    assert find_pipeline(str(CARD_FRAUD)) == CARD_FRAUD
    pipeline = load_pipeline(CARD_FRAUD).pipeline
    assert pipeline.name == "card-fraud"
    assert in_order(pipeline)[0] == "features"
    assert in_order(pipeline)[-1] == "decision"


@pytest.mark.parametrize("name", ["card-frod", "none.yaml", "none.yml"])
def test_a_pipeline_that_is_not_there_is_not_found(name: str) -> None:
    with pytest.raises(PipelineNotFound, match=name) as caught:
        find_pipeline(name)
    if "." not in name:
        assert "card-fraud" in str(caught.value), "the known ones are named"


# What is changed in the file, and the problems as (part of the line, field, part of the message).
Case = tuple[list[tuple[str, str]], list[tuple[str, str, str]]]
REFUSALS: dict[str, Case] = {
    "an unknown component in from": (
        [("from: [features]", "from: [features, featurez]")],
        [
            (
                "from: [features, featurez]",
                "components[1].from[1]",
                "unknown component 'featurez'; known: events, features, own, risk",
            )
        ],
    ),
    "an unknown component in weighting": (
        [
            ("from: [features, risk, own]", "from: [features, risk, own, ow]"),
            ("own: 0.3", "own: 0.3, ow: 0"),
        ],
        [
            (
                "from: [features, risk, own, ow]",
                "weighting.from[3]",
                "unknown component 'ow'; known: features, own, risk",
            )
        ],
    ),
    "events in weighting": (
        [
            ("from: [features, risk, own]", "from: [features, risk, own, events]"),
            ("own: 0.3", "own: 0.3, events: 0"),
        ],
        [("own, events]", "weighting.from[3]", "unknown component 'events'")],
    ),
    "a component listed twice": (
        [("from: [features]", "from: [features, features]")],
        [("from: [features, features]", "components[1].from[1]", "'features' is listed twice")],
    ),
    "a dead end": (
        [("from: [features, risk, own]", "from: [features, risk]"), (", own: 0.3", ", "),
         ("risk: 0.5", "risk: 0.8")],
        [("name: own", "components[2].name", "a dead end: nothing reads 'own'")],
    ),
    "two components with one name": (
        [("name: own", "name: risk"), ("from: [features, risk, own]", "from: [features, risk]"),
         ("risk: 0.5, own: 0.3", "risk: 0.8")],
        [
            ("kind: assess_risk", "components[1].name", "two components are called 'risk'"),
            ("import: my", "components[2].name", "two components are called 'risk'"),
        ],
    ),
    "unequal partition counts": (
        [("    partitions: 3", "    partitions: 4")],
        [("    partitions: 4", "components[1].partitions", "4 is not the pipeline's 3")],
    ),
    "weights that do not sum to 1": (
        [("own: 0.3", "own: 0.4")],
        [("weighting:", "weighting", "weights must sum to 1, these sum to 1.1")],
    ),
    "weights of other stages": (
        [("own: 0.3", "mine: 0.3")],
        [("weighting:", "weighting", "weights must name exactly the stages of from:")],
    ),
    "a missing model file": (
        [("estimator: sklearn.linear_model.LogisticRegression", "path: models/risk.onnx")],
        [("path: models/risk.onnx", "components[1].model.path", "no such file: ")],
    ),
    "an unknown field": (
        [("otherwise: pass", "otherwice: pass")],
        [("otherwice", "policy.otherwice", "unknown field")],
    ),
    "an unknown field at the top": (
        [("partitions: 3\nevent", "partition: 7\nevent")],
        [("partition: 7", "partition", "unknown field")],
    ),
    "an unknown field of a component": (
        [("options: {speed: 3}", "option: {speed: 3}")],
        [("option: {", "components[2].option", "unknown field")],
    ),
    "a missing field": (
        [("  key: parcel_id\n", "")],
        [("event:", "event.key", "Field required")],
    ),
    "a key that is given twice": (
        [("otherwise: pass", "otherwise: pass\n  otherwise: hold")],
        [("otherwise: hold", "policy.otherwise", "is given twice")],
    ),
    "an unknown event field in a feature": (
        [("of: sent_at, apply", "of: send_at, apply")],
        [("send_at", "components[0].features[1].of", "no event field 'send_at'; known: parcel_id")],
    ),
    "an hour of a number": (
        [("of: sent_at, apply", "of: weight, apply")],
        [("apply: hour", "components[0].features[1].apply",
          "hour needs a timestamp; 'weight' is a number")],
    ),
    "a logarithm of a string": (
        [("of: sent_at, apply: hour", "of: country, apply: log1p")],
        [("apply: log1p", "components[0].features[1].apply",
          "log1p needs a integer or number or boolean; 'country' is a string")],
    ),
    "a category of a number": (
        [("of: sent_at, apply: hour", "of: count, apply: one_hot, choices: [a]")],
        [("one_hot", "components[0].features[1].apply", "one_hot needs a string; 'count' is")],
    ),
    "a vector as a feature": (
        [("of: sent_at, apply: hour", "of: shape, apply: identity")],
        [("of: shape", "components[0].features[1].apply", "'shape' is a vector")],
    ),
    "a timestamp as a number": (
        [("of: sent_at, apply: hour", "of: sent_at, apply: identity")],
        [("of: sent_at", "components[0].features[1].apply", "'sent_at' is a timestamp")],
    ),
    "no as a string": (
        [("otherwise: pass", "otherwise: no")],
        [("otherwise", "policy.otherwise", 'YAML reads no as false: put it in quotes, "no"')],
    ),
    "yes as a decision": (
        [("    review: 0.1", "    yes: 0.1")],
        [("yes: 0.1", "policy.thresholds.yes", 'YAML reads yes as true: put it in quotes, "yes"')],
    ),
    "on as a field": (
        [("    country: {type: string}", "    on: {type: string}")],
        [("on: {type", "event.fields.on", 'YAML reads on as true: put it in quotes, "on"')],
    ),
    "off as a column": (
        [("    WEIGHT: weight", "    Off: weight")],
        [("Off: weight", "data.columns.Off", 'YAML reads Off as false: put it in quotes, "Off"')],
    ),
    "words in a list": (
        [("country: {type: string}",
          "country: {type: string, choices: [a, no, 007, 1:30, 2018-04-01]}")],
        [
            ("choices", "event.fields.country.choices[1]", "YAML reads no as false"),
            ("choices", "event.fields.country.choices[2]", "YAML reads 007 as the number 7"),
            ("choices", "event.fields.country.choices[3]", "YAML reads 1:30 as the number 90"),
            ("choices", "event.fields.country.choices[4]", "YAML reads 2018-04-01 as a date"),
        ],
    ),
    "a null": (
        [("otherwise: pass", "otherwise: ~")],
        [("otherwise", "policy.otherwise", 'YAML reads ~ as nothing: put it in quotes, "~"')],
    ),
    "a value that is left out": (
        [("otherwise: pass", "otherwise:")],
        [("otherwise", "policy.otherwise", "has no value: give one")],
    ),
    "an unknown transform": (
        [("apply: hour", "apply: minute")],
        [("apply: minute", "components[0].features[1].apply", "Input should be 'identity',")],
    ),
    "one_hot without choices": (
        [("of: sent_at, apply: hour", "of: country, apply: one_hot")],
        [("one_hot", "components[0].features[1]", "go together")],
    ),
    "a feature of an optional field without a value for missing ones": (
        [("of: sent_at, apply: hour", "of: fragile")],
        [("of: fragile", "components[0].features[1].missing", "'fragile' is optional: give")],
    ),
    "a value for missing ones of a category": (
        [("apply: hour", "apply: ordinal, choices: [a], missing: 0")],
        [("ordinal", "components[0].features[1]", "missing: is not for ordinal")],
    ),
    "a feature of a generated field": (
        [("  label: LOST", "  label: LOST\n  published_at: sent_at")],
        [("apply: hour", "components[0].features[1].of", "'sent_at' is generated")],
    ),
    "a row number that is a time": (
        [("  label: LOST", "  label: LOST\n  row_number: sent_at\n  time_formats: {at: epoch_s}"),
         ("of: sent_at, apply: hour", "of: count")],
        [
            ("row_number", "data.row_number", "'sent_at' must be a string or integer field"),
            ("epoch_s", "data.time_formats.at", "no event field 'at'"),
        ],
    ),
    "two features with one name": (
        [("{name: hour, of", "{name: weight, of")],
        [
            ("{name: weight, of: weight}", "components[0].features[0].name", "'weight'"),
            ("apply: hour", "components[0].features[1].name", "two features are called"),
        ],
    ),
    "a reserved name": (
        [("name: own", "name: outcomes"), ("risk, own]", "risk, outcomes]"),
         ("own: 0.3", "outcomes: 0.3")],
        [("name: outcomes", "components[2].name", "'outcomes' is the name of another topic")],
    ),
    "a component that reads events and others": (
        [("Own\n    from: [events]", "Own\n    from: [events, risk]")],
        [("from: [events, risk]", "components[2].from", "either events or other components")],
    ),
    "features that read no events": (
        [("kind: extract_features\n    from: [events]", "kind: extract_features\n    from: [own]")],
        [("from: [own]", "components[0].from", "extract_features reads events: from: [events]")],
    ),
    "a risk that reads events": (
        [("from: [features]", "from: [events]  # here")],
        [("# here", "components[1].from", "assess_risk reads components")],
    ),
    "thresholds that do not ascend": (
        [("stop: 0.5", "stop: 0.05")],
        [("policy:", "policy", "thresholds must ascend strictly, these are [0.1, 0.05]")],
    ),
    "equal thresholds": (
        [("stop: 0.5", "stop: 0.1")],
        [("policy:", "policy", "thresholds must ascend strictly, these are [0.1, 0.1]")],
    ),
    "a threshold above 1": (
        [("stop: 0.5", "stop: 5")],
        [("stop: 5", "policy.thresholds.stop", "less than or equal to 1")],
    ),
    "no thresholds": (
        [("  thresholds:\n    review: 0.1\n    stop: 0.5", "  thresholds: {}")],
        [("thresholds: {}", "policy.thresholds", "at least 1 item")],
    ),
    "otherwise with a threshold": (
        [("otherwise: pass", "otherwise: stop")],
        [("policy:", "policy", "otherwise: 'stop' also has a threshold")],
    ),
    "an id that is no field": (
        [("  id: parcel_id", "  id: parcel")],
        [("event:", "event", "id: 'parcel' is not one of the event's fields")],
    ),
    "a key that is a number": (
        [("  key: parcel_id", "  key: weight")],
        [("event:", "event", "key: must be a string or an integer field")],
    ),
    "an id that is optional": (
        [("parcel_id: {type: string}", "parcel_id: {type: string, optional: true}")],
        [("event:", "event", "id: 'parcel_id' may not be optional")],
    ),
    "a time that is none": (
        [("  time: sent_at", "  time: country")],
        [("event:", "event", "time: 'country' must have the type timestamp")],
    ),
    "a vector without its length": (
        [("{type: vector, length: 3}", "{type: vector}")],
        [("{type: vector}", "event.fields.shape", "a vector needs its length")],
    ),
    "a length of a number": (
        [("{type: integer}", "{type: integer, length: 3}")],
        [("{type: integer, length", "event.fields.count", "length is for vectors")],
    ),
    "choices of a number": (
        [("{type: integer}", "{type: integer, choices: [a]}")],
        [("{type: integer, choices", "event.fields.count", "choices are for strings")],
    ),
    "an unknown type": (
        [("{type: integer}", "{type: int}")],
        [("{type: int}", "event.fields.count.type", "Input should be 'string',")],
    ),
    "a name that no topic can have": (
        [("pipeline: parcels", "pipeline: Parcels of 2018")],
        [("pipeline: Parcels", "pipeline", "String should match pattern")],
    ),
    "no partitions": (
        [("partitions: 3\nevent", "partitions: 0\nevent")],
        [("partitions: 0", "partitions", "greater than or equal to 1")],
    ),
    "neither kind nor import": (
        [("    import: my.module:Own\n", ""), ("    options: {speed: 3}\n", "")],
        [("name: own", "components[2]", "give either kind: (built in) or import:")],
    ),
    "kind and import": (
        [("    import: my.module:Own\n", "    import: my.module:Own\n    kind: decide\n")],
        [("name: own", "components[2]", "give either kind: (built in) or import:")],
    ),
    "options of a built-in component": (
        [("    partitions: 3\n", "    options: {speed: 3}  # here\n")],
        [("name: risk", "components[1]", "options are for a component of your own")],
    ),
    "a built-in component that is pure": (
        [("    partitions: 3\n", "    pure: true  # here\n")],
        [("name: risk", "components[1]", "pure is for a component of your own (import:)")],
    ),
    "a pure component that reads events": (
        [("    import: my.module:Own\n", "    import: my.module:Own\n    pure: true\n")],
        [("name: own", "components[2]", "pure is for a component that reads others")],
    ),
    "a risk without a model": (
        [("    model:\n      estimator: sklearn.linear_model.LogisticRegression\n", "")],
        [("name: risk", "components[1]", "assess_risk needs a model:")],
    ),
    "a model from two sources": (
        [("estimator: sklearn", "path: x.onnx\n      estimator: sklearn")],
        [("    model:", "components[1].model", "give either estimator: (trained here) or path:")],
    ),
    "a version of a file": (
        [("estimator: sklearn.linear_model.LogisticRegression", "path: x.onnx\n      version: 2")],
        [("    model:", "components[1].model", "version and calibration are for an estimator")],
    ),
    "a data column for an unknown field": (
        [("WEIGHT: weight", "WEIGHT: wait")],
        [("WEIGHT: wait", "data.columns.WEIGHT", "no event field 'wait'")],
    ),
    "a list of components that is none": (
        [("data:\n  label: LOST", "data:\n  label: [LOST]")],
        [("label: [LOST]", "data.label", "Input should be a valid string")],
    ),
    "no features": (
        [("    features:\n", "    features: []\n"), ("      - {name: weight, of: weight}\n", ""),
         ("      - {name: hour, of: sent_at, apply: hour}\n", "")],
        [("features: []", "components[0].features", "at least 1 item")],
    ),
    "no categories": (
        [("of: sent_at, apply: hour", "of: country, apply: one_hot, choices: []")],
        [("choices: []", "components[0].features[1].choices", "at least 1 item")],
    ),
    "a weight above 1": (
        [("own: 0.3", "own: 3")],
        [("own: 3", "weighting.weights.own", "less than or equal to 1")],
    ),
    "a word for weights": (
        [("weights: {features: 0.2, risk: 0.5, own: 0.3}", "weights: lerned")],
        [("lerned", "weighting.weights", "learned")],
    ),
    "a date for an option": (
        [("speed: 3", "speed: 2018-04-01")],
        [("speed:", "components[2].options.speed", "")],
    ),
    "a smallest value above the largest": (
        [("minimum: 0}", "minimum: 5, maximum: 3}")],
        [("minimum: 5", "event.fields.weight", "minimum")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_a_mistake_is_told_with_its_line_and_field(tmp_path: Path, name: str) -> None:
    changes, expected = REFUSALS[name]
    text = written(*changes)
    errors = problems(tmp_path, text)
    assert [field for _, field, _ in errors] == [field for _, field, _ in expected]
    for (line, _, message), (part, _, wanted) in zip(errors, expected, strict=True):
        assert wanted in message
        # Two names that read the same are told apart by the line that follows them.
        after = 1 if "components are called" in wanted else 0
        assert line == line_of(part, text) - after


def test_a_cycle_is_told_with_its_way_around(tmp_path: Path) -> None:
    text = written(
        ("from: [features]", "from: [own]"),
        ("import: my.module:Own\n    from: [events]", "import: my.module:Own\n    from: [risk]"),
    )
    errors = problems(tmp_path, text)
    line, field, message = next(problem for problem in errors if "cycle" in problem[2])
    assert (line, field) == (line_of("from: [own]", text), "components[1].from")
    around = message.removeprefix("a cycle: ").split(" → ")
    assert around in (["risk", "own", "risk"], ["own", "risk", "own"])
    assert {(at, field) for at, field, message in errors if "no events ever reach" in message} == {
        (line_of("from: [own]", text), "components[1].from"),
        (line_of("from: [risk]", text), "components[2].from"),
    }


def test_the_smallest_cycle_is_a_component_that_reads_itself(tmp_path: Path) -> None:
    text = written(("from: [features]", "from: [features, risk]"))
    (problem,) = problems(tmp_path, text)
    line = line_of("    partitions: 3", text) - 1
    assert problem == (line, "components[1].from", "a cycle: risk → risk")


def test_a_component_that_only_an_unreachable_one_feeds_is_unreachable(tmp_path: Path) -> None:
    text = written(("from: [features]", "from: [featurez]"))
    assert [(field, message.split(";")[0]) for _, field, message in problems(tmp_path, text)] == [
        ("components[1].from", "no events ever reach 'risk'"),
        ("components[1].from[0]", "unknown component 'featurez'"),
    ]


def test_order_of_a_cycle_is_an_error() -> None:
    data = yaml.safe_load(written(("from: [features]", "from: [features, risk]")))
    with pytest.raises(CycleError):
        in_order(Pipeline.model_validate(data))


def test_several_mistakes_of_form_are_told_at_once_in_line_order(tmp_path: Path) -> None:
    text = written(
        ("otherwise: pass", "otherwise: [pass]"),
        ("partitions: 3\nevent", "partitions: many\nevent"),
        ("kind: assess_risk", "kind: guess"),
        ("WEIGHT: weight", "WEIGHT: weight\n    WEIGHT: count"),
        ("{type: integer}", "{type: int}"),
    )
    errors = problems(tmp_path, text)
    assert [field for _, field, _ in errors] == [
        "partitions",
        "event.fields.count.type",
        "data.columns.WEIGHT",
        "components[1].kind",
        "policy.otherwise",
    ]
    assert [line for line, _, _ in errors] == [
        line_of(part, text)
        for part in ("many", "type: int}", "WEIGHT: count", "guess", "otherwise")
    ]


def test_several_mistakes_in_the_graph_are_told_at_once_in_line_order(tmp_path: Path) -> None:
    text = written(
        ("    partitions: 3", "    partitions: 5"),
        ("WEIGHT: weight", "WEIGHT: wait"),
        ("of: sent_at, apply", "of: sent, apply"),
        ("otherwise: pass", "otherwise: pass\n  otherwise: hold"),
    )
    errors = problems(tmp_path, text)
    assert [line for line, _, _ in errors] == [
        line_of(part, text) for part in ("wait", "of: sent,", "partitions: 5", "otherwise: hold")
    ]


UNREADABLE: dict[str, tuple[str | bytes, int, str]] = {
    "nothing": ("", 1, "a pipeline file is a mapping of fields"),
    "a comment": ("# nothing\n", 1, "a pipeline file is a mapping of fields"),
    "a list": ("- pipeline: p\n", 1, "a pipeline file is a mapping of fields"),
    "words": ("just words\n", 1, "a pipeline file is a mapping of fields"),
    "a bracket that stays open": ("pipeline: p\nevent: [\n", 3, "not readable as YAML"),
    "a tab": ("pipeline: p\nevent:\n\tid: a\n", 3, "not readable as YAML"),
    "two documents": (MINIMAL + "---\na: 1\n", MINIMAL.count("\n") + 1, "not readable as YAML"),
    "an alias of nothing": ("pipeline: p\nevent: *other\n", 2, "not readable as YAML"),
    "bytes": (b"pipeline: p\nevent: \xff\xfe\n", 2, "byte 0xff is not UTF-8: write the file as"),
    "a null byte": ("pipeline: a\x00b\n", 1, "not readable as YAML"),
    "an unknown tag": ("pipeline: p\nevent: !thing x\n", 2, "not readable as YAML"),
    "a Python tag": ("a: 1\nb: !!python/object/apply:os.getcwd []\n", 2, "not readable as YAML"),
    "a date that is none": ("a: 1\nb: 2001-13-45\n", 2, ""),
    "a number that is none": ("a: 1\nb: !!int one\n", 2, ""),
    "a list as a key": ("a: 1\n? [a, b]\n: c\n", 2, ""),
    "a merge of a number": ("a: 1\n<<: 5\n", 2, ""),
    "a list that holds itself": ("a: 1\nb: &b [*b]\n", 2, ""),
    "a mapping that holds itself": ("a: 1\nb: &b\n  c: *b\n", 2, ""),
    "brackets 5,000 deep": ("a: " + "[" * 5000 + "]" * 5000, 1, ""),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_pipeline_file_is_refused_without_a_traceback(tmp_path: Path, name: str) -> None:
    text, line, message = UNREADABLE[name]
    path = tmp_path / "p.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PipelineFileError) as caught:
        load_pipeline(path)
    assert len(str(caught.value).splitlines()) == len(caught.value.problems), "a line per mistake"
    assert any(at == line and message in told for at, _, told in caught.value.problems)


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(PipelineFileError, match=r"none\.yaml:1: .*No such file"):
        load_pipeline(tmp_path / "none.yaml")


def test_a_model_file_is_looked_for_beside_the_pipeline_file(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "risk.onnx").write_bytes(b"")
    path = tmp_path / "parcels.yaml"
    path.write_text(
        written(("estimator: sklearn.linear_model.LogisticRegression", "path: models/risk.onnx"))
    )
    load_pipeline(path)


def test_anchors_and_merges_may_be_used(tmp_path: Path) -> None:
    path = tmp_path / "parcels.yaml"
    path.write_text(
        written(
            ("country: {type: string}", "country: &word {type: string}"),
            ("parcel_id: {type: string}", "parcel_id: {type: string}\n    note: {type: string}"),
            ("count: {type: integer}", "count: {type: integer}\n    city: *word"),
        )
    )
    assert load_pipeline(path).pipeline.event.fields["city"].type == "string"


def schema() -> dict[str, Any]:
    return Pipeline.model_json_schema(by_alias=True)


@pytest.mark.parametrize("text", [MINIMAL, CARD_FRAUD.read_text(encoding="utf-8")])
def test_the_json_schema_accepts_a_good_pipeline_file(text: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "change",
    [
        ("otherwise: pass", "otherwice: pass"),
        ("options: {speed: 3}", "option: {speed: 3}"),
        ("partitions: 3\nevent", "partition: 3\nevent"),
        ("of: sent_at, apply", "off: sent_at, apply"),
        ("kind: assess_risk", "kind: guess"),
        ("    from: [features]", "    inputs: [features]"),
        ("stop: 0.5", "stop: 5"),
    ],
)
def test_the_json_schema_refuses_what_the_loader_refuses(change: tuple[str, str]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(written(change)))


def test_rekey_wants_windowed_features_alone(tmp_path: Path) -> None:
    hour, sent = "{name: hour, of: sent_at, apply: hour}", "{name: sent, apply: count, over: [1d]}"
    text = written(
        ("  time: sent_at\n", "  time: sent_at\n  keys: rekey\n"),
        (hour, f"{hour}\n      - {sent}"),
    )
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(PipelineFileError) as caught:
        load_pipeline(path)
    assert [(line, field) for line, field, _ in caught.value.problems] == [
        (line_of("name: weight, of", text), "components[0].features[0].apply"),
        (line_of("apply: hour", text), "components[0].features[1].apply"),
    ]
    assert "features is repartitioned (keys: rekey), so" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "field"),
    [("future: soon", "event.future"), ("beyond_future: drop", "event.beyond_future"),
     ("keys: ignore", "event.keys")],
)  # fmt: skip
def test_settings_of_time_and_keys_are_checked(line: str, field: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(written(("  time: sent_at\n", f"  time: sent_at\n  {line}\n")))
    with pytest.raises(PipelineFileError) as caught:
        load_pipeline(path)
    assert [found for _, found, _ in caught.value.problems] == [field]


def test_a_policy_is_read_from_a_pipeline_file_or_from_a_file_of_its_own(tmp_path: Path) -> None:
    alone, whole = tmp_path / "alone.yaml", tmp_path / "whole.yaml"
    policy = "version: 2\nthresholds: {review: 0.2, decline: 0.6}\n"
    alone.write_text(policy)
    whole.write_text("pipeline: of another version\npolicy:\n  version: 2\n"
                     "  thresholds: {review: 0.2, decline: 0.6}\n")  # fmt: skip
    assert load_policy(alone) == load_policy(whole)
    assert load_policy(alone).thresholds == {"review": 0.2, "decline": 0.6}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy:\n  thresholds: {review: 2}\n", ":2: policy.thresholds.review: Input should be"),
        ("thresholds: {b: 0.5, a: 0.2}\n", ":1: thresholds must ascend strictly"),
        ("policy:\n  threshold: {}\n", "policy.threshold: unknown field"),
        ("thresholds: {a: 0.5}\nthresholds: {a: 0.6}\n", ":2: thresholds: is given twice"),
        ("[]", ":1: a pipeline file is a mapping"),
    ],
)
def test_what_is_wrong_with_a_policy_is_said_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(PipelineFileError) as refused:
        load_policy(path)
    assert said in str(refused.value)
