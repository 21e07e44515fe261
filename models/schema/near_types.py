"""What a column of text nearly is, for people: never silently text, where a few values spoil it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from shlex import quote

from models.data import PLAIN, fitting_formats, moment_of, number_in, shaped_like, time_in

_NEARLY = 0.75
_LOOKED_AT = 200
_MOST_WORDS = 5
_ODD_CHARACTERS = 24
_ZONE_NAME = re.compile(" [A-Z]{2,5}$")


def near_type(values: Sequence[object], *, numbers: bool) -> str:
    """How all but a few of the values (N,) are numbers or times, and what to do; "" where not.

    Without *numbers* the file has types, so that numbers in text are meant as text.
    """
    counts = Counter(str(value) for value in values if value is not None)
    tests = [("time", _time_test(counts))]
    plain = ("number", lambda text: number_in(text, PLAIN) is not None)
    if numbers:
        tests = [plain, ("number", _number_test(counts)), *tests]
    some = list(counts)[:: max(1, len(counts) // _LOOKED_AT)]
    for what, test in tests:
        if sum(map(test, some)) < _NEARLY * len(some) / 2:
            continue  # far from it, so not every text is looked at
        odd = [text for text in counts if not test(text)]
        total = counts.total()
        good = total - sum(counts[text] for text in odd)
        if odd and good >= _NEARLY * total:
            return _sentence(what, good, total, odd)
    if (
        counts
        and all(_ZONE_NAME.search(text) for text in counts)
        and all(moment_of(_ZONE_NAME.sub("", text)) for text in counts)
    ):
        zone = _ZONE_NAME.findall(next(iter(counts)))[0].strip()
        return (
            f" is a time, but what {zone} means is not known for sure: write UTC or an offset such "
            "as -0800 in the file; until then it is text"
        )
    if not numbers and counts and all(map(plain[1], counts)):
        return (
            ": its text reads as numbers; it stays text unless the pipeline file says `type: "
            f"number` and `number_formats: {{FIELD: '{PLAIN}'}}`"
        )
    return ""


def _sentence(what: str, good: int, total: int, odd: Sequence[str]) -> str:
    shown = ", ".join(repr(text[:_ODD_CHARACTERS]) for text in odd[:3])
    more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
    begun = f" is nearly a {what}: {good:,} of {total:,} values are, but not {shown}{more}"
    if len(odd) > _MOST_WORDS:
        return f"{begun}; until those are mended in the file it is text"
    options = " ".join(f"--missing={quote(text)}" for text in odd)
    return f"{begun}; {options} reads {'it' if len(odd) == 1 else 'them'} as no value"


def _number_test(counts: Counter[str]) -> Callable[[str], bool]:
    forms = Counter(
        form for text in list(counts)[:_LOOKED_AT] for form in fitting_formats([text], units=True)
    )
    if not forms:
        return lambda _text: False
    widest = max(forms, key=lambda form: (forms[form], len(form)))
    return lambda text: number_in(text, widest) is not None


def _time_test(counts: Counter[str]) -> Callable[[str], bool]:
    texts = list(counts)[:_LOOKED_AT]
    iso = sum(1 for text in texts if ("-" in text or "T" in text) and moment_of(text))
    forms = Counter(form for text in texts for form in shaped_like(text))
    common = forms.most_common(1)
    if not common or iso >= common[0][1]:
        return lambda text: moment_of(text) is not None
    return lambda text: time_in(text, common[0][0]) is not None
