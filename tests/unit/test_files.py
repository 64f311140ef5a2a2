from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from foreshock.adapters import file_tables
from foreshock.adapters.decode import decode_samples as decode
from foreshock.adapters.files import FilesOptions, FilesSource
from foreshock.adapters.files_reader import TableReader, find_files
from foreshock.adapters.mapping import MappingOptions
from foreshock.errors import BadInputError, ConfigError, ForeshockError, PermanentError, RetryableError
from foreshock.types import Record, Samples
from foreshock.types.record import ARROW, WATERMARK

NANO = 1_000_000_000
SHARED = Path(__file__).parents[3] / "shared" / "data"
Tuple = tuple[str, int, float]


def table(rows: int, start: int = 0, step: int = 1, seed: int = 0, **more: Any) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {"t": np.arange(start, start + rows * step, step), "cpu": rng.normal(size=rows), "mem": rng.normal(size=rows)}
        | more
    )


def write(path: Path, data: pa.Table) -> Path:
    """A table in the format that the name says."""
    name = path.name.removesuffix(".gz").removesuffix(".zst").removesuffix(".bz2")
    if name.endswith(".parquet"):
        pq.write_table(data, path, row_group_size=70)
        return path
    if name.endswith(".csv"):
        sink = pa.BufferOutputStream()
        pcsv.write_csv(data, sink)
        body = sink.getvalue().to_pybytes()
    else:
        rows = "\n".join(json.dumps(row) for row in data.to_pylist())
        body = (rows + "\n").encode()
    path.write_bytes(packed(path.suffix, body))
    return path


def packed(suffix: str, body: bytes) -> bytes:
    match suffix:
        case ".gz":
            return gzip.compress(body, 1)
        case ".bz2":
            return bz2.compress(body)
        case ".zst":
            return bytes(pa.compress(body, "zstd", asbytes=True))
    return body


def tuples(samples: Samples) -> list[Tuple]:
    series = [one.text for one in samples.series]
    columns = zip(samples.index.tolist(), samples.time_unix_nano.tolist(), samples.value.tolist(), strict=True)
    return [(series[index], when, value) for index, when, value in columns]


def samples_of(reader: TableReader, position: int = 0) -> list[Tuple]:
    records = [record for _, record in reader.read(position) if record.content_type == ARROW]
    return [one for record in records for one in tuples(decode(record, MappingOptions()))]


def expected(data: pa.Table, entity: str) -> list[Tuple]:
    """The samples of a table, cell by cell."""
    return [
        (f'{name}@{{entity="{entity}"}}', row["t"] * NANO, row[name])
        for row in data.to_pylist()
        for name in data.column_names[1:]
    ]


# -- formats -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["m.parquet", "m.csv", "m.csv.gz", "m.csv.zst", "m.csv.bz2", "m.ndjson", "m.jsonl.gz", "m.json.bz2"],
)
def test_every_format_gives_the_same_samples(tmp_path: Path, name: str) -> None:
    data = table(300)
    reader = TableReader([write(tmp_path / name, data)], chunk_rows=64)
    assert samples_of(reader) == expected(data, "m")
    assert any("time = t (s)" in note for note in reader.describe())


def test_a_json_document_is_read_too(tmp_path: Path) -> None:
    data = table(10)
    for at, document in enumerate((data.to_pylist(), {"rows": data.to_pylist()}, data.to_pylist()[0])):
        path = tmp_path / f"m{at}.json"
        path.write_text(json.dumps(document, indent=1))
        wanted = data.slice(0, 1) if at == 2 else data
        assert samples_of(TableReader([path], chunk_rows=4)) == expected(wanted, f"m{at}")


@pytest.mark.parametrize("name", ["long.csv", "long.parquet", "long.ndjson"])
def test_the_long_form_with_entities(tmp_path: Path, name: str) -> None:
    data = pa.table(
        {"time": [1, 1, 2, 2], "host": ["007", "b", "007", "b"], "metric": ["cpu", "cpu", "mem", "cpu"],
         "value": [1.0, 2.0, 3.0, 4.0]}
    )  # fmt: skip
    reader = TableReader([write(tmp_path / name, data)], name="rec")
    assert samples_of(reader) == [
        ('cpu@{host="007"}', NANO, 1.0), ('cpu@{host="b"}', NANO, 2.0),
        ('mem@{host="007"}', 2 * NANO, 3.0), ('cpu@{host="b"}', 2 * NANO, 4.0),
    ]  # fmt: skip
    assert {record.source for _, record in reader.read(0)} <= {"rec", "long"}


def test_semicolons_and_tabs_are_found(tmp_path: Path) -> None:
    for name, sign in (("a.csv", ";"), ("b.tsv", "\t")):
        (tmp_path / name).write_text(f"time{sign}x\n2021-12-20T11:33:20Z{sign}1.5\n")
        assert samples_of(TableReader([tmp_path / name])) == [
            (f'x@{{entity="{name[0]}"}}', 1_640_000_000 * NANO, 1.5)
        ]  # fmt: skip


def test_odd_rows_and_cells_of_a_csv_are_counted_not_fatal(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = ["t,x,y"] + [f"{at},{at},{at}" for at in range(200_000)]
    lines[150_001] = "150000,oops,1"
    lines[100_001] = "100000,1"
    lines[190_001] = "later,1,1"
    lines[190_002] = "190001.5,NA,0.5"
    path.write_text("\n".join(lines))
    reader = TableReader([path], MappingOptions(values=("x", "y")))
    rows = samples_of(reader)
    assert len(rows) == 2 * (200_000 - 2)
    assert sum(np.isnan(value) for *_, value in rows) == 2
    assert rows[2 * 149_999 + 1][2] == 1.0, "the rest of a row with a bad cell counts"
    notes = " ".join(reader.describe())
    assert "bad_row: 1 dropped" in notes
    assert "not_a_number: 1 dropped" in notes
    assert "bad_time: 1 dropped" in notes


def test_whole_numbers_that_become_fractions_further_down(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,x\n" + "".join(f"{at},1\n" for at in range(300_000)) + "300000,2.5\n")
    assert samples_of(TableReader([path]))[-1] == ('x@{entity="a"}', 300_000 * NANO, 2.5)


def test_broken_lines_of_ndjson_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"t":1,"x":1}\n{oops\n{"t":2,"x":2}\n\n{"t":3,"x":"3"}\n')
    reader = TableReader([path])
    assert [value for *_, value in samples_of(reader)] == [1.0, 2.0]
    assert "dropped" in " ".join(reader.describe())


# -- the merge ---------------------------------------------------------------------------------------------------


def folder(tmp_path: Path) -> Path:
    """Files of all kinds, of different steps, starts and lengths."""
    write(tmp_path / "a.parquet", table(400, 0, 1, 1))
    write(tmp_path / "b.csv.gz", table(150, 100, 2, 2))
    write(tmp_path / "c.ndjson", table(90, 37, 5, 3))
    write(tmp_path / "d.parquet", table(40, 5_000, 7, 4))
    return tmp_path


@pytest.mark.parametrize("chunk_rows", [1, 7, 64, 10_000])
def test_blocks_come_in_event_time_and_nothing_is_lost(tmp_path: Path, chunk_rows: int) -> None:
    reader = TableReader([folder(tmp_path)], chunk_rows=chunk_rows)
    seen: list[Tuple] = []
    mark, last = -1, 0
    for position, record in reader.read(0):
        assert position > last
        last = position
        if record.content_type == WATERMARK:
            w = msgspec.json.decode(record.payload)["w"]
            assert w >= mark
            mark = w
            continue
        rows = tuples(decode(record, MappingOptions()))
        assert min(when for _, when, _ in rows) >= mark, "nothing older than the watermark"
        assert max(when for _, when, _ in rows) <= record.received_unix_nano
        assert {name.split('"')[1] for name, *_ in rows} == {record.source}
        seen += rows
    wanted = [
        *expected(table(400, 0, 1, 1), "a"), *expected(table(150, 100, 2, 2), "b"),
        *expected(table(90, 37, 5, 3), "c"), *expected(table(40, 5_000, 7, 4), "d"),
    ]  # fmt: skip
    assert sorted(seen) == sorted(wanted)
    for name in "abcd":
        mine = [one for one in seen if f'"{name}"' in one[0]]
        assert mine == [one for one in wanted if f'"{name}"' in one[0]], "a file keeps its order"


def test_reading_goes_on_from_any_position(tmp_path: Path) -> None:
    reader = TableReader([folder(tmp_path)], chunk_rows=32)
    whole = list(reader.read(0))
    assert list(TableReader([tmp_path], chunk_rows=32).read(0)) == whole
    for at in range(0, len(whole), 7):
        again = TableReader([tmp_path], chunk_rows=32)
        assert list(again.read(whole[at][0])) == whole[at + 1 :]
    assert list(reader.read(whole[-1][0])) == []


def test_positions_that_were_never_given_are_refused(tmp_path: Path) -> None:
    reader = TableReader([folder(tmp_path)], chunk_rows=32)
    end = list(reader.read(0))[-1][0]
    for position in (1, end + 1):
        with pytest.raises(PermanentError, match="no position"):
            list(reader.read(position))


def test_passing_over_a_parquet_file_reads_its_times_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = TableReader([write(tmp_path / "a.parquet", table(700))], chunk_rows=50)
    whole = list(reader.read(0))
    asked: list[tuple[list[int], list[str]]] = []
    real = pq.ParquetFile.iter_batches

    def spy(self: Any, batch_size: int, row_groups: Any, columns: list[str]) -> Any:
        asked.append((list(row_groups), columns))
        return real(self, batch_size=batch_size, row_groups=row_groups, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    position = whole[19][0]
    assert list(reader.read(position)) == whole[20:]
    assert asked[0] == (list(range(10)), ["t"])
    assert all(groups[0] >= 500 // 70 for groups, columns in asked[1:])


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz"])
@pytest.mark.parametrize("chunk_rows", [2, 100])
def test_tables_in_disorder_are_sorted_by_time(tmp_path: Path, name: str, chunk_rows: int) -> None:
    data = pa.table({"t": [3, 1, 2, 2, 9, 4, 5, 8], "x": [float(at) for at in range(8)]})
    reader = TableReader([write(tmp_path / name, data)], chunk_rows=chunk_rows)
    whole = [(when // NANO, value) for _, when, value in samples_of(reader)]
    assert whole == [(1, 1.0), (2, 2.0), (2, 3.0), (3, 0.0), (4, 5.0), (5, 6.0), (8, 7.0), (9, 4.0)]
    assert any("sorted by time" in note for note in reader.describe()) == (chunk_rows == 2)
    records = list(reader.read(0))
    assert list(TableReader([tmp_path / name], chunk_rows=chunk_rows).read(records[1][0])) == records[2:]


def test_rows_without_a_time_do_not_hinder_sorting(tmp_path: Path) -> None:
    data = pa.table({"t": [None, 5, None, 6, 1, 2], "x": [float(at) for at in range(6)]})
    reader = TableReader([write(tmp_path / "a.parquet", data)], chunk_rows=2)
    assert [(when // NANO, value) for _, when, value in samples_of(reader)] == [(1, 4.0), (2, 5.0), (5, 1.0), (6, 3.0)]
    assert any("bad_time: 2 dropped" in note for note in reader.describe())


def test_a_table_in_disorder_that_is_too_large_to_sort_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_tables, "MOST_SORTED_BYTES", 100)
    path = write(tmp_path / "a.parquet", pa.table({"t": list(range(40, 0, -1)), "x": [0.0] * 40}))
    with pytest.raises(ConfigError, match="sort the file by time first"):
        TableReader([path], chunk_rows=2)


def test_lines_in_disorder_are_sorted_within_a_chunk_and_go_on_late_beyond(tmp_path: Path) -> None:
    data = pa.table({"t": [9, 8, 2, 1], "x": [1.0, 2.0, 3.0, 4.0]})
    reader = TableReader([write(tmp_path / "a.ndjson", data)], chunk_rows=2)
    assert [when // NANO for _, when, _ in samples_of(reader)] == [8, 9, 1, 2]
    marks = [
        msgspec.json.decode(record.payload)["w"] for _, record in reader.read(0) if record.content_type == WATERMARK
    ]
    assert marks == [9 * NANO, 9 * NANO], "a watermark never falls"


def test_a_slice_bounds_the_event_time_of_a_block(tmp_path: Path) -> None:
    reader = TableReader([folder(tmp_path)], chunk_rows=100)
    rows = []
    for _, record in reader.records(0, slice_nano=10 * NANO):
        if record.content_type == ARROW:
            part = decode(record, MappingOptions())
            assert part.time_unix_nano.max() - part.time_unix_nano.min() < 10 * NANO
            rows += tuples(part)
    assert sorted(rows) == sorted(samples_of(reader))


def test_the_file_can_be_the_entity_although_a_column_could(tmp_path: Path) -> None:
    write(tmp_path / "x.csv", pa.table({"t": [1], "host": ["a"], "cpu": [2.0]}))
    by_file = TableReader([tmp_path], MappingOptions(entity_name="machine"), entity="file")
    assert samples_of(by_file) == [('cpu{host="a"}@{machine="x"}', NANO, 2.0)]


def test_rows_total(tmp_path: Path) -> None:
    assert TableReader([write(tmp_path / "a.parquet", table(700))]).rows_total() == 700
    assert TableReader([write(tmp_path / "b.csv", table(5000))]).rows_total() == pytest.approx(5000, rel=0.1)
    # a row of NDJSON counts for each of its samples
    assert TableReader([write(tmp_path / "c.ndjson", table(5000))]).rows_total() == pytest.approx(10_000, rel=0.1)


# -- trouble -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body", "kind", "words"),
    [
        ("a.csv", b"", ConfigError, "empty"),
        ("a.csv", b"x,y\n1,2\n", ConfigError, "mapping.time"),
        ("a.csv", b"t,x\n1,a\n", ConfigError, "no column with numbers"),
        ("a.csv", b"t,x,x\n1,2,3\n", ConfigError, "twice"),
        ("a.csv", b"t,x\n", BadInputError, "no rows"),
        ("a.parquet", b"PAR1 this is none PAR1", BadInputError, "not a Parquet file"),
        ("a.csv.gz", b"no gzip at all", BadInputError, "a.csv.gz"),
        ("a.ndjson", b"{oops\n", BadInputError, "can be used"),
        ("a.ndjson", b'{"x": 1}\n', ConfigError, "mapping.time"),
        ("a.json", b"{oops", BadInputError, "a.json"),
        ("a.xlsx", b"x", ConfigError, "should end in"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, name: str, body: bytes, kind: type[ForeshockError], words: str
) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(kind, match=words) as caught:
        TableReader([tmp_path / name])
    assert name in str(caught.value)


def test_a_file_that_ends_too_early_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv.gz", table(200_000))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadInputError, match=r"a\.csv\.gz"):
        list(TableReader([path]).read(0))


def test_paths(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "about.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("x")
    names = [path.name for path in find_files([tmp_path])]
    assert names == ["a.parquet", "b.csv.gz", "c.ndjson", "d.parquet"]
    assert [path.name for path in find_files([str(tmp_path / "*.parquet"), tmp_path / "a.parquet"])] == [
        "a.parquet", "d.parquet",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="no file"):
        find_files([tmp_path / "*.arrow"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no"):
        find_files([tmp_path / "empty"])
    with pytest.raises(ConfigError, match="no paths"):
        find_files([])


# -- as a live source --------------------------------------------------------------------------------------------


class Clock:
    """Time that passes by sleeping."""

    def __init__(self, now: int) -> None:
        self.now = now

    def now_unix_nano(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(1, round(seconds * 1e9))


def play(path: Path, clock: Clock, **options: Any) -> list[tuple[int, Record]]:
    source = FilesSource("rec", FilesOptions(paths=(str(path),), **options))
    out: list[tuple[int, Record]] = []
    source.run(lambda record: out.append((clock.now, record)), clock)
    return out


def test_at_the_pace_of_the_clock(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", table(100, 1_640_000_000))
    start = 1_700_000_000 * NANO
    out = play(path, Clock(start), pace="clock", speed=10.0, chunk_rows=16)
    assert {record.source for _, record in out} == {"rec"}
    assert all(record.content_type == ARROW for _, record in out)
    for now, record in out:
        times = decode(record, MappingOptions()).time_unix_nano
        due = start + (int(times.max()) - 1_640_000_000 * NANO) // 10
        assert 0 <= now - due <= 1.1 * NANO
        assert record.received_unix_nano == now
    assert 9.0 * NANO <= out[-1][0] - start <= 11.0 * NANO


def test_times_are_moved_to_now(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.ndjson"):
        start = 1_700_000_000 * NANO
        path = write(tmp_path / name, table(20, 1_640_000_000, 60))
        out = play(path, Clock(start), pace="clock", speed=60.0, shift=True)
        times = np.unique(np.concatenate([decode(record, MappingOptions()).time_unix_nano for _, record in out]))
        assert times.tolist() == [start + at * NANO for at in range(20)]
        assert all(decode(record, MappingOptions()).time_unix_nano.max() <= now for now, record in out)


def test_a_file_waits_for_room(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table(300))
    source = FilesSource("rec", FilesOptions(paths=(str(path),), chunk_rows=50))
    clock, taken, tries = Clock(0), [], 0

    def submit(record: Record) -> None:
        nonlocal tries
        tries += 1
        if tries % 3:
            raise RetryableError("full")
        taken.append(record)

    source.run(submit, clock)
    assert sum(len(decode(record, MappingOptions())) for record in taken) == 600
    assert tries == 3 * len(taken)


def test_it_stops_when_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table(300))
    source = FilesSource("rec", FilesOptions(paths=(str(path),), chunk_rows=50))
    taken: list[Record] = []

    def submit(record: Record) -> None:
        taken.append(record)
        source.stop()

    source.run(submit, Clock(0))
    assert len(taken) == 1


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="pace: clock"):
        FilesOptions(paths=("x",), shift=True)


# -- real data ---------------------------------------------------------------------------------------------------


def test_a_recorded_server_machine() -> None:
    files = sorted((SHARED / "smd" / "dev").glob("*.parquet"))
    if not files:
        pytest.skip(f"the data set is not there ({SHARED / 'smd'})")
    reader = TableReader(files[:1])
    first = next(record for _, record in reader.read(0) if record.content_type == ARROW)
    samples = decode(first, MappingOptions())
    assert samples.time_unix_nano[0] == 0
    assert [one.name for one in samples.series] == [f"m{at}" for at in range(38)]
    assert {one.entity for one in samples.series} == {(("entity", files[0].stem),)}
    assert "skipped = label, split" in " ".join(reader.describe())
    assert reader.rows_total() == pq.ParquetFile(files[0]).metadata.num_rows


def test_columns_that_hold_no_numbers_do_not_stand_in_the_way(tmp_path: Path) -> None:
    data = pa.table({"t": [10, 20], "v": [1.0, 2.0], "note": ["a", "b"], "open": [True, False]})
    for name in ("a.parquet", "a.csv"):
        reader = TableReader([write(tmp_path / name, data)], MappingOptions())
        samples = [decode(one, MappingOptions()) for _, one in reader.read(0) if one.content_type == ARROW]
        assert [one.value.tolist() for one in samples] == [[1.0, 2.0]]
        assert reader.describe()[0].endswith("not used = note, open")
