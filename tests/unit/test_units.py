"""Quantities with units: what they measure, and what they are in the unit of a series."""

from __future__ import annotations

import math

import pytest

from foreshock.types.units import Measure, Options, Quantity, parse_quantity, quantity


class Some(Options):
    limit: Quantity | None = None


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("90 %", "1", 0.9),
        ("90%", "%", 90.0),
        ("90 %", "", 0.9),
        ("0.9", "%", 0.9),
        (0.9, "By", 0.9),
        ("250 ms", "s", 0.25),
        ("250 ms", "ms", 250.0),
        ("250ms", "us", 250_000.0),
        ("1.5 h", "min", 90.0),
        ("2 GiB", "By", 2.0 * 2**30),
        ("2 GB", "MBy", 2000.0),
        ("2 GB", "", 2e9),
        ("5 MB/s", "By/s", 5e6),
        ("60 MB/min", "By/s", 1e6),
        ("1 kB/s", "KiBy/s", 1000 / 1024),
        ("100 Mbit/s", "bit/s", 1e8),
        ("20/s", "{request}/s", 20.0),
        ("-40 °C", "Cel", -40.0),
        ("1e3 ms", "s", 1.0),
        ("2.4 GHz", "Hz", 2.4e9),
        ("10 %/min", "1/s", 0.1 / 60),
    ],
)
def test_a_quantity_in_the_unit_of_a_series(text: str | float, unit: str, number: float) -> None:
    assert quantity(parse_quantity(text)).within(unit) == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("90 %", "By"), ("250 ms", "By"), ("5 MB/s", "By"), ("5 MB", "By/s"), ("5 MB", "bit"), ("3 V", "{volt}"),
        ("3 s", "furlong"),
    ],
)  # fmt: skip
def test_what_measures_something_else_has_no_number(text: str, unit: str) -> None:
    assert quantity(text).within(unit) is None


@pytest.mark.parametrize(
    "text", ["ninety", "5 parsecs", "", "%", "5 MBs", "5 MB/parsec", "1 2 s", "nan", "inf", "5 MB/B"]
)
def test_what_is_no_quantity_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number with a unit such as 90 %"):
        Some(limit=text)


@pytest.mark.parametrize("value", [True, [1], math.nan])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a number with a unit"):
        Some.model_validate({"limit": value})


def test_a_setting_keeps_what_was_written_and_reads_it_again() -> None:
    for given, kept in (("90 %", "90 %"), (" 5 MB/s ", "5 MB/s"), ("7", 7.0), (7, 7.0), (None, None)):
        made = Some.model_validate({"limit": given})
        assert made.limit == kept
        assert Some.model_validate(made.model_dump()) == made
        assert Some.model_validate_json(made.model_dump_json()) == made


def test_a_plain_number_has_no_base() -> None:
    assert quantity(3) == Measure(3.0, None)
    assert quantity("3") == Measure(3.0, None)
    assert quantity("3 %").base == "1"
