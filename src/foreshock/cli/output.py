"""How the command line speaks: plain lines and tables for people, JSON for programs."""

from __future__ import annotations

import gc
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Standard output; lines are not wrapped where it is no terminal."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def errors() -> Console:
    """Standard error, for progress and remarks."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def lines(*texts: str) -> None:
    """Print plain lines."""
    sys.stdout.write("".join(f"{text}\n" for text in texts))


def counted(count: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "row"), counted(2, "row")
    ('1 row', '2 rows')
    """
    return f"{count} {what}{'' if count == 1 else 's'}"


def emit_json(value: Any) -> None:
    """Print one JSON document; what is not finite is null."""
    sys.stdout.write(json.dumps(finite(value), indent=1, ensure_ascii=False, default=str, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The same data with null in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and value - value != 0.0 else value


def all_imported() -> None:
    """Let garbage be collected from here on; what was imported lives on and need not be looked at."""
    gc.freeze()
    gc.enable()
