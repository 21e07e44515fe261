"""Texts of reasons show values of the event, in several languages, and none that is sensitive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.explanations.reason import Facts, Reasons
from topics.pipeline.file import PipelineFileError, find_pipeline, load_pipeline
from topics.pipeline.reason_texts import event_fields
from topics.pipeline.schema import Pipeline
from topics.pipeline.text_template import Template

GROUPS = [("amount", 0.6), ("terminal's past", 0.25), ("time of day", -0.05), ("other", 0.001)]
FACTS = Facts("decline", 0.9123, 0.0045, GROUPS)
VALUES: dict[str, float | str] = {
    "amount": 412.0,
    "customer_mean_amount_30d": 45.27,
    "customer_id": "c-7",
}


def content(**reasons: Any) -> dict[str, Any]:
    """card-fraud's file with these reasons."""
    text: dict[str, Any] = yaml.safe_load(find_pipeline("card-fraud").read_text())
    text["explain"]["reasons"] = reasons
    return text


def pipeline(**reasons: Any) -> Pipeline:
    return Pipeline.model_validate(content(**reasons))


def mistakes(folder: Path, of: Mapping[str, Any]) -> list[str]:
    """What is wrong with a file of that content: field and message."""
    path = folder / "card-fraud.yaml"
    path.write_text(yaml.safe_dump(of, sort_keys=False))
    try:
        load_pipeline(path)
    except PipelineFileError as exc:
        return [f"{field}: {message}" for _, field, message in exc.problems]
    return []


# -- what a template can do


@pytest.mark.parametrize(
    ("text", "values", "filled"),
    [
        ("{a}", {"a": 412.0}, "412"),
        ("{a:.2f} {{b}}", {"a": 412.0}, "412.00 {b}"),
        ("{a:,.1f}", {"a": 1234567.891}, "1,234,567.9"),
        ("{a:.0%}", {"a": 0.125}, "12%"),
        ("{ a / b : .1f }".replace(": ", ":"), {"a": 412.0, "b": 45.27}, "9.1"),
        ("{component-b.a}", {"component-b.a": 3.0}, "3"),
        ("{name}", {"name": "Zoë"}, "Zoë"),
        ("{a}", {}, None),
        ("{a}", {"a": float("nan")}, None),
        ("{a / b}", {"a": 1.0, "b": 0.0}, None),
        ("{a / b}", {"a": 1e300, "b": 1e-300}, None),
        ("{name:.1f}", {"name": "Zoë"}, None),
        ("{a / name}", {"a": 1.0, "name": "Zoë"}, None),
    ],
)
def test_a_placeholder_shows_a_value_or_one_by_another(
    text: str, values: dict[str, float | str], filled: str | None
) -> None:
    assert Template.of(text).filled(values) == filled


def test_numbers_have_the_decimal_sign_of_their_language() -> None:
    assert Template.of("{a:,.2f}").filled({"a": 1234.5}, ",") == "1.234,50"


@pytest.mark.parametrize(
    "text",
    [
        "{a.b.c}", "{a[0]}", "{a!r}", "{a:>1000000000}", "{a:{b}}", "{}", "{0}", "{a", "a}", "{a}}",
        "{a()}", "{a.__class__.__init__}", "{a:x}", "{a:.99f}", "{a + b}", "{a / b / c}", "{a:.2e}",
    ],
)  # fmt: skip
def test_nothing_else_is_understood(text: str) -> None:
    with pytest.raises(ValueError, match=r"say \{name\}|left open"):
        Template.of(text)


# -- sentences


def test_a_reason_says_what_the_texts_say_of_the_groups_that_matter() -> None:
    texts = {
        "en": {"groups": {"amount": "amount {amount:.2f}: "
                                    "{amount / customer_mean_amount_30d:.1f} × this customer's "
                                    "30-day mean"}},
        "de": {
            "decisions": {"decline": "abgelehnt"},
            "groups": {"amount": "Betrag {amount:.2f}", "time of day": "Tageszeit"},
        },
    }  # fmt: skip
    said = Reasons.of(pipeline(**texts)).said(FACTS, VALUES)
    assert said == {
        "en": "decline: score 0.912, 0.004 is usual; higher by amount 412.00: 9.1 × this "
              "customer's 30-day mean (+0.600) and terminal's past (+0.250), lower by time of day "
              "(-0.050)",
        "de": "abgelehnt: Score 0,912, üblich ist 0,004; höher durch Betrag 412,00 (+0,600) und "
              "terminal's past (+0,250), niedriger durch Tageszeit (-0,050)",
    }  # fmt: skip


def test_the_first_text_counts_whose_values_are_all_known_and_then_the_groups_name() -> None:
    texts = {"en": {"groups": {"amount": [
        "{amount / customer_mean_amount_30d:.1f} × the mean", "{amount:.0f} paid",
    ]}}}  # fmt: skip
    reasons = Reasons.of(pipeline(**texts))
    assert "by 9.1 × the mean (+0.600)" in reasons.said(FACTS, VALUES)["en"]
    without = {"amount": 412.0, "customer_mean_amount_30d": 0.0}
    assert "by 412 paid (+0.600)" in reasons.said(FACTS, without)["en"]
    assert "by amount (+0.600)" in reasons.said(FACTS, {})["en"]


def test_without_texts_a_reason_is_in_english_and_says_no_value_of_the_event() -> None:
    said = Reasons.of(pipeline()).said(FACTS, VALUES)
    assert [*said] == ["en"]
    assert "412" not in said["en"]


def test_a_language_of_ones_own_says_all_words() -> None:
    words = {
        "score": "{decision} {score:.2f}", "higher": "plus {groups}", "lower": "minus {groups}",
        "unmoved": "rien", "and": "et", "decimal": ",",
    }  # fmt: skip
    said = Reasons.of(pipeline(fr=words)).said(FACTS, {})
    assert said["fr"].startswith("decline 0,91; plus amount (+0,600) et terminal's past")


# -- what a file may say


@pytest.mark.parametrize(
    ("reasons", "field", "message"),
    [
        ({"en": {"groups": {"amount": "{ammount}"}}}, "en.groups.amount",
         "no column or event field 'ammount'; known: amount"),
        ({"en": {"groups": {"amount": ["fine", "{amount"]}}}, "en.groups.amount[1]",
         "a brace is left open"),
        ({"en": {"groups": {"amounts": "x"}}}, "en.groups.amounts", "no group 'amounts'; known: "),
        ({"en": {"groups": {"amount": "{customer_id:.1f}"}}}, "en.groups.amount",
         "'customer_id' is no number"),
        ({"en": {"groups": {"amount": "{amount.real}"}}}, "en.groups.amount",
         "no column or event field 'amount.real'"),
        ({"en": {"decisions": {"declined": "x"}}}, "en.decisions.declined",
         "'declined' is none of the policy's decisions"),
        ({"en": {"score": "{decision:.1f}"}}, "en.score", "'decision' is no number"),
        ({"en": {"score": "{amount}"}}, "en.score", "'amount' is not known here; known: {dec"),
        ({"en": {"higher": "higher"}}, "en.higher", "it does not say {groups}"),
        ({"fr": {"score": "{score}"}}, "fr", "give higher, lower, unmoved, and too"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_text_is_told_where_it_is(
    tmp_path: Path, reasons: dict[str, Any], field: str, message: str
) -> None:
    (found,) = mistakes(tmp_path, content(**reasons))
    assert found.startswith(f"explain.reasons.{field}: ")
    assert message in found


def sensitive(field: str, **reasons: Any) -> dict[str, Any]:
    """The file with these reasons, and a field that is sensitive."""
    of = content(**reasons)
    of["event"]["fields"][field]["sensitive"] = True
    return of


@pytest.mark.parametrize(
    ("field", "name", "why"),
    [
        ("amount", "event.amount", "is sensitive"),
        ("amount", "amount", "is sensitive"),
        ("amount", "features.amount", "is made of 'amount', which is sensitive"),
        ("amount", "customer_mean_amount_30d", "is made of 'amount', which is sensitive"),
        ("amount", "is_night / features.customer_mean_amount_7d", "made of 'amount', which"),
        ("occurred_at", "is_night", "is made of 'occurred_at', which is sensitive"),
        ("customer_id", "customer_id", "is sensitive"),
        ("terminal_id", "event.terminal_id", "is sensitive"),
    ],
)
def test_no_text_may_say_what_is_sensitive_nor_a_feature_of_it(
    tmp_path: Path, field: str, name: str, why: str
) -> None:
    of = sensitive(field, en={"groups": {"time of day": ["no value", f"{{{name}}}"]}})
    (found,) = mistakes(tmp_path, of)
    assert found.startswith("explain.reasons.en.groups.time of day[1]: ")
    assert why in found
    assert found.endswith("no text may say it")


def test_what_is_not_made_of_it_may_be_said(tmp_path: Path) -> None:
    said = {"en": {"groups": {"amount": "{customer_count_1d:.0f} of {customer_id}"}}}
    assert mistakes(tmp_path, sensitive("amount", **said)) == []


def test_known_names_in_a_message_are_none_that_are_sensitive(tmp_path: Path) -> None:
    of = sensitive("amount", en={"groups": {"amount": "{ammount}"}})
    (found,) = mistakes(tmp_path, of)
    known = found.partition("known: ")[2].split(", ")
    assert "customer_count_1d" in known
    assert not [name for name in known if "amount" in name]


def test_a_feature_by_the_name_of_a_sensitive_field_that_is_of_another_may_be_said(
    tmp_path: Path,
) -> None:
    of = sensitive("customer_id", en={"groups": {"amount": "{customer_id:.2f}"}})
    of["components"][0]["features"][0] = {"name": "customer_id", "of": "amount"}
    assert mistakes(tmp_path, of) == []
    of["explain"]["reasons"] = {"en": {"groups": {"amount": "{event.customer_id}"}}}
    assert len(mistakes(tmp_path, of)) == 1


def test_events_are_read_for_those_fields_alone_that_a_text_shows() -> None:
    assert event_fields(pipeline(en={"groups": {"amount": "{amount} {customer_count_1d}"}})) == []
    texts = {"en": {"groups": {"amount": "{event.amount} {customer_id}"}}}
    assert event_fields(pipeline(**texts)) == ["amount", "customer_id"]


# -- which decisions


@pytest.mark.parametrize(
    ("explain", "message"),
    [
        ({"when": ["declined"]},
         "explain.when[0]: 'declined' is none of the policy's decisions: approve, review, decline"),
        ({"when": ["decline", "decline"]}, "explain.when[1]: 'decline' is listed twice"),
        ({"share_of_others": 1.5}, "explain.share_of_others: Input should be less than or equal"),
        ({"share_of_others": -0.1}, "explain.share_of_others: Input should be greater than or"),
        ({"shed_after": "soon"}, "explain.shed_after: String should match pattern"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_is_explained_is_told(
    tmp_path: Path, explain: dict[str, Any], message: str
) -> None:
    of = content()
    of["explain"] = explain
    (found,) = mistakes(tmp_path, of)
    assert found.startswith(message)


def test_nothing_is_explained_as_it_comes_with_weights_of_the_file(tmp_path: Path) -> None:
    of = content()
    of["weighting"]["weights"] = dict.fromkeys(of["weighting"]["from"], 0.25)
    (found,) = mistakes(tmp_path, of)
    assert found.startswith("explain.when: nothing can be explained: the weights are fixed")
    del of["explain"]["when"], of["explain"]["share_of_others"]
    assert mistakes(tmp_path, of) == []
