"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_COUNTED = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create all tables."""
    op.create_table("meta", sa.Column("name", sa.String, primary_key=True), sa.Column("value", sa.Text, nullable=False))
    _alerts()
    _verdicts()
    op.create_table(
        "control",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("effective_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("until_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("json", sa.Text, nullable=False),
    )
    op.create_index("control_effective", "control", ["effective_unix_nano"])
    op.create_table(
        "commit",
        sa.Column("task", sa.String, nullable=False),
        sa.Column("from_position", sa.BigInteger, nullable=False),
        sa.Column("to_position", sa.BigInteger, nullable=False),
        sa.Column("format", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("task", "from_position"),
    )
    _outbox()


def _alerts() -> None:
    op.create_table(
        "alert",
        sa.Column("episode", sa.String(32), primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("annotations", sa.JSON, nullable=False),
        sa.Column("starts_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("ends_unix_nano", sa.BigInteger),
        sa.Column("decided_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("strength", sa.Float, nullable=False),
        sa.Column("notified", sa.Boolean),
        sa.Column("group", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
    )
    op.create_index("alert_starts", "alert", ["starts_unix_nano", "episode"])
    op.create_index("alert_status", "alert", ["status", "starts_unix_nano"])
    op.create_table(
        "alert_label",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("value", sa.String, nullable=False),
        sa.Column("episode", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("name", "value", "episode"),
        sqlite_with_rowid=False,
    )
    op.create_index("alert_label_episode", "alert_label", ["episode"])
    op.create_table(
        "alert_event",
        sa.Column("seq", _COUNTED, primary_key=True, autoincrement=True),
        sa.Column("episode", sa.String(32), nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("json", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("alert_event_episode", "alert_event", ["episode"])


def _verdicts() -> None:
    op.create_table(
        "name",
        sa.Column("id", _COUNTED, primary_key=True, autoincrement=True),
        sa.Column("text", sa.Text, nullable=False, unique=True),
    )
    numbers = ("value", "score", "p_value", "strength", "low", "high", "expected")
    op.create_table(
        "verdict",
        sa.Column("time_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("entity", sa.BigInteger, nullable=False),
        sa.Column("feature", sa.BigInteger, nullable=False),
        sa.Column("detector", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.Float) for name in numbers),
        sa.PrimaryKeyConstraint("time_unix_nano", "entity", "feature", "detector"),
        sqlite_with_rowid=False,
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("sink", sa.String, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try_unix_nano", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "outbox_dead",
        sa.Column("sink", sa.String, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("episode", sa.String(32), nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at_unix_nano", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("sink", "seq"),
    )
