"""The relational store: alerts, verdicts, control records, commits and the outbox."""

from foreshock.adapters.sql.store import Cursor, Dead, Store

__all__ = ["Cursor", "Dead", "Store"]
