"""From files, presets, variables and options to a config, or to all that is wrong with them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from foreshock import plugins
from foreshock.config import _environ
from foreshock.config._explain import flags_for_numbers, in_order, problems_of, user_loc
from foreshock.config._model import Config, as_data
from foreshock.config._secrets import look_up
from foreshock.config._sections import CROSS_CHECK
from foreshock.config._tree import Origin, Problem, Value, join, overlay, spread_parts
from foreshock.config._yaml import parse, read_file, yaml_files

PathLike = str | os.PathLike[str]

_TEXT_WANTED = ("string_type", "string_sub_type")


def load(
    paths: PathLike | Sequence[PathLike] = (),
    *,
    preset: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """The config of files or folders, over a preset, under the environment and the command line's `overrides`.

    A path that does not exist and is the name of a preset stands for it. `environ` is `os.environ` if not given.
    Later ones win: default, preset, files, environment, overrides (a nested mapping). Raises the first ConfigError.
    """
    config, problems = _load(paths, preset, environ, overrides)
    if config is None:
        raise problems[0].error()
    return config


def check(
    paths: PathLike | Sequence[PathLike] = (),
    *,
    preset: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[Problem]:
    """All that is wrong with what `load` would be given, in the order of files and lines; empty = nothing."""
    return _load(paths, preset, environ, overrides)[1]


def presets() -> dict[str, str]:
    """The presets that come with the package: name → what it is for (its first line)."""
    folder = resources.files("foreshock") / "presets"
    found = {entry.name.removesuffix(".yaml"): entry for entry in folder.iterdir() if entry.name.endswith(".yaml")}
    return {name: found[name].read_text("utf-8").splitlines()[0].lstrip("# ") for name in sorted(found)}


def _load(
    paths: PathLike | Sequence[PathLike],
    preset: str | None,
    environ: Mapping[str, str] | None,
    overrides: Mapping[str, Any] | None,
) -> tuple[Config | None, list[Problem]]:
    environ = os.environ if environ is None else environ
    listed = [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    named = [str(path) for path in listed if not path.exists() and str(path) in presets()]
    chosen = [preset, *named] if preset else named
    problems = [Problem("only one preset can be given", name) for name in chosen[1:]]
    tree = _files([path for path in listed if str(path) not in named], problems)
    unreadable = bool(problems)
    over = Value.of({"preset": chosen[0]} if chosen else {}, Origin("option"))
    over = overlay(over, Value.of(overrides or {}, Origin("option")))
    tree = _over_preset(tree, environ, over, problems)
    tree = _environ.apply(tree, environ, lambda: as_data(Config()), problems)
    tree = overlay(tree, over)
    spread_parts(tree)
    config = _validate(tree, environ, problems, CROSS_CHECK if unreadable else "")
    return (None if problems else config), in_order(problems)


def _files(paths: Sequence[Path], problems: list[Problem]) -> Value:
    """All files as one tree; what cannot be read is noted and left out."""
    tree: Value | None = None
    for path in paths:
        if not path.exists():
            near = difflib.get_close_matches(str(path), presets(), 1)
            hint = f"; did you mean the preset {near[0]!r}?" if near else ""
            problems.append(Problem(f"no such file, folder or preset{hint}", str(path)))
            continue
        files, nothing = yaml_files(path)
        problems += [nothing] if nothing else []
        for file in files:
            read = read_file(file)
            if isinstance(read, Problem):
                problems.append(read)
            else:
                tree = read if tree is None else join(tree, read, problems)
    return tree or Value({}, Origin("default"))


def _over_preset(tree: Value, environ: Mapping[str, str], over: Value, problems: list[Problem]) -> Value:
    """The tree over the preset that the command line, else a variable, else the file names."""
    named = overlay(_environ.apply(tree, _only_preset(environ), dict, []), over).child("preset")
    if named is None or named.data is None:
        return tree
    known = presets()
    if named.data not in known:
        if isinstance(named.data, str):
            message = "unknown preset" + plugins.nearest(named.data, known)
            problems.append(Problem.at(named.origin, message, ("preset",)))
        return tree
    text = (resources.files("foreshock") / "presets" / f"{named.data}.yaml").read_text("utf-8")
    base = parse(text, Origin("preset", str(named.data)))
    if isinstance(base, Problem):
        raise base.error()
    return overlay(base, tree)


def _only_preset(environ: Mapping[str, str]) -> dict[str, str]:
    wanted = f"{_environ.PREFIX}PRESET"
    return {name: environ[name] for name in environ if name.upper() == wanted}


def _validate(tree: Value, environ: Mapping[str, str], problems: list[Problem], without: str) -> Config | None:
    """The config of a whole tree, or None and all problems but those of pydantic's type `without`."""
    look_up(Config, tree, environ, problems)
    problems += flags_for_numbers(tree)
    while True:
        try:
            return Config.model_validate(tree.plain()).with_origins(tree)
        except ValidationError as error:
            wanting = [one for one in error.errors(include_url=False) if one["type"] in _TEXT_WANTED]
            if not _environ.use_raw_text(tree, [user_loc(one["loc"], tree) for one in wanting]):
                problems += problems_of(error, tree, without)
                return None
