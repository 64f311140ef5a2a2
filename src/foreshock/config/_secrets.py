"""Secrets: every setting typed `SecretStr` may be text, `{file: PATH}` or `{env: NAME}`, and is shown as `***`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from foreshock.config._tree import Problem, Value
from foreshock.config._walk import nodes

Secret = SecretStr
"""The type of a secret in an options model; `get_secret_value()` gives the text."""

MARK = "***"
"""What stands for a secret wherever one would be shown."""

_MAX_BYTES = 64 << 10


def masked(data: Any) -> Any:
    """Dumped data with every secret replaced by the mark."""
    if isinstance(data, Mapping):
        return {key: masked(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [masked(value) for value in data]
    return MARK if isinstance(data, SecretStr) else data


def look_up(root: type[BaseModel], tree: Value, environ: Mapping[str, str], problems: list[Problem]) -> None:
    """Put the text in the place of each `{file: PATH}` and `{env: NAME}`; files relative to the working folder."""
    for loc, node, allowed in nodes(root, tree):
        if SecretStr not in allowed:
            continue
        if not isinstance(node.data, dict):
            # What a variable holds is the secret, though YAML might read it as a number or as nothing.
            node.data = node.raw or node.data
            continue
        kinds = [kind for kind in ("file", "env") if isinstance(_plain(node.child(kind)), str)]
        if len(node.data) != 1 or not kinds:
            if node.raw is None:
                problems.append(Problem.at(node.origin, "must be text, {file: PATH} or {env: NAME}", loc))
            node.data = node.raw or MARK
            continue
        name = str(_plain(node.child(kinds[0])))
        try:
            node.data = _from_file(name) if kinds[0] == "file" else _from_env(name, environ)
        except ValueError as error:
            problems.append(Problem.at(node.origin, str(error), loc))
            node.data = MARK


def _plain(node: Value | None) -> Any:
    return node.data if node else None


def _from_env(name: str, environ: Mapping[str, str]) -> str:
    if not environ.get(name):
        raise ValueError(f"the environment variable {name} is {'empty' if name in environ else 'not set'}")
    return environ[name]


def _from_file(name: str) -> str:
    try:
        with open(name, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"the secret's file {name} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"the secret's file {name} is not UTF-8 text") from None
    if not text:
        raise ValueError(f"the secret's file {name} is empty")
    if len(content) > _MAX_BYTES:
        raise ValueError(f"the secret's file {name} is larger than {_MAX_BYTES >> 10} KiB")
    return text
