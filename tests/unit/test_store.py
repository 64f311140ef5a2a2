from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from foreshock.adapters.sql import Cursor, Store, engine
from foreshock.adapters.sql.engine import MIGRATIONS, Database, upgrade
from foreshock.adapters.sql.schema import HEAD, METADATA, VERSION
from foreshock.adapters.sql.text import parse_labels
from foreshock.errors import BadInputError, ConfigError, PermanentError, RetryableError
from foreshock.testing.check_store import CHECKS, Factory, check_store, sample_alert, sample_verdicts
from foreshock.types import Alert, label_text, labels


@pytest.fixture
def factory(tmp_path: Path) -> Factory:
    return lambda name, retention: Store(f"sqlite:///{tmp_path}/{name}.db", retention)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/s.db", busy_timeout_seconds=0.05)
    yield store
    store.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(check: Callable[[Factory], None], factory: Factory) -> None:
    check(factory)


@pytest.mark.parametrize("broken", ["commit", "expire", "register"])
def test_conformance_finds_a_broken_store(broken: str, tmp_path: Path) -> None:
    class Forgetful(Store):
        """Does nothing, or the wrong thing, in one place."""

    def commit(self: Store, task: str, start: int, end: int, *rest: object) -> None:
        Store.commit(self, task, start, end, [], None, [])

    wrong = {"commit": commit, "expire": lambda self, now: 0, "register": lambda self, sink: Cursor(0)}
    setattr(Forgetful, broken, wrong[broken])
    with pytest.raises(AssertionError):
        check_store(lambda name, retention: Forgetful(f"sqlite:///{tmp_path}/{name}.db", retention))


def _shape(path: Path) -> dict[str, object]:
    with sqlite3.connect(path) as raw:
        tables = [row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        shape: dict[str, object] = {
            table: (
                raw.execute(f'PRAGMA table_info("{table}")').fetchall(),
                sorted(
                    (raw.execute(f'PRAGMA index_xinfo("{index[1]}")').fetchall(), index[2:])
                    for index in raw.execute(f'PRAGMA index_list("{table}")')
                ),
                [row[5] if len(row) > 5 else None for row in raw.execute(f"PRAGMA table_list('{table}')")],
            )
            for table in sorted(tables)
        }
        counted = "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' ORDER BY name"
        rowless = "SELECT name FROM sqlite_master WHERE sql LIKE '%WITHOUT ROWID%' ORDER BY name"
        shape["#"] = (raw.execute(counted).fetchall(), raw.execute(rowless).fetchall())
    raw.close()
    return shape


def test_a_new_database_is_what_the_migrations_make(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path}/new.db").close()
    migrated = Database(f"sqlite:///{tmp_path}/old.db", 1.0)
    with migrated.writing() as connection:
        METADATA.drop_all(connection)
        connection.execute(VERSION.delete())
        upgrade(connection, tmp_path)
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        assert connection.execute(VERSION.select()).all() == [(HEAD,)]
    migrated.close()
    assert _shape(tmp_path / "old.db") == _shape(tmp_path / "new.db")
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [HEAD]


def test_opening_does_not_load_alembic(tmp_path: Path) -> None:
    code = (
        "import sys; from foreshock.adapters.sql import Store\n"
        f"for _ in range(2): Store('sqlite:///{tmp_path}/n.db').close()\n"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_database_of_another_version_or_program_is_refused(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path}/n.db").close()
    with sqlite3.connect(tmp_path / "n.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(PermanentError, match=r"another version of Foreshock.*9999"):
        Store(f"sqlite:///{tmp_path}/n.db")
    with sqlite3.connect(tmp_path / "o.db") as raw:
        raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    with pytest.raises(PermanentError, match="something else"):
        Store(f"sqlite:///{tmp_path}/o.db")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql://h/d", "nonsense"])
def test_addresses_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///"):
        Store(url)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="make sure that its folder exists"):
        Store(f"sqlite:///{tmp_path}/no/s.db")


def test_pragmas(tmp_path: Path, store: Store) -> None:
    database = Database(f"sqlite:///{tmp_path}/s.db", 2.5)
    with database.reading() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        }
    database.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 2500}


def test_another_writer_makes_it_retryable_and_readers_go_on(tmp_path: Path, store: Store) -> None:
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryableError, match="another process is writing"):
        store.commit("t", 0, 1, [sample_alert()], None, [])
    assert store.committed("t") == 0
    other.execute("ROLLBACK")
    other.close()
    store.commit("t", 0, 1, [sample_alert()], None, [])
    assert store.committed("t") == 1


def test_a_full_disk_is_retryable_and_loses_nothing(store: Store) -> None:
    store.commit("t", 0, 1, [sample_alert()], None, [])
    # Pooled connections are handed out last in, first out: the bound below holds for the commit that follows.
    with store._database.writing() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    big = sample_verdicts(['{host.name="a1"}'] * 20_000)
    with pytest.raises(RetryableError, match="disk is full"):
        store.commit("t", 1, 2, [], big, [])
    assert store.committed("t") == 1
    with store._database.writing() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    store.commit("t", 1, 2, [], big, [])
    assert store.committed("t") == 2


@pytest.mark.parametrize("at", [0, 8192])
def test_a_corrupt_file_is_named_at_open(at: int, tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    store = Store(f"sqlite:///{path}")
    store.commit("t", 0, 1, [sample_alert(f"a{i}") for i in range(300)], None, [])
    store.close()
    data = bytearray(path.read_bytes())
    data[at : at + 8192] = b"\xa5" * 8192
    path.write_bytes(bytes(data))
    with pytest.raises(PermanentError, match=r"c\.db is corrupt.*Move it away.*rebuilt from the log"):
        Store(f"sqlite:///{path}")


def test_corruption_that_shows_later_is_permanent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.db"
    store = Store(f"sqlite:///{path}")
    store.commit("t", 0, 1, [sample_alert(f"a{i}") for i in range(300)], None, [])
    store.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = b"\xa5" * (len(data) - len(data) // 2)
    path.write_bytes(bytes(data))
    monkeypatch.setattr(engine, "QUICK_CHECK_BYTES", 0)
    store = Store(f"sqlite:///{path}")
    with pytest.raises(PermanentError, match=r"c\.db is corrupt"):
        store.events(limit=1000)
    store.close()


def test_a_reader_does_not_hold_the_store_for_long(store: Store) -> None:
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
    with pytest.raises(RetryableError, match="shorter interval"), store._database.reading(0.0) as connection:
        connection.exec_driver_sql(endless).scalar()
    assert store.committed("t") == 0


def test_clean_up_deletes_in_chunks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    entity = '{host.name="a1"}'
    ended = [sample_alert(f"a{i}", ends_unix_nano=1) for i in range(130)]
    store.commit("t", 0, 1, ended, sample_verdicts([entity] * 2500), [])
    writing = store._database.writing
    changed: list[int] = []

    @contextmanager
    def counted() -> Iterator[Connection]:
        with writing() as connection:
            start = connection.exec_driver_sql("SELECT total_changes()").scalar_one()
            yield connection
            changed.append(connection.exec_driver_sql("SELECT total_changes()").scalar_one() - start)

    monkeypatch.setattr(store._database, "writing", counted)
    total = store.expire(1 << 62)
    assert max(changed) <= 1000
    assert sum(changed) == total == 2500 + 130 * (1 + 1 + 3)


def test_many_threads_write_and_read(store: Store) -> None:
    slow = Store(f"sqlite:///{store._database.path}", busy_timeout_seconds=20.0)
    errors: list[Exception] = []

    def work(task: str) -> None:
        try:
            for i in range(20):
                slow.commit(task, i, i + 1, [sample_alert(task, i)], sample_verdicts([f'{{t="{task}"}}'], start=i), [])
                slow.alerts(limit=5)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [seq for seq, _ in slow.events()] == list(range(1, 81))
    assert [slow.committed(f"t{i}") for i in range(4)] == [20] * 4
    slow.close()


def test_entities_are_parsed_as_they_are_written() -> None:
    odd = labels({"a.b": 'x"y\\z\n, c="d"', "n": ""})
    assert parse_labels(label_text(odd)) == odd
    assert parse_labels(" host.name = a1 , b=2 ") == labels({"host.name": "a1", "b": "2"})
    for bad in ("{a", 'a="b', "a=1,", "=1", 'a="b"c="d"'):
        with pytest.raises(BadInputError):
            parse_labels(bad)


def test_alerts_of_an_entity_are_found_by_the_entitys_own_label_names(store: Store) -> None:
    labels = (("alertname", "ForeshockAnomaly"), ("feature", "cpu"), ("host_name", "a1"))
    store.commit("t", 0, 1, [Alert(labels, (), 5, 6)], None, [])
    assert [alert.labels for alert in store.alerts(entity='{host.name="a1"}').alerts] == [labels]
    assert store.alerts(entity='{host.name="a2"}').alerts == []
    store.forget('{host.name="a1"}')
    assert store.alerts().alerts == []
