"""Stretches of series for charts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add `series` and `stretch`."""
    op.create_table(
        "series",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("entity", sa.Text, nullable=False),
        sa.Column("feature", sa.Text, nullable=False),
        sa.Column("json", sa.Text, nullable=False),
        sa.UniqueConstraint("entity", "feature"),
    )
    op.create_table(
        "stretch",
        sa.Column("series", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Integer, nullable=False),
        sa.Column("start_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("end_unix_nano", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("series", "seconds", "start_unix_nano"),
    )
    op.create_index("stretch_age", "stretch", ["seconds", "start_unix_nano"])
