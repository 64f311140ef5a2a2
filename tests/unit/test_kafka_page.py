"""The page of topics is the one that the script writes, and its examples are read as it says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from foreshock.adapters.kafka import dead, letters
from foreshock.adapters.kafka.decoding import decode_messages
from foreshock.adapters.kafka.schemas import TOPICS
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.metrics import Reading

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kafka_topics", ROOT / "scripts/kafka_topics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_the_one_that_the_script_writes(script: ModuleType) -> None:
    assert script.PATH.read_text() == script.page(), "run: python scripts/kafka_topics.py"


def test_every_topic_has_its_section_with_each_of_its_fields(script: ModuleType) -> None:
    page = script.page()
    for topic in TOPICS.values():
        section = page[page.index(f"## `{topic.name}`") :].split("\n## ")[0]
        assert topic.type is not None
        for field in msgspec.structs.fields(topic.type):
            assert f"`{field.encode_name}`" in section
    assert {name for name in (*dead.OWN, letters.REDRIVEN) if f"`{name}`" not in page} == set()
    assert not re.search(r"\{\w+\}", page)


@pytest.mark.parametrize("name", list(TOPICS))
def test_each_example_is_understood_and_of_its_type(name: str) -> None:
    topic = TOPICS[name]
    found = decode_messages([topic.example], [None], topic, MappingOptions())
    assert len(found.samples)
    assert not found.refused
    assert not found.samples.dropped
    assert topic.type is not None
    kind = list[Reading] if topic.type is Reading else topic.type
    msgspec.json.decode(topic.example, type=kind)


def test_every_reason_for_which_a_message_dies_is_explained(script: ModuleType) -> None:
    page = script.page()
    sources = [ROOT / "src/foreshock/adapters" / name for name in ("kafka", "otlp")]
    files = [file for folder in sources for file in folder.glob("*.py")]
    files += [ROOT / "src/foreshock/adapters" / name for name in ("decode.py", "decode_json.py", "assemble.py")]
    raised = {reason for file in files for reason in re.findall(r'BadInputError\(\s*"(\w+)"', file.read_text())}
    assert {"bad_json", "unknown_format", "bad_otlp", "bad_arrow"} <= raised
    assert {reason for reason in raised if f"`{reason}`" not in page} == set()
