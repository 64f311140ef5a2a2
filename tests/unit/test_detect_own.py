"""The detector of docs/how-to/your-own-detector.md is the one that is tested, and runs from config."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from foreshock.errors import ConfigError
from foreshock.plugins import build_detectors, options_model
from foreshock.testing.frames import MINUTE, START, make
from tests.unit.own_detector import Jump, JumpOptions

PAGE = Path(__file__).parents[2] / "docs/how-to/your-own-detector.md"
CODE = Path(__file__).with_name("own_detector.py")
PATH = "tests.unit.own_detector:Jump"


def test_the_code_of_the_page_is_the_code_of_the_test() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert CODE.read_text() in blocks
    classes = CODE.read_text().partition("class ")[2]
    assert len([line for line in classes.splitlines() if line.strip()]) <= 30


def test_it_is_built_from_config_by_its_dotted_path() -> None:
    assert options_model(Jump) is JumpOptions
    part = SimpleNamespace(type=PATH, name="mine", options=JumpOptions(gain=0.1))
    detector = build_detectors([part])["mine"]
    assert isinstance(detector, Jump)
    assert detector.options.gain == 0.1
    with pytest.raises(ConfigError, match=r"gian: unknown option; did you mean 'gain'"):
        Jump({"gian": 0.1})


def test_it_scores_a_jump_in_mean_changes() -> None:
    detector = Jump()
    x = np.tile([0.0, 1.0], 200)
    detector.step(make(np.zeros(400), START + MINUTE * np.arange(400), x))
    seen = detector.score(make([0], START + 400 * MINUTE, [8.0]))
    assert seen.score[0] == pytest.approx(7.0, rel=1e-2)
    assert seen.expected is not None
    assert seen.expected[0] == 1.0
