"""Parts by name: built in, from an installed package's entry points, or from a dotted path in the config.

A part is a class. Its options are validated by the pydantic model that stands in its `options` attribute, or that its
constructor's parameter `options` is annotated with; a part without one is given its options as a plain mapping.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from importlib import import_module, metadata
from typing import Any, Protocol, get_args, get_type_hints

from pydantic import BaseModel

from foreshock.errors import ConfigError
from foreshock.ports import Detector

BUILT_IN: dict[str, dict[str, str]] = {
    "detector": {
        "deviation": "foreshock.detect.deviation:Deviation",
        "half_space_trees": "foreshock.detect.half_space_trees:HalfSpaceTrees",
        "isolation_forest": "foreshock.detect.isolation_forest:IsolationForest",
        "linear": "foreshock.detect.linear:Linear",
        "noise": "foreshock.detect.noise:Noise",
        "pca": "foreshock.detect.pca:Pca",
        "rate_of_change": "foreshock.detect.rate_of_change:RateOfChange",
        "robust_z": "foreshock.detect.robust_z:RobustZ",
        "seasonal": "foreshock.detect.seasonal:Seasonal",
        "static_threshold": "foreshock.detect.static_threshold:StaticThreshold",
        "stuck": "foreshock.detect.stuck:Stuck",
        "zscore": "foreshock.detect.zscore:ZScore",
    },
    "source": {
        "calls": "foreshock.adapters.http:CallsSource",
        "files": "foreshock.adapters.files:FilesSource",
        "host": "foreshock.adapters.host:HostSource",
        "http": "foreshock.adapters.http:HttpSource",
        "prometheus": "foreshock.adapters.prometheus.source:PrometheusSource",
        "shop": "foreshock.shop.source:ShopSource",
    },
    "sink": {
        "jsonl": "foreshock.adapters.sinks.jsonl:Jsonl",
        "stdout": "foreshock.adapters.sinks.stdout:Stdout",
        "webhook": "foreshock.adapters.sinks.webhook:Webhook",
    },
}
"""Kind → name → `module:Class`, imported when first asked for."""


def find(kind: str, name: str) -> type[Any]:
    """The class of a part: `kind` is `detector`, `source` or `sink`; `name` a known name or a dotted path.

    Raises ConfigError where there is none, with the names that come near, or with the extra to install.
    """
    path = BUILT_IN[kind].get(name) or _entries(kind).get(name)
    if path is None and not re.search(r"[.:]", name):
        raise ConfigError(f"unknown {kind}{nearest(name, names(kind))}")
    return _load(kind, path or name)


def names(kind: str) -> list[str]:
    """The names that `find` knows for a kind, sorted."""
    return sorted(_entries(kind).keys() | BUILT_IN[kind].keys())


def _entries(kind: str) -> dict[str, str]:
    """Parts of installed packages: name → `module:Class`."""
    return {entry.name: entry.value for entry in metadata.entry_points(group=f"foreshock.{kind}s")}


def options_model(part: type[Any]) -> type[BaseModel] | None:
    """The model of a part's options, or None for a part that takes a plain mapping."""
    try:
        annotation = get_type_hints(part.__init__).get("options")
    except (NameError, TypeError, AttributeError):
        annotation = None
    for one in (getattr(part, "options", None), annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


class Described(Protocol):
    """A part as the settings describe it: `options` is a model or a mapping."""

    @property
    def type(self) -> str:
        """A known name or a dotted path."""
        ...

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def options(self) -> Any:
        """Its own options."""
        ...


def build(kind: str, part: Described, **services: Any) -> Any:
    """An object of a part's class.

    Its constructor is given `name`, `options` and those `services` (`clock=...`) that it has parameters for; one
    without a parameter `options` gets each option as a parameter of its own. Raises ConfigError where they do not fit.
    """
    cls = find(kind, part.type)
    signature = inspect.signature(cls)
    offered = {"name": part.name, "options": part.options, **services}
    arguments = {key: value for key, value in offered.items() if key in signature.parameters}
    if "options" not in arguments and isinstance(part.options, Mapping):
        arguments |= part.options
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(f"{kind} {part.name!r}: {part.type} cannot be made of its options: {error}") from None
    return cls(**arguments)


def build_detectors(parts: Iterable[Described]) -> dict[str, Detector]:
    """The detectors of a config by name, in its order; ConfigError for a class that is no detector."""
    built: dict[str, Detector] = {}
    for part in parts:
        detector = build("detector", part)
        if not isinstance(detector, Detector):
            raise ConfigError(f"detector {part.name!r}: {part.type} lacks what a detector has: info, step, score, "
                              "forget, state, restore")  # fmt: skip
        built[part.name] = detector
    return built


def nearest(name: str, known: Iterable[str]) -> str:
    """How a message about an unknown name ends: the nearest known one, or all of them.

    >>> nearest("zscor", ["robust_z", "zscore"]), nearest("foo", ["robust_z", "zscore"])
    ("; did you mean 'zscore'?", '; known are: robust_z, zscore')
    """
    options = sorted(known)
    if close := difflib.get_close_matches(name.lower(), options, 1, 0.6):
        return f"; did you mean {close[0]!r}?"
    return f"; known are: {', '.join(options)}" if options else ""


def _load(kind: str, path: str) -> type[Any]:
    module_name, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    if not (module_name and attribute and all(piece.isidentifier() for piece in module_name.split("."))):
        raise ConfigError(f"{path!r} names no {kind}: write package.module:Class")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(_missing(kind, path, module_name, error.name or module_name)) from error
    except Exception as error:
        raise ConfigError(f"{path!r} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and not key.startswith("_")]
        raise ConfigError(f"module {module_name} has no class {attribute!r}{nearest(attribute, classes)}")
    return found


def _missing(kind: str, path: str, wanted: str, missing: str) -> str:
    if wanted == missing or wanted.startswith(missing + "."):
        return f"{path!r} names no {kind}: there is no module {missing} (is its folder on PYTHONPATH?)"
    extra = _extra_with(missing)
    install = f"foreshock[{extra}]" if extra else missing.partition(".")[0]
    return f"{path!r} needs {missing}, which is not installed: pip install '{install}'"


def _extra_with(module: str) -> str | None:
    """The extra of this package that brings a module, told by the names of its requirements."""
    wanted = _plain(module.partition(".")[0])
    try:
        requirements = metadata.requires("foreshock") or []
    except metadata.PackageNotFoundError:
        return None
    for requirement in requirements:
        package = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        if package and extra and _plain(package[0]) == wanted and extra[1] != "dev":
            return extra[1]
    return None


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
