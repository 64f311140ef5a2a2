"""The conformance suite of detectors (CONTRACTS §4), run on every detector and shipped to those who write their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from foreshock.errors import ConfigError
from foreshock.testing.detector_case import Breach, Case, Factory
from foreshock.testing.detector_checks import CHECKS, MULTIVARIATE_CHECKS


class ConformanceError(AssertionError):
    """Rules of the contract that a detector breaks: `checks` are their names, the message says what was seen."""

    def __init__(self, seen: Mapping[str, str]) -> None:
        self.checks = tuple(seen)
        super().__init__("\n".join(f"{name}: {what}" for name, what in seen.items()))


def check_detector(
    factory: Factory,
    *,
    config: Mapping[str, Any] | None = None,
    univariate: bool | None = None,
    twin: Callable[[Mapping[str, Any]], Any] | None = None,
    twin_tolerance: float = 0.0,
    only: Collection[str] | None = None,
    seed: int = 0,
) -> None:
    """Run every check of the contract on a detector; return if all hold.

    Parameters
        factory         the detector's class, or what makes one of a config
        config          its options, also given to `restore`
        univariate      what its kind must be; None: as its info says
        twin            class of a slow, obvious twin: `twin(config).step(keys, times, values, learn, status)`, all of
                        them lists with one entry a row (values: a list of floats a row), gives (scores, statuses)
        twin_tolerance  how far the twin's scores may be off, relative and absolute; 0: not by a bit
        only            names of checks (`check_names()`); None: all
        seed            of the data

    The expiry check takes for granted that 400 days without a row are a gap. For a multivariate detector
    `info.bytes_per_slot` is measured with eight features. Raises ConformanceError with each rule broken and what was
    seen; ConfigError where `only` names no check.

    >>> from foreshock.detect.zscore import ZScore
    >>> check_detector(ZScore, config={"half_life_rows": 50}, only=["info", "zero_rows"])
    """
    if unknown := set(only or ()) - set(check_names()):
        raise ConfigError(f"there is no check {sorted(unknown)[0]!r}; there are {', '.join(check_names())}", key="only")
    case = Case(factory, dict(config or {}), seed, univariate, twin, twin_tolerance)
    checks = CHECKS + (MULTIVARIATE_CHECKS if case.multivariate else ())
    seen: dict[str, str] = {}
    for check in checks:
        if only is None or check.__name__ in only:
            try:
                check(case)
            except Breach as breach:
                seen[check.__name__] = str(breach)
            except Exception as error:  # noqa: BLE001 - whatever a detector raises is a finding of this check
                seen[check.__name__] = f"raised {type(error).__name__}: {error}"
    if seen:
        raise ConformanceError(seen)


def check_names() -> tuple[str, ...]:
    """The names of all checks, in the order they run."""
    return tuple(check.__name__ for check in CHECKS + MULTIVARIATE_CHECKS)
