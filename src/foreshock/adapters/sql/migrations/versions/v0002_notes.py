"""What else is known of an anomalous row: unit, role of its detector, contributions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add `verdict.notes`."""
    op.add_column("verdict", sa.Column("notes", sa.Text))
