"""Each way to get the settings wrong: named with file, line, key path and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreshock.config import Problem, check, load
from foreshock.errors import ConfigError

SECRET = "hunter2-hunter2"

# name, text, line, key path, part of the message
BAD = [
    ("unknown key", "seed: 1\nlimits:\n  seriess: 5\n", 3, "limits.seriess", "unknown key; did you mean 'series'?"),
    ("unknown section", "sead: 1\n", 1, "sead", "did you mean 'seed'?"),
    ("key of another section", "retention: 3d\n", 1, "retention", "did you mean store.retention?"),
    ("unknown far from all", "\nqqqqqq: 1\n", 2, "qqqqqq", "unknown key; known are: alarm, budget"),
    ("wrong type", "log:\n  durability: process\nseed: many\n", 3, "seed", "must be a whole number"),
    ("fraction for a whole", "seed: 1.5\n", 1, "seed", "must be a whole number"),
    ("flag for a number", "snapshot:\n  keep: true\n", 2, "snapshot.keep", "must be a number, not true or false"),
    ("flag for a duration", "log:\n  max_age: yes\n", 2, "log.max_age", "is not a duration"),
    ("mapping for text", "environment:\n  a: 1\n", 1, "environment", "must be text"),
    ("number for text", "environment: 5\n", 1, "environment", "must be text (put numbers in quotes)"),
    ("text for a mapping", "log: process\n", 1, "log", "must be a mapping"),
    ("empty section", "seed: 2\nlog:\n", 2, "log", "must be a mapping"),
    ("mapping for a list", "watch:\n  a: b\n", 1, "watch", "must be a list"),
    ("wrong unit", "log:\n  max_age: 5 parsecs\n", 2, "log.max_age", "'5 parsecs' is not a duration such as 10s"),
    ("wrong size", "log:\n  max_bytes: 5 MBit\n", 2, "log.max_bytes", "is not a size such as 64MiB"),
    ("duration out of bounds", "snapshot: {every: 0s}\n", 1, "snapshot.every", "must be greater than 0"),
    ("wrong unit or word", "stream:\n  step: 5 parsecs\n", 2, "stream.step", "'5 parsecs' is not a duration"),
    ("wrong choice", "log:\n  durability: dusk\n", 2, "log.durability", "one of process, disk; did you mean 'disk'?"),
    ("item of a list", "watch:\n  - system.*\n  - 7\n", 3, "watch[1]", "must be text"),
    ("value of a mapping", "min_change:\n  system.cpu: lots\n", 2, "min_change[system.cpu]", "must be a number"),
    ("part's option", "sinks:\n  - stdout\n  - type: jsonl\n    path: 3\n", 4, "sinks[1].path", "must be text"),
    ("part's unknown option", "sources:\n- host: {evry: 1s}\n", 2, "sources[0].evry", "did you mean 'every'?"),
    ("option in short form", "sources:\n- host:\n    every: 5 parsecs\n", 3, "sources[0].every", "is not a duration"),
    ("option by its alias", "sinks: [{type: stdout, jsn: true}]\n", 1, "sinks[0].jsn", "did you mean 'json'?"),
    ("part's own key", "sources:\n  - type: host\n    latenes: 1\n", 3, "sources[0].latenes", "mean 'lateness'?"),
    ("unknown part", "detectors:\n  - robust_x\n", 2, "detectors[0].type", "did you mean 'robust_z'?"),
    ("unknown part, in short", "detectors:\n- zscor:\n    threshold: 3\n", 2, "detectors[0].type", "mean 'zscore'?"),
    ("part of no module", "sinks: [no_such.module:Sink]\n", 1, "sinks[0].type", "there is no module no_such"),
    ("part without a type", "sinks:\n  - path: a\n    all: true\n", 2, "sinks[0]", "must say its type"),
    ("part that is a number", "sinks:\n  - 3\n", 2, "sinks[0]", "must be the name of a part"),
    ("two of one name", "sinks:\n  - stdout\n  - stdout\n", 3, "sinks[1].name", "are called 'stdout'"),
    ("role", "detectors: [{zscore: {role: shadw}}]\n", 1, "detectors[0].role", "did you mean 'shadow'?"),
    ("key set twice", "log:\n  max_age: 1d\n  keep: 1\n  max_age: 2d\n", 4, "log.max_age", "first in line 2"),
    ("tab", "log:\n\tmax_age: 1d\n", 2, None, "indent with spaces, not with a tab"),
    ("unclosed", "seed: 1\nwatch: [a, b\nlog: {}\n", 3, None, "is not valid YAML"),
    ("bad indent", "log:\n  max_age: 1d\n keep: 1\n", 3, None, "is not valid YAML"),
    ("bare star", "watch:\n  - ok\n  - *.cpu\n", 3, None, "text that begins with * must stand in quotes"),
    ("bare star with a name", "watch:\n  - *cpu\n", 2, None, "text that begins with * must stand in quotes"),
    ("anchor twice", "a: &x 1\nb: &x\n", 2, None, "an anchor may be set once only"),
    ("tag", "seed: !!python/object/apply:os.getpid []\n", 1, "seed", "carries a YAML tag"),
    ("tag on text", "environment: !secret a\n", 1, "environment", "carries a YAML tag"),
    ("two documents", "seed: 1\n---\nseed: 2\n", 2, None, "more than one YAML document"),
    ("list as a key", "seed: 1\n? [a]\n: 1\n", 2, None, "a key must be plain text"),
    ("endless alias", "log: &a\n  x: *a\n", 1, "log", "is nested deeper than 60 levels"),
    ("control character", "seed: 1\nenvironment: a\x01\n", 2, None, "a character that YAML does not allow"),
    ("empty file", "", 1, None, "says nothing"),
    ("only comments", "# nothing\n", 1, None, "says nothing"),
    ("a list", "\n- seed: 1\n", 2, None, "not a list"),
    ("a single value", "hello\n", 1, None, "not a single value"),
    ("unknown preset", "seed: 1\npreset: hots\n", 2, "preset", "unknown preset; did you mean 'host'?"),
    ("database", "store:\n  url: mysql://a\n", 2, "store.url", "must match pattern"),
    ("log smaller than a segment", "seed: 3\nlog: {max_bytes: 1MiB}\n", 2, "log.max_bytes", "at least segment_bytes"),
    ("address", "http:\n  listen: '8080'\n", 2, "http.listen", "must be host:port"),
    ("port", "http:\n  listen: 127.0.0.1:80800\n", 2, "http.listen", "must be host:port"),
    ("role of a token", f"http:\n  tokens:\n  - token: {SECRET}\n    role: boss\n", 4, "http.tokens[0].role", "viewer"),
    ("no token", "http:\n  tokens:\n  - role: viewer\n", 3, "http.tokens[0].token", "is missing"),
    ("empty token", "http:\n  tokens:\n  - token: ''\n", 3, "http.tokens[0].token", "is empty"),
    ("number as a token", "http:\n  tokens:\n  - token: 1234\n", 3, "http.tokens[0].token", "put numbers in quotes"),
    ("secret of a missing file", "http:\n  tokens:\n  - token: {file: /no/such}\n", 3, "http.tokens[0].token",
     "the secret's file /no/such cannot be read"),
    ("secret of a missing variable", "sinks:\n- webhook:\n    secret: {env: NOT_THERE}\n", 3, "sinks[0].secret",
     "the environment variable NOT_THERE is not set"),
    ("secret from both", "http:\n  tokens:\n  - token: {file: a, env: b}\n", 3, "http.tokens[0].token", "{file: PATH}"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "key", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_each_mistake_is_named_with_its_place(
    tmp_path: Path, text: str, line: int, key: str | None, message: str
) -> None:
    path = tmp_path / "foreshock.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    error = caught.value
    assert (error.file, error.line, error.key) == (str(path), line, key), str(error)
    assert message in error.message
    assert f"{path}:{line}: " in str(error)
    assert SECRET not in str(error)
    assert error.__cause__ is None
    first = check(path, environ={})[0]
    assert (first.file, first.line, first.key, first.message) == (error.file, error.line, error.key, error.message)


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", ":8080", "[::]:8080", "example.org:80", "192.168.1.4:1"])
def test_a_bind_that_others_can_reach_wants_a_token(tmp_path: Path, listen: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"http:\n  listen: '{listen}'\n")
    (problem,) = check(path, environ={})
    assert problem == Problem(
        f"http.listen binds {listen}, which others can reach: give http.tokens at least one token with a role, "
        "or bind 127.0.0.1",
        str(path),
        2,
        "http.listen",
    )
    path.write_text(f"http:\n  listen: '{listen}'\n  tokens: [{{token: {SECRET}, role: ingest}}]\n")
    assert not check(path, environ={})
    path.write_text(f"http:\n  listen: '{listen}'\n  enabled: false\n")
    assert not check(path, environ={})


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:8080", "[::1]:8080", "127.9.9.9:65535"])
def test_a_loopback_bind_wants_none(tmp_path: Path, listen: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"http: {{listen: '{listen}'}}\n")
    assert load(path, environ={}).http.listen == listen


def test_check_names_all_problems_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "sead: 1\nsinks:\n  - jsonl: {path: 3}\n  - nosuch\nlog: {max_age: x}\nhttp: {listen: '0.0.0.0:1'}\n"
    )
    found = [(one.line, one.key) for one in check(path, environ={})]
    assert found == [(1, "sead"), (3, "sinks[0].path"), (4, "sinks[1].type"), (5, "log.max_age"), (6, "http.listen")]


def test_check_goes_on_past_a_broken_file_but_says_nothing_that_depends_on_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("seed: [\n")
    (tmp_path / "b.yaml").write_text("sead: 1\nhttp: {listen: '0.0.0.0:1'}\n")
    found = [(Path(str(one.file)).name, one.key) for one in check(tmp_path, environ={})]
    assert found == [("a.yaml", None), ("b.yaml", "sead")]


def test_what_several_types_want_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("stream: {step: 5 parsecs}\n")
    (problem,) = check(path, environ={})
    assert "auto" in problem.message
    assert "duration" in problem.message


def test_a_value_set_in_two_files_names_both(tmp_path: Path) -> None:
    (tmp_path / "10.yaml").write_text("log:\n  max_age: 1d\n")
    (tmp_path / "20.yaml").write_text("seed: 1\nlog:\n  max_age: 2d\n")
    (problem,) = check(tmp_path, environ={})
    assert problem == Problem(
        f"is also set in {tmp_path}/10.yaml:2: keep one of the two", f"{tmp_path}/20.yaml", 3, "log.max_age"
    )


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no such file, folder or preset" in str(check(tmp_path / "none.yaml", environ={})[0])
    assert "did you mean the preset 'host'?" in str(check("hst", environ={})[0])
    assert "holds no *.yaml file" in str(check(tmp_path, environ={})[0])
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"seed: 1\nenvironment: caf\xe9\n")
    assert check(latin, environ={}) == [Problem("is not UTF-8 text", str(latin), 2)]
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (5 << 20))
    assert "larger than 4 MiB" in str(check(large, environ={})[0])


def test_a_wrong_option_of_the_command_line_is_named() -> None:
    (problem,) = check(environ={}, overrides={"log": {"max_age": "soon"}})
    assert (problem.file, problem.line, problem.key) == ("command line", None, "log.max_age")
    (problem,) = check(environ={}, preset="hots")
    assert (problem.file, problem.key) == ("command line", "preset")
    assert "only one preset can be given" in str(check(["host", "minimal"], environ={})[0])


def test_aliases_cannot_blow_up(tmp_path: Path) -> None:
    path = tmp_path / "laughs.yaml"
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path.write_text("\n".join(lines))
    (problem,) = check(path, environ={})
    assert "holds more than 100,000 values" in problem.message


@pytest.mark.parametrize(
    ("name", "value", "key", "message"),
    [
        ("FORESHOCK__SEED", "many", "seed", "must be a whole number"),
        ("FORESHOCK__LOG__MAX_AGE", "5 parsecs", "log.max_age", "is not a duration"),
        ("FORESHOCK__LOG__MAXAGE", "5", "log.maxage", "did you mean 'max_age'?"),
        ("foreshock__sead", "5", "sead", "did you mean 'seed'?"),
        ("FORESHOCK__SINKS__1__PATH", "x", "sinks", "wants an index from 0 to 0"),
        ("FORESHOCK__WATCH__FIRST", "x", "watch", "the next name must be an index"),
        ("FORESHOCK__SINKS__0__TYPE", "stdot", "sinks[0].type", "did you mean 'stdout'?"),
        ("FORESHOCK__DETECTORS__0__ROLE", "boss", "detectors[0].role", "primary, shadow"),
        ("FORESHOCK__SEED__X", "1", "seed", "must be a whole number"),
        ("FORESHOCK__LOG____MAX_AGE", "1", None, "an empty name between two __"),
        ("FORESHOCK__PRESET", "hots", "preset", "did you mean 'host'?"),
        ("FORESHOCK__HTTP__TOKENS", "[{token: {env: NOPE}}]", "http.tokens[0].token", "NOPE is not set"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str, key: str | None, message: str) -> None:
    environ = {name: value} | ({"FORESHOCK__WATCH": "[a]"} if "WATCH" in name else {})
    (problem,) = check(environ=environ)
    assert problem.file == f"env {name}"
    assert (problem.line, problem.key) == (None, key)
    assert message in problem.message
