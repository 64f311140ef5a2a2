"""Alembic's entry: runs the migrations over the connection that the store hands in."""

from __future__ import annotations

from alembic import context

from foreshock.adapters.sql.schema import METADATA


def run() -> None:
    """Migrate over `attributes["connection"]` inside the transaction that is open on it."""
    context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
    with context.begin_transaction():
        context.run_migrations()


# Alembic loads this file under this name; anything else that imports it only wants to look.
if __name__ == "env_py":
    run()
