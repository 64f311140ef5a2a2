"""What sources have brought: how much, how late, at what pace."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace

from foreshock.runtime.rings import Delays, Pace


@dataclass(frozen=True, slots=True)
class SourceView:
    """What a source has brought since the start, and how late half and 99 of 100 of its last records were (s)."""

    source: str
    last_received_unix_nano: int
    records: int
    samples: int
    delay_p50_seconds: float = math.nan
    delay_p99_seconds: float = math.nan


class SourceViews:
    """Tables of sources; the pipeline thread feeds, any thread reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pace, self._delays = Pace(), Delays()
        self._sources: dict[str, SourceView] = {}

    def feed(self, source: str, received_unix_nano: int, samples: int, oldest_unix_nano: int | None = None) -> None:
        """Note that a source brought a record, whose oldest sample is of this time."""
        with self._lock:
            if oldest_unix_nano is not None:
                self._delays.note(source, (received_unix_nano - oldest_unix_nano) / 1e9)
            old = self._sources.get(source)
            records, before = (old.records, old.samples) if old else (0, 0)
            self._sources[source] = SourceView(source, received_unix_nano, records + 1, before + samples)
            self._pace.note(source, received_unix_nano, samples)

    def all(self) -> list[SourceView]:
        """Sources by name."""
        with self._lock:
            found = [self._sources[name] for name in sorted(self._sources)]
            late = [self._delays.of(one.source) for one in found]
        return [
            replace(one, delay_p50_seconds=half, delay_p99_seconds=most)
            for one, (half, most) in zip(found, late, strict=True)
        ]

    def pace(self, source: str, now_unix_nano: int) -> list[int]:
        """Samples that a source brought in each minute of the last hour, oldest first."""
        with self._lock:
            return self._pace.of(source, now_unix_nano)
