"""Parts by name, by entry point and by dotted path."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, SecretStr

from foreshock import plugins
from foreshock.config import Config, Detector, load, reference, schema, show
from foreshock.errors import ConfigError
from foreshock.ports import DetectorInfo
from foreshock.state import State
from foreshock.types import Frame, Scores
from foreshock.types.units import Options

MODULE = "foreshock_test_parts"


class Plain:
    """A user's detector that takes its options as parameters of their own, unchecked."""

    info = DetectorInfo("plain", 1, "univariate", 1, 0, 1.0)

    def __init__(self, limit: float = 1.0) -> None:
        self.limit = limit

    def step(self, frame: Frame) -> Scores:
        return Scores(np.full(len(frame), self.limit), frame.status)

    def score(self, frame: Frame) -> Scores:
        return self.step(frame)

    def forget(self, keys: NDArray[np.int32]) -> None:
        pass

    def state(self) -> State:
        return State(1)

    @classmethod
    def restore(cls, config: Mapping[str, Any], state: State) -> Self:
        return cls(**config)


class OwnOptions(Options):
    """Options of a user's part."""

    limit: float = 2.0
    key: SecretStr | None = None


class Modelled(Plain):
    """A user's detector whose constructor says which model its options are."""

    def __init__(self, options: OwnOptions | None = None, name: str = "") -> None:
        super().__init__((options or OwnOptions()).limit)
        self.name = name


class NoDetector:
    """Has nothing that a detector has."""


@pytest.fixture(autouse=True)
def _module() -> Iterator[None]:
    parts = SimpleNamespace(Plain=Plain, Modelled=Modelled, NoDetector=NoDetector, OwnOptions=OwnOptions, value=3)
    sys.modules[MODULE] = parts  # type: ignore[assignment]
    yield
    del sys.modules[MODULE]


@pytest.mark.parametrize("kind", sorted(plugins.BUILT_IN))
def test_everything_built_in_is_there_and_described(kind: str) -> None:
    assert plugins.BUILT_IN[kind]
    for name in plugins.BUILT_IN[kind]:
        part = plugins.find(kind, name)
        model = plugins.options_model(part)
        assert model is not None
        model()
        assert f"### {kind} `{name}`" in reference()
    assert set(plugins.names(kind)) >= set(plugins.BUILT_IN[kind])


def test_parts_of_ones_own_by_dotted_path() -> None:
    assert plugins.find("detector", f"{MODULE}:Plain") is Plain
    assert plugins.find("detector", f"{MODULE}.Modelled") is Modelled
    assert plugins.options_model(Plain) is None
    assert plugins.options_model(Modelled) is OwnOptions


def test_parts_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = metadata.EntryPoint("mine", f"{MODULE}:Plain", "foreshock.detectors")
    taken = metadata.EntryPoint("zscore", f"{MODULE}:Plain", "foreshock.detectors")

    def entry_points(group: str) -> list[metadata.EntryPoint]:
        return [entry, taken] if group == "foreshock.detectors" else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    assert plugins.find("detector", "mine") is Plain
    assert plugins.find("detector", "zscore") is not Plain
    assert "mine" in plugins.names("detector")
    assert "mine" not in plugins.names("sink")
    assert "mine" in schema()["properties"]["detectors"]["items"]["anyOf"][0]["enum"]
    with pytest.raises(ConfigError, match="did you mean 'mine'"):
        plugins.find("detector", "mien")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zscor", "unknown detector; did you mean 'zscore'?"),
        (
            "qq",
            "unknown detector; known are: deviation, half_space_trees, isolation_forest, linear, noise, pca, ra",
        ),
        ("no_such_module:X", "there is no module no_such_module"),
        ("foreshock.no_such.deep:X", "there is no module foreshock.no_such"),
        (f"{MODULE}:Plan", "has no class 'Plan'; did you mean 'Plain'?"),
        (f"{MODULE}:value", "has no class 'value'"),
        (":X", "write package.module:Class"),
        ("a-b:X", "write package.module:Class"),
        ("..", "write package.module:Class"),
    ],
)
def test_what_is_not_there(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda group: [])
    with pytest.raises(ConfigError) as caught:
        plugins.find("detector", name)
    assert message in caught.value.message


def test_a_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        metadata, "requires", lambda name: ["numpy>=2", "no-such-client>=2; extra == 'queue'", 'x; extra == "dev"']
    )
    (tmp_path / "needs_extra.py").write_text("import no_such_client.admin\nclass A: ...\n")
    with pytest.raises(ConfigError, match=r"needs no_such_client, .* pip install 'foreshock\[queue\]'"):
        plugins.find("source", "needs_extra:A")
    (tmp_path / "needs_other.py").write_text("import no_such_other\nclass A: ...\n")
    with pytest.raises(ConfigError, match=r"needs no_such_other, .* pip install 'no_such_other'"):
        plugins.find("source", "needs_other:A")
    (tmp_path / "breaks.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="cannot be imported: ZeroDivisionError"):
        plugins.find("source", "breaks:A")


def test_options_are_given_as_the_constructor_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        f"detectors:\n- {{type: '{MODULE}:Plain', name: a, limit: 3}}\n- '{MODULE}:Plain': {{name: b}}\n"
        f"- {{type: '{MODULE}:Modelled', name: c, limit: 4, key: {{env: KEY}}}}\n- zscore: {{threshold: 3}}\n"
    )
    config = load(path, environ={"KEY": "hunter2"})
    built = plugins.build_detectors(config.detectors)
    assert [getattr(one, "limit", None) for one in built.values()] == [3, 1, 4, None]
    assert list(built) == ["a", "b", "c", "zscore"]
    modelled = built["c"]
    assert isinstance(modelled, Modelled)
    assert modelled.name == "c"
    assert config.detectors[2].options.key.get_secret_value() == "hunter2"
    assert "hunter2" not in show(config) + repr(config)
    assert isinstance(config.detectors[3].options, BaseModel)
    assert f"{MODULE}:Plain" in config.resolved().decode()


def test_options_that_do_not_fit() -> None:
    part = Detector.model_validate({"type": f"{MODULE}:Plain", "limit": 1})
    with pytest.raises(ConfigError, match="cannot be made of its options: got an unexpected keyword argument 'limt'"):
        plugins.build("detector", part.model_copy(update={"options": {"limt": 1}}))
    assert plugins.build("detector", part).limit == 1
    given = Detector(type=f"{MODULE}:Modelled", name="a", options=OwnOptions(limit=5))
    assert plugins.build("detector", given).limit == 5
    with pytest.raises(ConfigError, match="lacks what a detector has"):
        plugins.build_detectors([Detector(type=f"{MODULE}:NoDetector", name="a")])


def test_the_default_detectors_can_be_built() -> None:
    assert list(plugins.build_detectors(Config().detectors)) == ["deviation", "linear", "stuck"]


def test_every_detector_stands_on_its_page() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/detectors.md").read_text()
    for name in plugins.BUILT_IN["detector"]:
        assert f"\n## {name}\n" in page
        assert f"[`{name}`](#{name})" in page
