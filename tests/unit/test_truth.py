"""Labels of recorded data: columns and files become the records that an operator's own labels would be."""

from __future__ import annotations

from pathlib import Path

import msgspec

from foreshock.adapters.files_reader import TableReader
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.truth import Interval, Labelled, label_records
from foreshock.bench.labelled import labels_in_file, labels_in_tables
from foreshock.types import Control, ControlKind, labels
from foreshock.types.record import CONTROL

S = 1_000_000_000
T = 1_700_000_000


def table(folder: Path) -> Path:
    """Two rooms, a row a second; `a` is wrong at 2, 3 and 7, `b` at 5, where one of two samples says so."""
    rows = [f"{T + t},{room},{t},{int((room, t) in (('a', 2), ('a', 3), ('a', 7)))}" for t in range(9) for room in "ab"]
    rows.append(f"{T + 5},b,1,1")
    rows.sort()
    path = folder / "rooms.csv"
    path.write_text("\n".join(["time,host,v,broken", *rows]) + "\n")
    return path


def test_runs_of_a_column_entity_by_entity(tmp_path: Path) -> None:
    found = labels_in_tables([str(table(tmp_path))], MappingOptions(), "broken").intervals()
    a, b = labels({"host": "a"}), labels({"host": "b"})
    assert sorted(found) == [
        Interval(a, (T + 2) * S, (T + 3) * S + 1),
        Interval(a, (T + 7) * S, (T + 7) * S + 1),
        Interval(b, (T + 5) * S, (T + 5) * S + 1),
    ]


def test_a_file_of_intervals(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(f"host,start,end\nh1,{T},{T + 60}\n")
    (one,) = labels_in_file(path, MappingOptions()).intervals()
    assert one == Interval(labels({"host": "h1"}), T * S, (T + 60) * S + 1)


def test_labels_come_first_and_only_at_the_beginning(tmp_path: Path) -> None:
    path = table(tmp_path)
    reader = TableReader([str(path)], MappingOptions())
    intervals = labels_in_tables([str(path)], MappingOptions(), "broken").intervals()
    plain = list(reader.read(0))
    found = list(Labelled(reader, intervals, "shop").read(0))
    assert found[4:] == plain
    assert {position for position, _ in found[:4]} == {0}
    assert all(record.content_type == CONTROL and record.environment == "shop" for _, record in found[:4])
    said = [msgspec.json.decode(record.payload, type=Control) for _, record in found[:4]]
    assert [one.kind for one in said] == [ControlKind.LABEL] * 4
    assert (said[0].label, said[0].matchers, said[0].until_unix_nano) == ("false", {}, 0)
    assert [(one.label, one.matchers["host"]) for one in said[1:]] == [("true", "a"), ("true", "a"), ("true", "b")]
    assert len({one.id for one in said}) == 4
    later = plain[0][0]
    assert list(Labelled(reader, intervals).read(later)) == list(reader.read(later))
    assert [msgspec.json.decode(one.payload)["label"] for one in label_records([])] == ["false"]
