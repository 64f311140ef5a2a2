"""Words that several answers share. Numbers that are not known are null."""

from __future__ import annotations

from typing import Literal

Number = float | None
StatusName = Literal["scored", "warming_up", "missing", "stale", "excluded"]
