"""Settings: one YAML file or a folder of them, over a preset, under the environment; typed, checked, explained.

`load` gives a `Config` or raises the first ConfigError; `check` gives all that is wrong; `show` prints what counts and
where it came from; `schema` is for editors; `reference` writes the page of all settings.
"""

from foreshock.config._load import check, load, presets
from foreshock.config._model import Config, parse_resolved
from foreshock.config._parts import Detector, Part, Sink, Source
from foreshock.config._reference import reference
from foreshock.config._schema import schema
from foreshock.config._secrets import Secret
from foreshock.config._sections import Http, Limits, Log, Snapshot, Store, Token
from foreshock.config._show import settings_of, show
from foreshock.config._tree import Problem

__all__ = [
    "Config",
    "Detector",
    "Http",
    "Limits",
    "Log",
    "Part",
    "Problem",
    "Secret",
    "Sink",
    "Snapshot",
    "Source",
    "Store",
    "Token",
    "check",
    "load",
    "parse_resolved",
    "presets",
    "reference",
    "schema",
    "settings_of",
    "show",
]
