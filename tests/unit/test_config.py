"""Settings that are right: where they come from, who wins, what is logged and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from foreshock import config as settings
from foreshock import plugins
from foreshock.config import Config, check, load, parse_resolved, presets, reference, schema, show
from foreshock.errors import ConfigError, PermanentError

ROOT = Path(__file__).parents[2]
SECRET = "hunter2-hunter2"
NAMES = [name for kind in plugins.BUILT_IN for name in plugins.names(kind)]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_nothing_is_needed() -> None:
    config = load(environ={})
    assert config == Config()
    assert [part.type for part in config.detectors] == ["deviation", "linear", "stuck"]
    assert (config.environment, config.watch, config.sources, config.sinks) == ("default", ["*"], [], [])
    assert (config.log.segment_bytes, config.log.max_age) == (64 * 2**20, 14 * 86400)
    assert config.database_url == "sqlite:///.foreshock/foreshock.db"
    assert (config.http.host, config.http.port) == ("127.0.0.1", 8080)


def test_units_and_presence_of_every_section(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.yaml",
        "log: {max_age: 1h30m, max_bytes: 1GiB, durability: disk}\nstream: {step: 250ms}\nseed: 7\ndata_dir: /x\n",
    )
    config = load(path, environ={})
    assert (config.log.max_age, config.log.max_bytes, config.stream.step) == (5400.0, 2**30, 0.25)
    assert config.database_url == "sqlite:////x/foreshock.db"


@pytest.mark.parametrize(
    "text",
    [
        "detectors: [robust_z, {zscore: {threshold: 2.5}}]",
        "detectors:\n- {type: robust_z}\n- {type: zscore, threshold: 2.5}",
        "detectors:\n- robust_z:\n- type: foreshock.detect.zscore:ZScore\n  name: zscore\n  threshold: 2.5",
    ],
)
def test_short_forms_of_parts_mean_the_same(tmp_path: Path, text: str) -> None:
    first, second = load(write(tmp_path / "a.yaml", text), environ={}).detectors
    assert (first.type, first.name, first.role) == ("robust_z", "robust_z", "primary")
    assert (second.name, second.options.threshold) == ("zscore", 2.5)


def test_sources_have_times_and_options(tmp_path: Path) -> None:
    text = "sources:\n- host: {every: 2s, lateness: 1s}\n- {type: host, name: other, max_skew: 5m}"
    first, second = load(write(tmp_path / "a.yaml", text), environ={}).sources
    assert (first.name, first.lateness_seconds, first.max_skew_seconds, first.options.every) == ("host", 1, 60, 2)
    assert (second.name, second.lateness_seconds, second.max_skew_seconds) == ("other", 0, 300)
    (posted,) = load(write(tmp_path / "b.yaml", "sources: [http]"), environ={}).sources
    assert Config().default_lateness_seconds == posted.lateness_seconds == 5


def test_yaml_is_read_by_its_core_schema(tmp_path: Path) -> None:
    text = (
        "environment: no\nwatch: [1:30, 2020-01-01, '3', 0o17x, ~x]\nseed: 0x10\n"
        "min_change: {a: 5e6, b: 1.5E-3, c: .inf, d: 7}\n"
    )
    config = load(write(tmp_path / "a.yaml", text), environ={})
    assert config.environment == "no"
    assert config.watch == ["1:30", "2020-01-01", "3", "0o17x", "~x"]
    assert config.seed == 16
    assert config.min_change == {"a": 5e6, "b": 1.5e-3, "c": float("inf"), "d": 7.0}


def test_merge_keys_and_anchors(tmp_path: Path) -> None:
    text = "sources:\n- &a {type: host, name: x, every: 2s}\n- {<<: *a, name: y}\n"
    first, second = load(write(tmp_path / "a.yaml", text), environ={}).sources
    assert (first.name, second.name, second.options.every) == ("x", "y", 2)


def test_a_folder_is_merged_in_name_order(tmp_path: Path) -> None:
    write(tmp_path / "20.yaml", "watch: [b]\nlog: {max_age: 1d}\nsinks: [jsonl]")
    write(tmp_path / "10.yaml", "watch: [a]\nlog: {durability: disk}\nsinks: [stdout]")
    write(tmp_path / "30.yml", "watch: [c]")
    write(tmp_path / ".40.yaml", "watch: [hidden]")
    write(tmp_path / "50.txt", "watch: [no settings]")
    config = load(tmp_path, environ={})
    assert config.watch == ["a", "b", "c"]
    assert [part.type for part in config.sinks] == ["stdout", "jsonl"]
    assert (config.log.durability, config.log.max_age) == ("disk", 86400)
    assert load([tmp_path / "20.yaml", tmp_path / "10.yaml"], environ={}).watch == ["b", "a"]


def test_presets_load_without_problems() -> None:
    assert set(presets()) >= {"host", "minimal"}
    for name, text in presets().items():
        assert text
        assert not check(preset=name, environ={})
        assert load(name, environ={}) == load(preset=name, environ={})
    host = load("host", environ={})
    assert [part.type for part in host.sources] == ["host"]
    assert [part.type for part in host.sinks] == ["stdout"]
    assert (host.stream.step, host.http.enabled) == (5.0, True)
    assert load("minimal", environ={}).model_copy(update={"preset": None}) == Config()


def test_a_file_goes_over_its_preset_and_its_globs_are_tried_first(tmp_path: Path) -> None:
    text = "preset: host\nmin_change: {'system.*': 1, system.cpu.utilization: 0.2}\nwatch: [mine]\nstream: {step: 1s}\n"
    config, base = load(write(tmp_path / "a.yaml", text), environ={}), load("host", environ={})
    assert list(config.min_change)[:2] == ["system.*", "system.cpu.utilization"]
    assert config.min_change["system.cpu.utilization"] == 0.2
    assert config.min_change["system.disk.io"] == base.min_change["system.disk.io"]
    assert (config.watch, config.stream.step, config.ignore) == (["mine"], 1.0, base.ignore)


def test_who_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "preset: host\nseed: 1\nenvironment: file\nlog: {max_age: 1d}\n")
    environ = {"FORESHOCK__SEED": "2", "FORESHOCK__ENVIRONMENT": "variable"}
    config = load(path, environ=environ, overrides={"seed": 3})
    assert (config.seed, config.environment, config.log.max_age, config.sources[0].type) == (
        3, "variable", 86400, "host",
    )  # fmt: skip
    assert load(path, preset="minimal", environ={}).sources == []
    assert load(path, environ={"foreshock__preset": "minimal"}).sources == []


def test_variables_reach_everything(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "sinks: [stdout, {webhook: {url: 'http://a'}}]\nmin_change: {a: 1}\n")
    environ = {
        "Foreshock__Log__Max_Age": "2d",
        "FORESHOCK__SINKS__0__JSON": "true",
        "FORESHOCK__SINKS__1__URL": "http://b",
        "FORESHOCK__SINKS__2": "jsonl",
        "FORESHOCK__SINKS__2__PATH": "x.jsonl",
        "FORESHOCK__DETECTORS__0__NAME": "dv",
        "FORESHOCK__WATCH": "[x, y]",
        "FORESHOCK__WATCH__1": "'*.z'",
        "FORESHOCK__MIN_CHANGE": "{b: 2}",
        "FORESHOCK__HTTP": "{listen: '127.0.0.1:1'}",
        "FORESHOCK__HTTP__LISTEN": "127.0.0.1:2",
        "FORESHOCK_SEED": "99",
        "OTHER__SEED": "98",
    }
    config = load(path, environ=environ)
    assert config.log.max_age == 2 * 86400
    assert config.sinks[0].options.json_lines is True
    assert (config.sinks[1].options.url, config.sinks[2].options.path) == ("http://b", "x.jsonl")
    assert [(part.type, part.name) for part in config.detectors] == [
        ("deviation", "dv"),
        ("linear", "linear"),
        ("stuck", "stuck"),
    ]
    assert (config.watch, config.min_change) == (["x", "*.z"], {"b": 2, "a": 1})
    assert (config.http.port, config.seed) == (2, 0)


@pytest.mark.parametrize("text", ["123456", "*star", "a: b", "[x", "true", "2020-01-01", "{x: y}", "0x10", "!no"])
def test_where_text_is_wanted_a_variable_is_taken_as_it_is(text: str) -> None:
    config = load(environ={"FORESHOCK__ENVIRONMENT": text, "FORESHOCK__HTTP__TOKENS__0__TOKEN": text})
    assert config.environment == text
    assert config.http.tokens[0].token.get_secret_value() == text


@pytest.mark.parametrize("text", ["null", "~", "017", "1e3", "[a]", "{file: a, env: b}"])
def test_a_variable_for_a_secret_is_its_text(text: str) -> None:
    config = load(environ={"FORESHOCK__SINKS__0__TYPE": "webhook", "FORESHOCK__SINKS__0__SECRET": text})
    assert config.sinks[0].options.secret.get_secret_value() == text


def test_secrets_come_from_text_file_or_environment(tmp_path: Path) -> None:
    write(tmp_path / "token", SECRET + "\n")
    text = (
        f"http:\n  tokens:\n  - {{token: {SECRET}}}\n  - {{token: {{file: {tmp_path}/token}}, role: admin}}\n"
        f"  - token: {{env: TOKEN}}\n"
        f"sinks:\n- webhook: {{secret: {SECRET}, headers: {{Authorization: {{env: TOKEN}}}}}}\n"
    )
    config = load(write(tmp_path / "a.yaml", text), environ={"TOKEN": SECRET})
    assert {one.token.get_secret_value() for one in config.http.tokens} == {SECRET}
    assert config.sinks[0].options.secret.get_secret_value() == SECRET
    assert config.sinks[0].options.headers["Authorization"].get_secret_value() == SECRET
    shown = [repr(config), str(config), show(config), show(config, sources=True), config.resolved().decode()]
    shown += [config.digest, json.dumps(schema()), str(config.model_dump(mode="json")), repr(config.origins)]
    assert not [text for text in shown if SECRET in text]
    assert config.resolved().count(b'"***"') == 5


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"\xff", "is not UTF-8 text"), (b"a" * 70_000, "larger than 64 KiB")]
)
def test_files_that_hold_no_secret(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "token").write_bytes(content)
    path = write(tmp_path / "a.yaml", f"http: {{tokens: [{{token: {{file: {tmp_path}/token}}}}]}}")
    with pytest.raises(ConfigError, match=message):
        load(path, environ={})


def test_no_error_shows_a_secret(tmp_path: Path) -> None:
    for text in (
        f"sinks: [{{webhook: {{secret: [{SECRET}]}}}}]",
        f"sinks: [{{webhook: {{secret: {{fil: {SECRET}}}}}}}]",
        f"http: {{tokens: {SECRET}}}",
        f"http: {{tokens: [{SECRET}]}}",
        f"http: {{tokens: [{{token: *{SECRET}}}]}}",
        f"http: {{tokens: [{{token: &{SECRET} &{SECRET} x}}]}}",
        f"http: {{tokens: [{{token: !{SECRET} x}}]}}",
        f"http: {{tokens: [{{token: !{SECRET}! x}}]}}",
        f"http:\n  tokens:\n  - token: '{SECRET}\n",
        f"http:\n  tokens:\n  - token: {SECRET}\n  - tokn: {SECRET}\n  listen: {SECRET}\n",
        f"http: {{tokens: [{{token: {SECRET}, role: 3}}]}}",
        f"sinks: [{{webhook: {{url: 3, headers: {{Authorization: [{SECRET}]}}}}}}]",
    ):
        problems = check(write(tmp_path / "a.yaml", text), environ={})
        assert problems
        assert not [str(one) for one in problems if SECRET in repr(one)]


@pytest.mark.parametrize("name", ["host", "minimal"])
def test_resolved_reads_back_and_means_the_same(tmp_path: Path, name: str) -> None:
    text = (
        f"min_change: {{'z*': 1, 'a*': .inf}}\nhttp: {{tokens: [{{token: {SECRET}}}], listen: '0.0.0.0:1'}}\n"
        "features: [{do: lag, lag: 5m}, {do: lag, lag: 300}, {do: ratio, by: x, over: [1s, 1m]}]\n"
        "stream: {step: none}\n"
    )
    config = load(write(tmp_path / "a.yaml", text), preset=name, environ={}, overrides={"train_until_unix_nano": 5})
    again = parse_resolved(config.resolved())
    assert again.resolved() == config.resolved()
    assert again.digest == config.digest
    assert list(again.min_change) == list(config.min_change)
    assert again.min_change == config.min_change
    assert again.model_copy(update={"http": config.http}) == config
    assert again != config
    assert [type(one.lag) for one in again.features] == [float, int, int]
    assert again.http.tokens[0].token.get_secret_value() == "***"


def test_the_digest_tells_configs_apart_and_not_their_origins(tmp_path: Path) -> None:
    one = load(write(tmp_path / "a.yaml", "seed: 1"), environ={})
    same = load(environ={"FORESHOCK__SEED": "1"})
    assert (one.digest, one) == (same.digest, same)
    assert load(environ={}).digest != one.digest
    assert one.model_copy(update={"seed": 0}).digest == load(environ={}).digest
    assert len(one.digest) == 32


def test_every_default_is_in_the_record() -> None:
    data = json.loads(Config().resolved())
    assert set(data) == set(Config.model_fields)
    assert data["detectors"][0].keys() > {"type", "name", "role"}
    assert data["log"]["max_age"] == 14 * 86400.0


def test_a_record_of_another_version_is_refused() -> None:
    with pytest.raises(PermanentError, match="not understood by this version: nosuch"):
        parse_resolved(b'{"nosuch": 1}')
    with pytest.raises(PermanentError, match="not JSON"):
        parse_resolved(b"{")


def test_show_says_where_each_value_came_from(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "preset: host\nlog:\n  max_age: 1d\nsinks:\n  - jsonl:\n      path: x\n")
    config = load(path, environ={"FORESHOCK__SEED": "4"}, overrides={"environment": "prod"})
    lines = show(config, sources=True).splitlines()
    for line in (
        f"preset: host  # {path}:1",
        "environment: prod  # command line",
        "seed: 4  # env FORESHOCK__SEED",
        "  - type: host  # preset host",
        f"  max_age: 86400.0  # {path}:3",
        "  durability: process  # default",
        f"  - type: jsonl  # {path}:5",
        "    name: jsonl  # default",
        f"    path: x  # {path}:6",
        "features: []  # default",
    ):
        assert line in lines
    assert yaml.safe_load("\n".join(lines)) == yaml.safe_load(show(config))


def test_what_is_shown_can_be_loaded(tmp_path: Path) -> None:
    config = load("host", environ={}, overrides={"watch": ["*", "a: b", "# c", "no", "1"], "environment": "ü 'x'"})
    again = load(write(tmp_path / "a.yaml", show(config, sources=True)), environ={})
    assert again == config
    assert "default" in show(Config(), sources=True)


def test_the_schema_knows_parts_and_secrets() -> None:
    whole = schema()
    json.dumps(whole)
    assert whole["$schema"].startswith("https://json-schema.org/")
    forms = whole["properties"]["sources"]["items"]["anyOf"]
    assert {"files", "host", "http"} <= set(forms[0]["enum"])
    host = next(form for form in forms if form.get("properties", {}).get("type", {}).get("const") == "host")
    assert host["additionalProperties"] is False
    assert {"type", "name", "lateness", "every"} <= set(host["properties"])
    webhook = next(
        form["properties"]
        for form in whole["properties"]["sinks"]["items"]["anyOf"]
        if form.get("properties", {}).get("type", {}).get("const") == "webhook"
    )
    assert "env" in json.dumps(webhook["secret"])
    references = set(json.dumps(whole).split('"#/$defs/')[1:])
    assert {one.partition('"')[0] for one in references} <= set(whole["$defs"])


def test_every_setting_is_described() -> None:
    def undescribed(node: object, path: str) -> list[str]:
        if isinstance(node, list):
            return [one for item in node for one in undescribed(item, path)]
        if not isinstance(node, dict):
            return []
        found = [
            f"{path}.{name}"
            for name, one in (node.get("properties") or {}).items()
            if isinstance(one, dict) and "const" not in one and not one.keys() & {"description", "$ref"}
            and name not in (*NAMES, "file", "env")
        ]  # fmt: skip
        return found + [one for name, item in node.items() for one in undescribed(item, f"{path}.{name}")]

    assert not undescribed(schema(), "")


def test_the_page_of_all_settings_is_up_to_date() -> None:
    page = ROOT / "docs" / "reference" / "configuration.md"
    assert page.read_text() == reference(), "run: python -m foreshock.config > docs/reference/configuration.md"


def test_the_package_says_what_it_offers() -> None:
    assert not [name for name in settings.__all__ if not hasattr(settings, name)]
