"""Times as producers write them: RFC 3339, and forms of ISO 8601 that can mean one thing only.

    2018-04-01T00:00:31Z   2018-04-01t02:00:31.5+02:00   2018-04-01 00:00:31,250   2018-04-01T00:00Z

A date, `T`, `t` or a space, hours and minutes, and then what may be left out: seconds (Java leaves
them out where they are 0), decimals, as many as one likes and after a point or a comma, and an
offset (`Z`, `z`, `+02:00`, `+0200`, `+02`; without one the time is UTC). Half a
millisecond is rounded up. Second 60 is a leap second, at the end of a month in UTC: the same moment
as the second after it, as POSIX has it. Dates by week or by day of the year, times without colons,
hour 24 and hours alone are no such times.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

LONGEST_TIME = 40
"""Characters that a time has at most."""

_NO_TIME = "not a time like 2018-04-01T00:00:31Z in the years 1 to 9999"
_FORM = re.compile(
    "[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ](?!24)[0-9]{2}:[0-9]{2}"
    "(?::(?P<second>[0-9]{2})(?:[.,](?P<decimals>[0-9]+))?)?"
    " ?(?P<zone>[Zz]|[+-][0-9]{2}(?::?[0-5][0-9])?)?"
)
"""Hour 24 is left out by name: from Python 3.14 on `fromisoformat` takes it."""
_FIRST_MS, _END_MS = -62_135_596_800_000, 253_402_300_800_000
"""The years 1 to 9999."""
_SECONDS_MS = {
    f":{second:02}{zone}": 1000 * second
    for second in range(60) for zone in ("", "Z", "z", "+00:00")
}  # fmt: skip
_DECIMALS_MS = {f".{ms:03}": ms for ms in range(1000)}
_MINUTES_MS = {
    f"{sep}{hour:02}:{minute:02}": 60_000 * (60 * hour + minute)
    for sep in "Tt " for hour in range(24) for minute in range(60)
}  # fmt: skip
_ZONES_MS = {"": 0, "Z": 0, "z": 0} | {
    f"{sign}{hour:02}:{minute:02}": int(f"{sign}{60_000 * (60 * hour + minute)}")
    for sign in "+-" for hour in range(15) for minute in (0, 30, 45)
}  # fmt: skip


def epoch_ms(text: str) -> int:
    """Milliseconds since 1970; ValueError for anything that is no time as described above.

    >>> epoch_ms("2018-04-01T00:00:31Z"), epoch_ms("2018-04-01T02:00:31.5+02:00")
    (1522540831000, 1522540831500)
    """
    # The usual forms cost a tenth so: a stream has few minutes.
    seconds_ms = _SECONDS_MS.get(text[16:])
    if seconds_ms is not None:
        return _minute_ms(text[:16]) + seconds_ms
    seconds_ms, rest = _SECONDS_MS.get(text[16:19]), text[19:]
    zone = rest.lstrip(".0123456789")
    if seconds_ms is None or zone not in _ZONES_MS:
        return parsed_ms(text)
    whole_ms = _minute_ms(text[:16] + zone) + seconds_ms
    if zone == rest:
        return whole_ms
    decimals = rest[: len(rest) - len(zone)]
    decimals_ms, more = _DECIMALS_MS.get(decimals[:4]), decimals[4:]
    if decimals_ms is None or (more and not more.isdigit()):
        return parsed_ms(text)
    return whole_ms + decimals_ms + (more >= "5")


@lru_cache(maxsize=4096)
def _minute_ms(text: str) -> int:
    """Of a date, hours and minutes, and perhaps an offset."""
    minutes_ms = _MINUTES_MS.get(text[10:16])
    if minutes_ms is None:
        return parsed_ms(f"{text[:16]}:00{text[16:]}")
    return _checked(_day_ms(text[:10]) + minutes_ms - _ZONES_MS[text[16:]])


@lru_cache(maxsize=1024)
def _day_ms(text: str) -> int:
    return parsed_ms(f"{text}T00:00:00Z")


def parsed_ms(text: str) -> int:
    """As `epoch_ms`, without the short way for the usual forms."""
    try:
        return _moment_ms(text)
    except (ValueError, OverflowError) as exc:
        raise ValueError(_NO_TIME) from exc


def _moment_ms(text: str) -> int:
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError
    second, decimals, zone = form.group("second", "decimals", "zone")
    leaps = second == "60"
    whole = f"{text[:16]}:{'59' if leaps else second or '00'}{(zone or 'Z').upper()}"
    moment = datetime.fromisoformat(whole)
    if leaps:
        _check_leaps(moment.astimezone(UTC))
    whole_ms = round(moment.timestamp() * 1000) + (1000 if leaps else 0)
    digits = (decimals or "").ljust(3, "0")
    return _checked(whole_ms + int(digits[:3]) + (digits[3:] >= "5"))


def _checked(since_1970_ms: int) -> int:
    if not _FIRST_MS <= since_1970_ms <= _END_MS:
        raise ValueError(_NO_TIME)
    return since_1970_ms


def _check_leaps(moment: datetime) -> None:
    """ValueError for a minute that never has 61 seconds."""
    after = moment + timedelta(seconds=1)
    if (after.day, after.hour, after.minute) != (1, 0, 0):
        raise ValueError
