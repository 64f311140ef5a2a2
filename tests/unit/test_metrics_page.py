"""The page of our own metrics names every one of them, with its labels, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from foreshock import telemetry

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def test_every_metric_is_documented_with_its_labels() -> None:
    found = dict(re.findall(r"^\| `(\w+)(?:\{([\w, ]+)\})?` \|", PAGE.read_text(), re.M))
    own = [one for one in vars(telemetry).values() if isinstance(one, MetricWrapperBase)]
    wanted = {
        one._name + ("_total" if isinstance(one, Counter) else ""): ", ".join(one._labelnames) for one in own
    }  # fmt: skip
    assert found == wanted
