"""Every detector keeps the contract, and a detector that breaks one rule fails the check of that rule and no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from foreshock.detect.deviation import Deviation
from foreshock.detect.noise import Noise
from foreshock.detect.robust_z import RobustZ
from foreshock.detect.stuck import Stuck
from foreshock.detect.zscore import ZScore
from foreshock.errors import ConfigError
from foreshock.testing import ConformanceError, check_detector, check_names
from tests.conformance.broken import BROKEN, NeedsARow, OffByAHair, ScoresEarly
from tests.conformance.multivariate import Farthest
from tests.unit.detect_twins import RobustZTwin, ZScoreTwin
from tests.unit.deviation_twin import DeviationTwin
from tests.unit.own_detector import Jump
from tests.unit.texture_twins import NoiseTwin, StuckTwin


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "config",
    [{}, {"half_life_rows": 20}, {"half_life_rows": 3, "warm_up_rows": 40}, {"warm_up_rows": 2, "threshold": 1.5}],
    ids=str,
)
def test_zscore_keeps_the_contract(config: Mapping[str, Any], seed: int) -> None:
    check_detector(ZScore, config=config, univariate=True, twin=ZScoreTwin, seed=seed)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "config", [{}, {"window": 20}, {"window": 21, "min_change": 3}, {"window": 100, "warm_up_rows": 2}], ids=str
)
def test_robust_z_keeps_the_contract(config: Mapping[str, Any], seed: int) -> None:
    check_detector(RobustZ, config=config, univariate=True, twin=RobustZTwin, seed=seed)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "config", [{}, {"tier": "light"}, {"warm_up_rows": 5}, {"warm_up_rows": 40, "min_change": 3}], ids=str
)
def test_deviation_keeps_the_contract(config: Mapping[str, Any], seed: int) -> None:
    check_detector(Deviation, config=config, univariate=True, twin=DeviationTwin, seed=seed)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("config", [{}, {"warm_up_rows": 5, "least_moves": 0.5}, {"young_seconds": 0}], ids=str)
def test_stuck_keeps_the_contract(config: Mapping[str, Any], seed: int) -> None:
    check_detector(Stuck, config=config, univariate=True, twin=StuckTwin, seed=seed)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("config", [{}, {"warm_up_rows": 5}, {"warm_up_rows": 40, "min_change": 3}], ids=str)
def test_noise_keeps_the_contract(config: Mapping[str, Any], seed: int) -> None:
    check_detector(Noise, config=config, univariate=True, twin=NoiseTwin, seed=seed)


def test_the_detector_of_the_docs_keeps_the_contract() -> None:
    check_detector(Jump)
    check_detector(Jump, config={"gain": 0.5, "warm_up_rows": 5}, univariate=True, seed=1)


def test_a_multivariate_detector_keeps_the_contract() -> None:
    check_detector(Farthest, univariate=False)


@pytest.mark.parametrize(("check", "detector"), BROKEN, ids=lambda one: getattr(one, "__name__", one))
def test_a_broken_detector_fails_the_check_of_its_rule_only(check: str, detector: type[Any]) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_detector(detector)
    assert caught.value.checks == (check,), str(caught.value)


def test_a_detector_that_is_off_by_a_hair_differs_from_its_twin_only() -> None:
    with pytest.raises(ConformanceError, match=r"^twin: beside the twin: row 60 has score") as caught:
        check_detector(OffByAHair, twin=ZScoreTwin)
    assert caught.value.checks == ("twin",)
    check_detector(OffByAHair, twin=ZScoreTwin, twin_tolerance=1e-9)


def test_each_check_has_a_detector_that_fails_it() -> None:
    assert {check for check, _ in BROKEN} | {"twin"} == set(check_names())


def test_all_rules_that_are_broken_are_told() -> None:
    class Both(NeedsARow, ScoresEarly):
        pass

    with pytest.raises(ConformanceError) as caught:
        check_detector(Both)
    assert caught.value.checks == ("zero_rows", "warm_up")
    first, second = str(caught.value).splitlines()
    assert first.startswith("zero_rows: raised ValueError: ")
    assert second == "warm_up: of a new key row 19 is scored; info.warm_up_rows is 20"


def test_the_kind_and_the_names_of_checks_are_looked_at() -> None:
    with pytest.raises(ConformanceError, match=r"info: info\.kind is 'univariate'"):
        check_detector(Jump, univariate=False, only=["info"])
    with pytest.raises(ConfigError, match=r"only: there is no check 'restor'; there are info, results"):
        check_detector(Jump, only=["restor"])
