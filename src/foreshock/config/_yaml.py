"""YAML files into trees of settings, with line numbers; YAML 1.2's core schema, so that `no` and `1:30` stay text."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from foreshock.config._tree import Loc, Origin, Problem, Scalar, Value, path_text

_MAX_BYTES = 4 << 20
_MAX_NODES = 100_000
_MAX_DEPTH = 60
_TAG = "tag:yaml.org,2002:"
_TAGGED = "carries a YAML tag, which settings do not use"
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class _Broken(Exception):
    """Text that is no settings tree; carries the problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def yaml_files(path: Path) -> tuple[list[Path], Problem | None]:
    """The files that a path stands for: itself, or a folder's `*.yaml` and `*.yml` in name order."""
    if not path.is_dir():
        return [path], None
    try:
        files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml") and not p.name.startswith("."))
    except OSError as error:
        return [], Problem(f"cannot be read: {error.strerror}", str(path))
    if not files:
        return [], Problem("this folder holds no *.yaml file", str(path))
    return files, None


def read_file(path: Path) -> Value | Problem:
    """The settings of one file, or what is wrong with it."""
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        return Problem(f"cannot be read: {error.strerror}", name)
    if len(content) > _MAX_BYTES:
        return Problem(f"is larger than {_MAX_BYTES >> 20} MiB: this is no settings file", name)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Problem("is not UTF-8 text", name, content.count(b"\n", 0, error.start) + 1)
    tree = parse(text, Origin("file", name))
    if isinstance(tree, Problem):
        return tree
    if tree.data is None:
        return Problem("says nothing; write {} where every default is wanted", name, 1)
    if not isinstance(tree.data, dict):
        kind = "a list" if isinstance(tree.data, list) else "a single value"
        return Problem(f"must hold settings as `key: value`, not {kind}", name, tree.origin.line)
    return tree


def parse(text: str, origin: Origin) -> Value | Problem:
    """The tree of a YAML text; no message quotes the text, which may hold secrets."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        return _Reader(origin).value(node, ()) if node else Value(None, origin)
    except _Broken as error:
        return error.problem
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        return Problem(_syntax_message(error, text, line), origin.place, line)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return Problem(f"holds a character that YAML does not allow (code {error.character})", origin.place, line)
    except RecursionError:
        return Problem(f"is nested deeper than {_MAX_DEPTH} levels", origin.place)


def _syntax_message(error: yaml.MarkedYAMLError, text: str, line: int | None) -> str:
    problem = error.problem or "cannot be read"
    lines = text.splitlines()
    written = lines[line - 1] if line and line <= len(lines) else ""
    if "alias" in problem or "alias" in (error.context or ""):
        return "text that begins with * must stand in quotes"
    if "anchor" in problem or "anchor" in (error.context or ""):
        return "text that begins with & must stand in quotes, and an anchor may be set once only"
    if "tag" in problem or "tag" in (error.context or ""):
        return "text that begins with ! must stand in quotes"
    if "\\t" in problem or "\t" in written[: len(written) - len(written.lstrip())]:
        return "is not valid YAML: indent with spaces, not with a tab"
    if "expected a single document" in (error.context or ""):
        return "holds more than one YAML document (---): give one"
    return f"is not valid YAML: {problem}" + (f" ({error.context})" if error.context else "")


class _Reader:
    """Turns nodes into values, bounded in number and depth."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.count = 0

    def value(self, node: yaml.Node, loc: Loc, line: int | None = None) -> Value:
        """The value of a node; inside a mapping its line is that of its key."""
        self.count += 1
        line = line or self.line(node)
        if self.count > _MAX_NODES:
            raise self.broken(node, f"holds more than {_MAX_NODES:,} values, aliases followed")
        if len(loc) > _MAX_DEPTH:
            raise self.broken(node, f"is nested deeper than {_MAX_DEPTH} levels", loc[:1])
        origin = Origin(self.origin.kind, self.origin.name, line) if self.origin.kind == "file" else self.origin
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return Value(self.mapping(node, loc), origin)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return Value([self.value(item, (*loc, at)) for at, item in enumerate(node.value)], origin)
        if isinstance(node, yaml.ScalarNode):
            return Value(self.scalar(node, loc), origin)
        raise self.broken(node, _TAGGED, loc)

    def mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Value]:
        """The entries of a mapping, those of `<<` merged in behind its own; a key set twice is an error."""
        own: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        for key, item in node.value:
            if key.tag == _TAG + "merge":
                for source in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                    entries = self.value(source, (*loc, "<<")).data
                    if not isinstance(entries, dict):
                        raise self.broken(key, "wants a mapping", (*loc, "<<"))
                    merged = entries | merged
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise self.broken(key, "a key must be plain text", loc)
            name = str(key.value)
            path = (*loc, name)
            if name in own:
                first = own[name].origin
                where = f", first in line {first.line}" if first.line else ""
                raise self.broken(key, f"is set twice{where}", path)
            own[name] = self.value(item, path, self.line(key))
        return own | {name: value for name, value in merged.items() if name not in own}

    def scalar(self, node: yaml.ScalarNode, loc: Loc) -> Scalar:
        """A scalar by YAML 1.2's core schema; in quotes it is always text."""
        text = str(node.value)
        if node.style is not None or node.tag == _TAG + "str":
            return text
        if not node.tag.startswith(_TAG) or node.tag == _TAG + "binary":
            raise self.broken(node, _TAGGED, loc)
        return _core(text)

    def line(self, node: yaml.Node) -> int:
        """The line that a node starts in, from 1."""
        return int(node.start_mark.line) + 1

    def broken(self, node: yaml.Node, message: str, loc: Loc = ()) -> _Broken:
        """An error at a node."""
        line = self.line(node) if self.origin.kind == "file" else None
        return _Broken(Problem(message, self.origin.place, line, path_text(loc) or None))


def _core(text: str) -> Scalar:
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text) and len(text) < 300:
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
