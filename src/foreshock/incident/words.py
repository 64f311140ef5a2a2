"""Alerts in plain English: names, numbers with units, sentences. All times are UTC.

>>> a1 = Series("system.cpu.utilization", (("host.name", "a1"),), unit="1")
>>> noticed(title(a1), 0.98, Band(0.03, 0.22), "1", 43_450_000_000_000)
'cpu utilization of host a1 is 0.98, expected 0.03–0.22, since 12:04:10 UTC'
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from foreshock.types import Labels, Series

NAN = math.nan
_SPLIT = re.compile(r"[^0-9A-Za-z]+|(?<=[a-z0-9])(?=[A-Z])")
_UNSAFE = re.compile(r"[^0-9A-Za-z_]")
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0}
_TIME_STEPS = ((172800.0, 86400.0, " d"), (7200.0, 3600.0, " h"), (120.0, 60.0, " min"), (1.0, 1.0, " s"),
               (1e-3, 1e-3, " ms"), (1e-6, 1e-6, " µs"), (0.0, 1e-9, " ns"))  # fmt: skip
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_PLAIN_PREFIX_FROM = 1e4
_FEWEST_PLAIN = 1e-4
_MOST_EXTRA = 4
_CALLS = "calls "
SHARES = ("ratio", "utilization")
LEAST_RATIO, MOST_RATIO = 0.1, 5.0
"""A ratio of textures is bounded near 6: above the larger, "over" says all that is known."""


class Band(NamedTuple):
    """What would have been normal; NaN = not known. `expected` is its middle."""

    low: float = NAN
    high: float = NAN
    expected: float = NAN

    @property
    def known(self) -> bool:
        """Whether it has a bound."""
        return math.isfinite(self.low) or math.isfinite(self.high)

    def direction(self, value: float) -> str:
        """`above` or `below`, by the bounds, else by the middle; `above` where nothing is known."""
        if value < self.low or (not self.known and value < self.expected):
            return "below"
        if self.known and not value > self.high and value < self.expected:
            return "below"
        return "above"

    def distance(self, value: float) -> float:
        """How far a value lies outside; 0 within, or where nothing is known."""
        return max(self.low - value if value < self.low else 0.0, value - self.high if value > self.high else 0.0)

    def holds(self, value: float) -> bool:
        """Whether a value lies within the bounds; False where nothing is known."""
        return self.known and not value < self.low and not value > self.high and not math.isnan(value)


def band_of_share(series: Series, value: float, band: Band) -> Band:
    """The band of a share, which ends at 0 and at 1; that of anything else as it is.

    A share is called a ratio or a utilization, has the unit 1 and lies between 0 and 1.

    >>> band_of_share(Series("error_ratio", (), unit="1"), 0.4, Band(-0.01, 0.02, 0.005))
    Band(low=0.0, high=0.02, expected=0.005)
    """
    if series.unit != "1" or not series.name.endswith(SHARES) or not 0.0 <= value <= 1.0:
        return band
    return Band(*(min(max(bound, 0.0), 1.0) for bound in band))


def safe_name(name: str) -> str:
    """A label name that Prometheus accepts.

    >>> safe_name("host.name"), safe_name("2xx")
    ('host_name', '_2xx')
    """
    safe = _UNSAFE.sub("_", name) or "_"
    return "_" + safe if safe[0].isdigit() else safe


def metric(series: Series) -> str:
    """A series' name and attributes in words.

    >>> metric(Series("system.network.io", (), (("direction", "receive"),)))
    'network io (receive)'
    """
    words = [word.lower() for word in _SPLIT.split(series.name) if word]
    if len(words) > 1 and words[0] == "system":
        words = words[1:]
    text = " ".join(words) or series.name
    if text.isdigit():
        text = f"metric {text}"
    values = [value if value[:1].isalpha() else f"{_last_word(name)} {value}" for name, value in series.attributes]
    return f"{text} ({', '.join(values)})" if values else text


def _last_word(name: str) -> str:
    words = [word.lower() for word in _SPLIT.split(name) if word]
    return words[-1] if words else name


def entity(pairs: Labels) -> str:
    """An entity in words.

    >>> entity((("host.name", "a1"),)), entity((("userId", "u-7"),)), entity((("entity", "x"),))
    ('host a1', 'user u-7', 'x')
    >>> entity((("client", "checkout"), ("server", "payment")))
    'calls from checkout to payment'
    """
    if tuple(name for name, _ in pairs) == ("client", "server"):
        return f"{_CALLS}from {pairs[0][1]} to {pairs[1][1]}"
    return ", ".join(_entity_part(name, value) for name, value in pairs) or "the system"


def _entity_part(name: str, value: str) -> str:
    words = [word.lower() for word in _SPLIT.split(name) if word]
    if words and words[-1] in ("name", "id", "uid"):
        words = words[:-1]
    if words and (words[0] in ("k8s", "entity") or words == ["deployment", "environment"]):
        words = words[1:]
    return " ".join([*words, value])


def title(series: Series) -> str:
    """Which feature of which entity.

    >>> title(Series("latency", (("service.name", "cart"),)))
    'latency of service cart'
    >>> title(Series("calls.rate", (("client", "cart"), ("server", "db"))))
    'rate of calls from cart to db'
    """
    what, who = metric(series), entity(series.entity)
    if who.startswith(_CALLS):
        what = what.removeprefix(_CALLS)
    return f"{what} of {who}" if series.entity else what


def quantity(value: float, unit: str = "", extra: int = 0) -> str:
    """A number with its unit, two or three digits (and `extra` more).

    >>> quantity(0.98, "1"), quantity(5_120_000, "By/s"), quantity(0.0123, "s"), quantity(12, "%")
    ('0.98', '5.12 MB/s', '12.3 ms', '12 %')
    """
    if not math.isfinite(value):
        return {math.inf: "infinite", -math.inf: "minus infinite"}.get(value, "unknown")
    factor, suffix = _scale(abs(value), unit)
    return _trim(_number(value / factor, _decimals(abs(value / factor)) + extra)) + suffix


def span(band: Band, unit: str = "", extra: int = 0) -> str:
    """A band in words: `0.03–0.22`, `at most 5 ms`, `usually about 3`; empty where nothing is known.

    >>> span(Band(1_200_000, 3_400_000), "By/s"), span(Band(expected=3.0)), span(Band(-3, 5))
    ('1.2–3.4 MB/s', 'usually about 3', '-3 to 5')
    """
    low, high = band.low, band.high
    if not math.isfinite(high):
        if math.isfinite(low):
            return f"at least {quantity(low, unit, extra)}"
        return f"usually about {quantity(band.expected, unit, extra)}" if math.isfinite(band.expected) else ""
    if not math.isfinite(low):
        return f"at most {quantity(high, unit, extra)}"
    largest = max(abs(low), abs(high))
    factor, suffix = _scale(largest, unit)
    decimals = _decimals(largest / factor) + extra
    texts = _number(low / factor, decimals), _number(high / factor, decimals)
    while all("." in text and text.endswith("0") for text in texts):
        texts = texts[0][:-1], texts[1][:-1]
    first, last = (text.removesuffix(".") if text.strip("0.") else "0" for text in texts)
    if first == last:
        return f"{last}{suffix}"
    return f"{first}{' to ' if low < 0 else '–'}{last}{suffix}"


def _number(value: float, decimals: int) -> str:
    if decimals > 12:
        return f"{value:.1e}"
    text = f"{value:.{decimals}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _decimals(magnitude: float) -> int:
    """Digits behind the point that show three digits, two below 1."""
    if magnitude == 0:
        return 0
    exponent = math.floor(math.log10(magnitude))
    if magnitude < _FEWEST_PLAIN:
        return 99
    return max(0, 2 - exponent) if exponent >= 0 else 1 - exponent


def _scale(magnitude: float, unit: str) -> tuple[float, str]:
    """Factor and suffix that make a number of a UCUM unit easy to read."""
    base, per, rest = unit.partition("/")
    # What is counted stands in the metric's name: "processes count is 76", not "76 process".
    base = "" if base.startswith("{") and base.endswith("}") else base
    tail = per + rest
    if base in _SECONDS and not per:
        seconds = magnitude * _SECONDS[base]
        if seconds == 0:
            return 1.0, f" {base}"
        factor, suffix = next((f, s) for least, f, s in _TIME_STEPS if seconds >= least)
        return factor / _SECONDS[base], suffix
    if base in ("By", "Hz", "bit"):
        name = "B" if base == "By" else base
        factor, prefix = next(((f, p) for f, p in _PREFIXES if magnitude >= f), (1.0, ""))
        return factor, f" {prefix}{name}{tail}"
    name = {"1": "", "Cel": "°C"}.get(base, base)
    if magnitude >= _PLAIN_PREFIX_FROM:
        factor, prefix = next((f, p) for f, p in _PREFIXES if magnitude >= f)
    else:
        factor, prefix = 1.0, ""
    words = " ".join(part for part in (prefix, name) if part)
    return factor, (f" {words}" if words else "") + tail


def duration(seconds: float) -> str:
    """A length of time, its two largest units.

    >>> duration(62), duration(944), duration(0.82), duration(90_000)
    ('1 min 2 s', '15 min 44 s', '820 ms', '1 d 1 h')
    """
    if seconds < 10:
        return quantity(seconds, "s")
    left = round(seconds)
    parts: list[str] = []
    for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
    return " ".join(part for part in parts[:2] if part)


def clock(time_unix_nano: int) -> str:
    """Time of day.

    >>> clock(0)
    '00:00:00 UTC'
    """
    return datetime.fromtimestamp(time_unix_nano // 1_000_000_000, UTC).strftime("%H:%M:%S UTC")


def date_clock(time_unix_nano: int) -> str:
    """Date and time of day.

    >>> date_clock(0)
    '1970-01-01 00:00:00 UTC'
    """
    return datetime.fromtimestamp(time_unix_nano // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _figures(value: float, band: Band, unit: str) -> tuple[str, str]:
    """Observed and expected in as many digits as tell the two apart."""
    for extra in range(_MOST_EXTRA + 1):
        texts = quantity(value, unit, extra), span(band, unit, extra)
        bound = band.low if value < band.low else band.high
        if band.holds(value) or texts[0] != quantity(bound, unit, extra):
            break
    return texts


def noticed(what: str, value: float, band: Band, unit: str, start_unix_nano: int) -> str:
    """The sentence of an alert that opens."""
    observed, expected = _figures(value, band, unit)
    if not expected:
        middle = "which is unusual"
    else:
        middle = f"expected {expected}" if band.known else expected
    return f"{what} is {observed}, {middle}, since {clock(start_unix_nano)}"


def instead(value: float, band: Band, unit: str = "") -> str:
    """A value, and what would have been normal in its place.

    >>> instead(0.0123, Band(0.008, 0.01), "s"), instead(4.0, Band(high=3.0))
    ('12.3 ms, between 8 and 10 ms would have been normal', '4, at most 3 would have been normal')
    """
    observed, normal = _figures(value, band, unit)
    if math.isfinite(band.low) and math.isfinite(band.high):
        first, dash, last = normal.partition(" to " if band.low < 0 else "–")
        normal = f"between {first} and {last}" if dash else normal
    normal = normal.removeprefix("usually ") or "what"
    return f"{observed}, {normal} would have been normal" + (" is not known" if normal == "what" else "")


def measured(measure: str, what: str, value: float, unit: str, seen: float, usual: float, now_unix_nano: int) -> str:
    """The sentence of an alert about something other than the value: how much of it is seen, and how much is usual.

    >>> measured("pause", "load of host a1", 0.5, "1", 720.0, 40.0, 43_450_000_000_000)
    'load of host a1 has not moved from 0.5 since 11:52:10 UTC (12 min); its longest pauses usually last 40 s'
    >>> measured("variation", "load of host a1", 0.5, "1", 2.1, 1.6, 43_450_000_000_000)
    'load of host a1 varies 2.1 × as much as usual, rarely over 1.6 ×, since 12:04:10 UTC; it is 0.5'
    """
    return MEASURES[measure](what, quantity(value, unit), seen, usual, now_unix_nano)


def _paused(what: str, value: str, seconds: float, usual: float, now_unix_nano: int) -> str:
    since = clock(now_unix_nano - round(seconds * 1e9))
    longest = f"its longest pauses usually last {duration(usual)}" if usual > 0 else "it usually moves all the time"
    return f"{what} has not moved from {value} since {since} ({duration(seconds)}); {longest}"


def _varied(what: str, value: str, ratio: float, usual: float, now_unix_nano: int) -> str:
    if ratio < 1.0:
        much = f"varies only {max(ratio, LEAST_RATIO):.1f} × as much as usual"
    else:
        much = f"varies {'over ' if ratio > MOST_RATIO else ''}{min(ratio, MOST_RATIO):.1f} × as much as usual"
        much += f", rarely over {usual:.1f} ×" if 1.0 < usual < min(ratio, MOST_RATIO) else ""
    return f"{what} {much}, since {clock(now_unix_nano)}; it is {value}"


def _departed(what: str, value: str, times: float, usual: float, now_unix_nano: int) -> str:
    return (
        f"{what} goes its own way, {times:.1f} × as far as it rarely does, since {clock(now_unix_nano)}; it is {value}"
    )


MEASURES = {"pause": _paused, "variation": _varied, "departure": _departed}
"""What detectors measure other than the value → its sentence, of (what, value in words, seen, usual, now)."""
_AS_USUAL = {"pause": "moves again", "variation": "varies as usual again", "departure": "goes with the others again"}


def as_usual(measure: str, what: str, value: float, unit: str, seconds: float) -> str:
    """The sentence of such an alert that closes.

    >>> as_usual("pause", "load of host a1", 0.7, "1", 1800.0)
    'load of host a1 moves again after 30 min and is 0.7'
    """
    tail = "" if math.isnan(value) else f" and is {quantity(value, unit)}"
    return f"{what} {_AS_USUAL[measure]} after {duration(seconds)}{tail}"


def over_limit(what: str, value: float, band: Band, unit: str, start_unix_nano: int) -> str:
    """The sentence of an alert on a limit that a user wrote.

    >>> over_limit("load of host a1", 9.0, Band(high=8.0), "1", 0)
    'load of host a1 is 9, over its limit of 8, since 00:00:00 UTC'
    """
    observed, _ = _figures(value, band, unit)
    above = band.direction(value) == "above"
    bound = band.high if above else band.low
    where = f"{'over' if above else 'under'} its limit"
    limit = f" of {quantity(bound, unit)}" if math.isfinite(bound) else ""
    return f"{what} is {observed}, {where}{limit}, since {clock(start_unix_nano)}"


def together(who: str, most: str, value: float, unit: str, start_unix_nano: int) -> str:
    """The sentence of an alert that only the features together raise; `most` = the one that stands out, or empty."""
    tail = f", most of all its {most} ({quantity(value, unit)})" if most else ""
    return f"{who} is unusual{tail}, since {clock(start_unix_nano)}"


def description(start_unix_nano: int, notes: Mapping[str, str]) -> str:
    """What else is known when an alert opens, from its annotations.

    >>> description(0, {"detector": "robust_z", "score": "12.1", "p_value": "0.0001", "expected": "0.1", "unit": "1"})
    'This began at 1970-01-01 00:00:00 UTC. The value is usually about 0.1. Score of robust_z: 12.1 (p = 0.0001).'
    """
    parts = [f"This began at {date_clock(start_unix_nano)}."]
    if "expected" in notes:
        parts.append(f"The value is usually about {quantity(float(notes['expected']), notes.get('unit', ''))}.")
    if "score" in notes:
        chance = f" (p = {float(notes['p_value']):.2g})" if "p_value" in notes else ""
        parts.append(f"Score of {notes['detector']}: {float(notes['score']):.3g}{chance}.")
    if notes.get("contributions"):
        parts.append(f"Share of features: {notes['contributions']}.")
    return " ".join(parts)


def resolved(what: str, value: float, unit: str, seconds: float, back: bool) -> str:
    """The sentence of an alert that closes; `back` = the value lies in the band that it had left.

    >>> resolved("cpu utilization of host a1", 0.05, "1", 62, True)
    'cpu utilization of host a1 is back to 0.05 after 1 min 2 s'
    """
    if math.isnan(value):
        return f"{what} is back to what is usual after {duration(seconds)}"
    if back:
        return f"{what} is back to {quantity(value, unit)} after {duration(seconds)}"
    return f"{what} is {quantity(value, unit)}, which no longer stands out, after {duration(seconds)}"


def changed(what: str, value: float, unit: str, start_unix_nano: int) -> str:
    """The sentence of a slow change or a new shape.

    >>> changed("latency of service cart", 0.0123, "s", 0)
    'latency of service cart takes a course that it has not taken before, now 12.3 ms, since 00:00:00 UTC'
    """
    return (
        f"{what} takes a course that it has not taken before, now {quantity(value, unit)}, since "
        f"{clock(start_unix_nano)}"
    )


def change_description(start_unix_nano: int, detector: str) -> str:
    """What else is known of such a change."""
    return (
        f"This began at {date_clock(start_unix_nano)}. No value is out of bounds: a slow change, a cycle that is "
        f"missing or a shape that {detector} does not remember. It notifies nobody."
    )


def changed_no_more(what: str) -> str:
    """The sentence of such a change that nothing followed."""
    return f"nothing new of {what} for an hour"


def in_maintenance(what: str, seconds: float) -> str:
    """The sentence of an alert that maintenance ends."""
    return f"{what} is in maintenance and no longer judged, after {duration(seconds)}"


def silent(who: str, start_unix_nano: int, step_seconds: float) -> str:
    """The sentence of an entity gone silent.

    >>> silent("host a1", 43_450_000_000_000, 5.0)
    'host a1 has sent nothing since 12:04:10 UTC; it usually reports every 5 s'
    """
    usual = f"; it usually reports every {duration(step_seconds)}" if step_seconds > 0 else ""
    return f"{who} has sent nothing since {clock(start_unix_nano)}{usual}"


def last_heard(time_unix_nano: int) -> str:
    """What else is known of a silent entity."""
    return f"The last data is from {date_clock(time_unix_nano)}. Nothing can be said of it until it reports again."


def heard(who: str, seconds: float) -> str:
    """The sentence of an entity that reports again."""
    return f"{who} reports again after {duration(seconds)}"
