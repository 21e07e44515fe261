"""Numbers that a data file does not write as JSON does: grouped, with a comma, a currency, a unit.

A format is the picture of 1234.56 as the file would write it: `1.234,56`, `$1,234.56`, `1 234 €`,
`1234.56%`. What stands before and behind need not be there in every value, but nothing else may
be; a percent or per mille sign is part of the number's meaning, so it must. The number is what the
digits say: 12.5% is 12.5. Negative ones have a sign, also behind, or stand in brackets.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from models.data.columns import Column
from topics.pipeline import NUMBER_PICTURE

PLAIN = "1234.56"
"""As JSON and CSV have it: no format to name."""

_PARTS = (
    ("", "."), (",", "."), ("", ","), (".", ","), (" ", ","), (" ", "."), ("'", "."), ("'", ","),
)  # fmt: skip
"""Between groups of digits, and before decimals; the likelier first."""
_SAME = str.maketrans({
    "\N{MINUS SIGN}": "-", "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ",
    "\N{THIN SPACE}": " ", "\N{RIGHT SINGLE QUOTATION MARK}": "'",
})  # fmt: skip
_AROUND = re.compile(
    r"(?P<before>[^0-9.,]*)[0-9.,](?:[0-9., ']*[0-9.,])?(?:[eE][+-]?[0-9]+)?(?P<behind>[^0-9]*)"
)
_CURRENCIES = frozenset(
    [
        "AUD",
        "BRL",
        "CAD",
        "CHF",
        "CNY",
        "CZK",
        "DKK",
        "EUR",
        "GBP",
        "HKD",
        "HUF",
        "IDR",
        "ILS",
        "INR",
        "JPY",
        "KRW",
        "MXN",
        "MYR",
        "NOK",
        "NZD",
        "PHP",
        "PLN",
        "RON",
        "RUB",
        "SEK",
        "SGD",
        "THB",
        "TRY",
        "TWD",
        "USD",
        "ZAR",
        "Fr.",
        "Rs",
        "Rs.",
        "kr",
        "zł",
        "Kč",
        "Ft",
    ]
)
_SHARES = ("%", "\N{PER MILLE SIGN}")
_LONGEST_UNIT = 4
_MOST_CHARACTERS = 60


class _Form(NamedTuple):
    before: str
    behind: str
    digits: re.Pattern[str]
    group: str
    point: str


def number_in(text: str, form: str) -> float | None:
    """The number that *text* is in the format *form*; None when it is not one.

    >>> number_in("1.234,50 €", "1.234,56 €"), number_in("($1,000)", "$1,234")
    (1234.5, -1000.0)
    >>> number_in("12,34", "1,234.56"), number_in("12", "1234.56%")
    (None, None)
    """
    written = _written(text, form)
    return None if written is None else float(written)


def numbers_in(values: Column, form: str, kind: str) -> Column:
    """The values of a field of the type *kind* as numbers; what does not fit stays as it is."""
    if isinstance(values, np.ndarray):
        return values
    read: dict[str, object] = {}
    for value in values:
        if isinstance(value, str) and value not in read:
            written = _written(value, form)
            read[value] = value if written is None else _number(written, kind)
    return [read[value] if isinstance(value, str) else value for value in values]


def fitting_formats(texts: Sequence[str], *, units: bool) -> list[str]:
    """The formats that fit every text and say different things, the likelier first.

    A currency or a percent sign is read; with *units*, so is any short word behind all of them.
    """
    shaped = [_signless(text) for text in texts]
    parts = [_AROUND.fullmatch(text) for text, _ in shaped]
    if not texts or any(part is None for part in parts):
        return []
    around = _affixes([(part["before"], part["behind"]) for part in parts if part], units=units)
    if around is None:
        return []
    fitting: dict[tuple[str, ...], str] = {}
    for group, point in _PARTS:
        form = f"{around[0]}1{group}234{point}56{around[1]}"
        if (written := _all_written(texts, form)) is not None:
            whole = not any("." in each for each in written)
            fitting.setdefault(written, form.replace(f"{point}56", "") if whole else form)
    return list(fitting.values())


def _all_written(texts: Sequence[str], form: str) -> tuple[str, ...] | None:
    written = []
    for text in texts:
        if (each := _written(text, form)) is None:
            return None
        written.append(each)
    return tuple(written)


def _affixes(around: Sequence[tuple[str, str]], *, units: bool) -> tuple[str, str] | None:
    """What stands before and behind the numbers, where that is the same; None where it is not."""
    before = {one for one, _ in around if one.strip()}
    behind = {other for _, other in around if other.strip()}
    if len({one.strip() for one in before}) > 1 or len({one.strip() for one in behind}) > 1:
        return None
    first, last = max(before, default="", key=len), max(behind, default="", key=len)
    if first and not _is_currency(first.strip()):
        return None
    word = last.strip()
    everywhere = all(other.strip() for _, other in around)
    if word in _SHARES:
        return (first, last.rstrip()) if everywhere else None
    if not word or _is_currency(word):
        return first.lstrip(), last.rstrip()
    is_unit = units and everywhere and word.isalpha() and len(word) <= _LONGEST_UNIT
    return (first.lstrip(), last.rstrip()) if is_unit else None


def _is_currency(text: str) -> bool:
    signs = sum(unicodedata.category(each) == "Sc" for each in text)
    return text in _CURRENCIES or (signs == 1 and len(text) <= _LONGEST_UNIT)


def _signless(text: str) -> tuple[str, bool]:
    """The text without sign, brackets or space around, and whether it was negative."""
    plain = text[: _MOST_CHARACTERS + 1].translate(_SAME).strip()
    negative = False
    if plain.startswith("(") and plain.endswith(")"):
        plain, negative = plain[1:-1].strip(), True
    elif plain[:1] in ("-", "+"):
        plain, negative = plain[1:].lstrip(), plain[0] == "-"
    elif plain.endswith("-"):
        plain, negative = plain[:-1].rstrip(), True
    elif sign := re.match(r"([^0-9+-]+)([+-])(?=[0-9.,])", plain):
        plain = sign.group(1) + plain[sign.end() :]
        negative = sign.group(2) == "-"
    return plain, negative


def _written(text: str, form: str) -> str | None:
    """The number of *text* as JSON would write it; None when it is not in that format."""
    parts = _parsed(form)
    if parts is None or len(text) > _MOST_CHARACTERS:
        return None
    plain, negative = _signless(text)
    if parts.before and plain.startswith(parts.before):
        plain = plain.removeprefix(parts.before).lstrip()
    if parts.behind and plain.endswith(parts.behind):
        plain = plain.removesuffix(parts.behind).rstrip()
    elif parts.behind in _SHARES:
        return None
    if not parts.digits.fullmatch(plain):
        return None
    if parts.group:
        plain = plain.replace(parts.group, "")
    return f"{'-' * negative}{plain.replace(parts.point, '.') if parts.point else plain}"


@lru_cache(maxsize=256)
def _parsed(form: str) -> _Form | None:
    picture = re.fullmatch(NUMBER_PICTURE, form)
    if picture is None:
        return None
    group, point = picture.group("group"), picture.group("point") or ""
    if group and group == point:
        return None
    point = point or ("," if group == "." else ".")
    whole = r"[0-9]+"
    if group:  # by thousands; in India by hundreds above those
        sep = re.escape(group)
        whole = (
            rf"(?:[1-9][0-9]{{0,2}}(?:{sep}[0-9]{{3}})+|"
            rf"[1-9][0-9]?(?:{sep}[0-9]{{2}})*{sep}[0-9]{{3}}|[0-9]+)"
        )
    mark = re.escape(point)
    digits = re.compile(rf"(?:{whole}(?:{mark}[0-9]*)?|{mark}[0-9]+)(?:[eE][+-]?[0-9]+)?")
    return _Form(picture["before"].strip(), picture["behind"].strip(), digits, group, point)


def _number(written: str, kind: str) -> float | int:
    if kind == "integer" and re.fullmatch(r"-?[0-9]+", written):
        return int(written)
    return float(written)
