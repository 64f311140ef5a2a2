"""A database opened, migrated and checked; and its errors in our words."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from foreshock.adapters.sql.schema import HEAD, METADATA, VERSION
from foreshock.errors import ConfigError, PermanentError, RetryableError

MIGRATIONS = Path(__file__).parent / "migrations"
QUICK_CHECK_BYTES = 16 << 20
READ_SECONDS = 1.0
_STEPS_BETWEEN_LOOKS = 20_000
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_SAYS = {
    sqlite3.SQLITE_BUSY: "another process is writing to it; it is tried again",
    sqlite3.SQLITE_LOCKED: "another process is writing to it; it is tried again",
    sqlite3.SQLITE_FULL: "the disk is full; free some space and it goes on",
    sqlite3.SQLITE_IOERR: "the disk cannot be written or read; free some space or mend it and it goes on",
    sqlite3.SQLITE_READONLY: "it is read-only; give this user the right to write it",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; make sure that its folder exists and can be written",
}


class Database:
    """An SQLite database in WAL: any number of readers, one writer at a time.

    Raises PermanentError if the file is corrupt, newer than this program or cannot be opened; RetryableError if it is
    locked or the disk is full.
    """

    def __init__(self, url: str, busy_timeout_seconds: float) -> None:
        self.path = _path(url)
        self._busy_ms = int(busy_timeout_seconds * 1000)
        self._writing = threading.Lock()
        # Threads that use the store are few (writer, sinks, HTTP workers); the overflow bounds them all the same.
        self.engine = create_engine(
            url,
            pool_size=8,
            max_overflow=56,
            pool_timeout=max(1.0, busy_timeout_seconds),
            connect_args={"timeout": busy_timeout_seconds},
            json_serializer=lambda value: msgspec.json.encode(value).decode(),
            json_deserializer=msgspec.json.decode,
        )
        event.listen(self.engine, "connect", self._connected)
        event.listen(self.engine, "begin", _begin)
        try:
            with self._told():
                self._open()
        except BaseException:
            self.engine.dispose()
            raise

    def _open(self) -> None:
        if self.path.exists() and self.path.stat().st_size <= QUICK_CHECK_BYTES:
            with self.engine.connect() as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise PermanentError(self._corrupt(str(found)))
        with self.writing() as connection:
            migrate(connection, self.path)

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One write transaction: committed at the end, undone by an exception."""
        with self._told(), self._writing, self.engine.connect() as connection:
            writer = connection.execution_options(foreshock_write=True)
            with writer.begin():
                yield writer

    @contextmanager
    def reading(self, seconds: float = READ_SECONDS) -> Iterator[Connection]:
        """One read transaction, broken off after `seconds` (RetryableError): readers never hold the store for long."""
        with self._told(), self.engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            deadline = time.monotonic() + seconds
            raw.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
            try:
                with connection.begin():
                    yield connection
            finally:
                raw.set_progress_handler(None, 0)

    def _connected(self, raw: Any, _record: object) -> None:
        # Transactions are begun by `_begin`, not by the driver's guess.
        raw.isolation_level = None
        for pragma in (f"busy_timeout = {self._busy_ms}", "journal_mode = WAL", "synchronous = FULL"):
            raw.execute(f"PRAGMA {pragma}")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeoutError as error:
            raise RetryableError(f"{self.path}: too many readers at once; try again") from error
        except DBAPIError as error:
            raise self._translate(error.orig or error) from error
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: BaseException) -> Exception:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code in _CORRUPT:
            return PermanentError(self._corrupt(str(error)))
        if code == sqlite3.SQLITE_INTERRUPT:
            return RetryableError(f"{self.path}: the query took too long; ask for a shorter interval")
        says = _SAYS.get(code, "see the SQLite message")
        kind = RetryableError if code in _PASSING else PermanentError
        return kind(f"{self.path}: {error}: {says}")

    def _corrupt(self, found: str) -> str:
        return (
            f"{self.path} is corrupt ({found.splitlines()[-1]}). Move it away, with its -wal and -shm files, and start "
            "again: what the log still holds is rebuilt from the log."
        )


def migrate(connection: Connection, path: Path) -> None:
    """Bring the schema to `HEAD` in the transaction that is open on `connection`.

    A new database gets the tables at once and the stamp; only an older one loads Alembic (half a second).
    """
    tables = set(inspect(connection).get_table_names())
    if not tables:
        METADATA.create_all(connection)
        VERSION.create(connection)
        connection.execute(VERSION.insert().values(version_num=HEAD))
        return
    has = connection.execute(select(VERSION.c.version_num)).scalar() if VERSION.name in tables else None
    if has == HEAD:
        return
    if has is None:
        raise PermanentError(f"{path} is a database of something else; give Foreshock a file of its own")
    upgrade(connection, path)


def upgrade(connection: Connection, path: Path) -> None:
    """Run Alembic's migrations up to `HEAD`.

    Raises PermanentError if the database is of a newer version.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise PermanentError(f"{path} was written by another version of Foreshock ({error}); use that one") from error


def _begin(connection: Connection) -> None:
    write = connection.get_execution_options().get("foreshock_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _path(url: str) -> Path:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(f"{url!r} is not a database address such as sqlite:///data/foreshock.db") from error
    if parsed.get_backend_name() != "sqlite":
        raise ConfigError(f"store {parsed.get_backend_name()!r} is not known; write sqlite:///PATH")
    if not parsed.database or parsed.database == ":memory:":
        raise ConfigError("a database in memory is not shared between threads; write sqlite:///PATH")
    return Path(parsed.database)


__all__ = ["Connection", "Database", "Engine", "migrate", "upgrade"]
