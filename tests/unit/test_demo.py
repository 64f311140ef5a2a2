"""The demo: what it is made of, and what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from foreshock.demo import DemoOptions, config_of, fault_report, sentence, told
from foreshock.errors import ConfigError
from foreshock.shop.faults import Truth
from foreshock.shop.judge import Finding
from foreshock.types import Alert, labels

NANO = 1_000_000_000
TRUTH = Truth("error_spike", "payment", "errors", "large", 1000 * NANO, 1060 * NANO, ("checkout", "gateway"))
ALERT = Alert(labels({"service_name": "payment", "feature": "calls.error_ratio"}), (("summary", "so"),), 0, 5)


def finding(service: str = "payment") -> Finding:
    return Finding(TRUTH, (ALERT,), 7.0, service, "calls.error_ratio", True)


def test_the_options_reach_the_shop(tmp_path: Path) -> None:
    config = config_of(DemoOptions(seed=7, faults=("crash",)), tmp_path, 12.0)
    shop = next(one for one in config.sources if one.type == "shop").options
    assert (shop.seed, shop.first, shop.kinds, shop.tour) == (7, 12.0, ("crash",), True)
    assert {one.type for one in config.sources} == {"shop", "host"}
    assert config.data_dir == tmp_path


def test_this_machine_is_left_out_where_time_goes_faster(tmp_path: Path) -> None:
    assert {one.type for one in config_of(DemoOptions(speed=10.0), tmp_path, 12.0).sources} == {"shop"}


def test_real_services_send_calls(tmp_path: Path) -> None:
    assert {one.type for one in config_of(DemoOptions(real=True), tmp_path, 12.0).sources} == {"calls", "host"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"faults": ("earthquake",)}, "there is no fault 'earthquake'; there are error_spike"),
        ({"speed": 0.0}, "between 0.1 and 100"),
        ({"speed": 2.0, "real": True}, "real services take their own time"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        DemoOptions(**options)  # type: ignore[arg-type]


def test_a_fault_in_the_report() -> None:
    found = fault_report(finding())
    assert found["kind"] == "error_spike"
    assert found["start"] == "1970-01-01T00:16:40Z"
    assert (found["found"], found["found_service"], found["found_feature"]) == (True, "payment", "calls.error_ratio")
    assert (found["delay_seconds"], found["summary"]) == (7.0, "so")
    missed = fault_report(Finding(TRUTH))
    assert (missed["found"], missed["found_service"], missed["delay_seconds"]) == (False, None, None)


def test_what_became_of_a_fault_in_words() -> None:
    assert sentence(finding()) == "noticed after 7 s"
    assert sentence(finding("gateway")) == "noticed after 7 s, at gateway"
    assert told([finding(), Finding(TRUTH)]) == [
        "✓ error_spike in payment: noticed after 7 s", "✗ error_spike in payment: not noticed",
    ]  # fmt: skip


def test_what_is_compiled_beside_is_what_the_demo_needs() -> None:
    program = """
from foreshock.config import load
from foreshock.detect.linear_kernel import sweep
from foreshock.runtime.warm import warm, warm_calls, warm_detector
from foreshock.stream.fingerprint_kernel import take

warm_detector("linear")
warm_calls()
had = sweep.signatures, take.signatures
warm(load([], preset="demo", environ={}), 12)
assert had == (sweep.signatures, take.signatures) and all(had), had
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
