"""The one relational schema, for SQLite and PostgreSQL: tables as SQLAlchemy Core describes them.

A change here goes with a migration under `migrations/versions` and a new `HEAD`; a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

HEAD = "0003"
"""The revision that `metadata` describes."""

METADATA = MetaData()

Counted = BigInteger().with_variant(Integer, "sqlite")
"""A counted primary key; SQLite counts only a column whose type is exactly INTEGER."""

META = Table("meta", METADATA, Column("name", String, primary_key=True), Column("value", Text, nullable=False))

ALERT = Table(
    "alert",
    METADATA,
    Column("episode", String(32), primary_key=True),
    Column("key", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("annotations", JSON, nullable=False),
    Column("starts_unix_nano", BigInteger, nullable=False),
    Column("ends_unix_nano", BigInteger),
    Column("decided_unix_nano", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("strength", Float, nullable=False),
    Column("notified", Boolean),
    Column("group", String, nullable=False),
    Column("status", String, nullable=False),
    Index("alert_starts", "starts_unix_nano", "episode"),
    Index("alert_status", "status", "starts_unix_nano"),
)

ALERT_LABEL = Table(
    "alert_label",
    METADATA,
    Column("name", String, nullable=False),
    Column("value", String, nullable=False),
    Column("episode", String(32), nullable=False),
    PrimaryKeyConstraint("name", "value", "episode"),
    Index("alert_label_episode", "episode"),
    sqlite_with_rowid=False,
)
"""The labels of each episode one by one: what searches by entity look through."""

ALERT_EVENT = Table(
    "alert_event",
    METADATA,
    Column("seq", Counted, primary_key=True, autoincrement=True),
    Column("episode", String(32), nullable=False),
    Column("status", String, nullable=False),
    Column("json", Text, nullable=False),
    Index("alert_event_episode", "episode"),
    sqlite_autoincrement=True,
)
"""Every transition in order: the alert stream. A `seq` is never used twice."""

NAME = Table(
    "name",
    METADATA,
    Column("id", Counted, primary_key=True, autoincrement=True),
    Column("text", Text, nullable=False, unique=True),
)
"""Texts that stand in many rows of `verdict` (entities, features, detectors), once."""

VERDICT = Table(
    "verdict",
    METADATA,
    Column("time_unix_nano", BigInteger, nullable=False),
    Column("entity", BigInteger, nullable=False),
    Column("feature", BigInteger, nullable=False),
    Column("detector", BigInteger, nullable=False),
    Column("value", Float),
    Column("score", Float),
    Column("p_value", Float),
    Column("strength", Float),
    Column("low", Float),
    Column("high", Float),
    Column("expected", Float),
    Column("notes", Text),
    PrimaryKeyConstraint("time_unix_nano", "entity", "feature", "detector"),
    sqlite_with_rowid=False,
)
"""Anomalous rows. NULL = not known (NaN). `notes` is JSON: the unit, the part its detector plays, contributions.

Clustered by time: rows come in that order, are asked for by time range and go by age. A second index on the entity
would halve the speed of writing for rows that are few by nature.
"""

SERIES = Table(
    "series",
    METADATA,
    Column("id", Counted, primary_key=True, autoincrement=True),
    Column("entity", Text, nullable=False),
    Column("feature", Text, nullable=False),
    Column("json", Text, nullable=False),
    UniqueConstraint("entity", "feature"),
)
"""Series of which stretches are kept; with an empty `feature`, an entity as detectors of whole entities see it."""

STRETCH = Table(
    "stretch",
    METADATA,
    Column("series", BigInteger, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("start_unix_nano", BigInteger, nullable=False),
    Column("end_unix_nano", BigInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("series", "seconds", "start_unix_nano"),
    Index("stretch_age", "seconds", "start_unix_nano"),
)
"""Stretches [start, end) of series for charts: `data` holds points (`seconds` 0) or buckets of so many seconds, packed
(`runtime.stretch`), made of so many aligned `rows`. A stretch that comes again, whole, takes the place of itself.
"""

CONTROL = Table(
    "control",
    METADATA,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("effective_unix_nano", BigInteger, nullable=False),
    Column("until_unix_nano", BigInteger, nullable=False),
    Column("json", Text, nullable=False),
    Index("control_effective", "effective_unix_nano"),
)

COMMIT = Table(
    "commit",
    METADATA,
    Column("task", String, nullable=False),
    Column("from_position", BigInteger, nullable=False),
    Column("to_position", BigInteger, nullable=False),
    Column("format", Integer, nullable=False),
    PrimaryKeyConstraint("task", "from_position"),
)
"""The runs that a task has consumed, in order; a run that goes on where the last ended lengthens it."""

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("sink", String, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_try_unix_nano", BigInteger, nullable=False),
)
"""How far each sink has got in `alert_event`, what it must remember, and when it tries again."""

OUTBOX_DEAD = Table(
    "outbox_dead",
    METADATA,
    Column("sink", String, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("episode", String(32), nullable=False),
    Column("status", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at_unix_nano", BigInteger, nullable=False),
    PrimaryKeyConstraint("sink", "seq"),
)
"""Alerts that a sink refused for good, with its reason."""

VERSION = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, so that a new database can be stamped without loading Alembic."""
