"""What fingerprints remember of calls, as arrays: entities, their open windows, and what services have of their own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from foreshock.stream.align_tables import FOREVER, NEVER, TIME_LIMIT, Flag, Int
from foreshock.stream.endpoints import PREFIX_FIELDS
from foreshock.stream.sketch import BUCKETS, CELLS, WAYS, filter_cells
from foreshock.stream.steady import LAST

__all__ = ["FOREVER", "NEVER", "TIME_LIMIT", "Flag", "Int"]

SERVICE, EDGE, ENVIRONMENT = range(3)
"""Kinds of entities."""

CLASSES = 6
"""Calls by the first digit of their status, 0 = no answer."""

FULL = 100
"""So many calls are enough for anything; of windows that have them, only the last is kept of an entity."""

JUDGED, FAILED = 20, 3
"""So many calls are enough for quantiles up to the 95th, and for ratios if so many have failed, more than usual."""

UNUSUAL = 10.0
"""Poisson deviance from the usual share of failures by which a few count as more than usual: one call in a hundred that
fails makes five of twenty of it, three times in a million."""

HISTORY = 60
"""Closed windows that are remembered."""

RECENT = 256
"""Durations (their buckets) of windows that were not full; more than two windows short of `FULL` have."""

PLACES = 16
"""Endpoints of a service that are counted by themselves; the place behind them is for all others."""

NAMES = 64
"""Endpoints that a service may ever have counted by themselves."""

SHARES = 64
"""Parts of a mix: places of a service, edges of the environment by their hash."""

PROMOTED = 5
"""Calls of an endpoint that give it a place of its own while there is one."""

AGE = 120
"""Windows after which endpoint frequencies count half."""

LEAST_EMPTY, MOST_EMPTY = 12, 720
"""Windows without calls that are given before an entity counts as silent, whatever its usual gaps."""

MIX_KEPT, MIX_LEAST, MIX_KNOWN = 50.0, 20.0, 100.0
"""Calls that a mix is made of: a window and what it takes of those before it; the fewest; those of the usual mix."""

MIX_DECAY = 0.995
"""What the usual mix keeps a window: it counts half after 138 windows."""

_RECENT_CALLS = 512

# What every call touches stands first in a row, side by side: most of the time is waiting for memory.
ENTITY = np.dtype(
    [
        ("kind", "i4"),
        ("service", "i4"),  # row of SERVICE_ROW, or -1
        ("waiting", "i4"),  # open windows with calls
        ("began", "i4"),  # whether a window with calls was closed
        ("newest", "i8"),  # largest event time
        ("lateness", "i8"),  # the longest of its sources, nanoseconds
        ("hold", "i8"),  # watermarks below this close nothing
        ("closed_end", "i8"),  # end of the last closed window: calls before it are late
        ("quiet_until", "i8"),  # nothing counts as new before
        ("empty", "i4"),  # windows since the last with calls
        ("gap", "i4"),  # usual windows from one with calls to the next: the largest, decaying; times 64
        ("known", "u8"),  # features that ever had a value
        ("closed", "i8"),  # windows in `past` so far
        ("recents", "i8"),  # durations in `recent` so far
        ("rate_past", "f8", (3,)),  # see `steady_rate`
        ("rate_last", "u4", (LAST,)),
        ("failed_past", "f8", (2,)),  # failed calls and all calls of windows before the last, decayed
        ("mix_usual", "f8", (SHARES,)),
        ("mix_now", "f8", (SHARES,)),
        ("past", "i4", (HISTORY, CLASSES + 1)),  # calls by class, and timed calls; a ring
        ("full", "u4", (BUCKETS,)),  # durations of the last full window
        ("recent", "u2", (RECENT,)),
    ],
    align=True,
)
NEW_ENTITY = {
    "newest": NEVER, "hold": NEVER, "closed_end": NEVER, "quiet_until": FOREVER, "service": -1,
}  # fmt: skip

WINDOW = np.dtype(
    [
        ("start", "i8"),
        ("calls", "i4", (CLASSES,)),
        ("count", "i4"),
        ("timed", "i4"),
        ("mixed", "i4"),  # calls in `mix`
        ("new_endpoints", "i4"),
        ("new_edges", "i4"),
        ("active", "i4"),  # edges, of the environment
        ("active_in", "i8"),  # of an edge: the window of the environment that has counted it
        ("buckets", "u4", (BUCKETS,)),
        ("mix", "u4", (SHARES,)),
    ],
    align=True,
)
NEW_WINDOW = {"start": NEVER, "active_in": NEVER}

SERVICE_ROW = np.dtype(
    [
        ("names", "i4"),  # names given so far
        ("collapses", "i4"),
        ("place_key", "u8", (PLACES,)),  # template, 0 = free
        ("place_since", "i8", (PLACES,)),  # start of the first window it counts in
        ("before_key", "u8", (PLACES,)),  # whose place it was in the windows before
        ("age", "i8"),  # how often frequencies were halved, by the time of calls
        *PREFIX_FIELDS,
        ("spare", "i4"),
        ("frequency", "u4", (CELLS,)),  # of endpoints without a place
        ("place_count", "u4", (PLACES,)),
        ("place_name", "i4", (PLACES,)),
        ("before_name", "i4", (PLACES,)),
        ("moving", "i4", (PLACES,)),  # whether what is known of the mix still has it under the one before
        ("rate_past", "f8", (PLACES + 1, 3)),  # of each place and all others, see `steady_rate`
        ("rate_last", "u4", (PLACES + 1, LAST)),
        ("rate_seen", "i8", (PLACES + 1,)),
        ("seen", "u8", (_RECENT_CALLS, WAYS)),  # hashes of the last calls
        ("known", "u2", (filter_cells(512),)),  # endpoints and callers ever seen
    ],
    align=True,
)

KNOWN = np.dtype([("cells", "u2", (filter_cells(16_384),))])
"""Endpoints and edges ever seen in the environment."""

# Features, by number. Endpoints follow, each by the number of its name.
(
    RATE, ERRORS, UNANSWERED, OK, REDIRECTED, CLIENT, SERVER, P50, P95, P99, NEW_ENDPOINTS, NEW_CALLERS, MIX, OTHERS,
    ACTIVE, NEW_EDGES,
) = range(16)  # fmt: skip
ENDPOINTS = 16
FEATURES = ENDPOINTS + NAMES
MOST_EMITTED = ENDPOINTS + PLACES

(
    EMITTED, NAMED, WATERMARK, STEP, OPEN, LEAST, LOOKBACK, LEARN, HOLD, ENVIRONMENT_SLOT,
) = range(10)  # fmt: skip
"""Places in `Tables.number`; from STEP on they are settings."""

REASONS = (
    "late", "future", "duplicate", "entity_limit", "edge_limit", "endpoint_limit", "late_edge", "late_environment",
)  # fmt: skip
LATE, FUTURE, DUPLICATE, ENTITY_LIMIT, EDGE_LIMIT, ENDPOINT_LIMIT, LATE_EDGE, LATE_ENVIRONMENT = range(8)
"""Places in `Tables.counts`."""

OUT = np.dtype([("time", "i8"), ("value", "f8"), ("entity", "i4"), ("feature", "i2"), ("first", "i2")], align=True)
NAMING = np.dtype([("row", "i8"), ("entity", "i4"), ("name", "i4"), ("ids", "i4"), ("spare", "i4")], align=True)


class Tables(NamedTuple):
    """All arrays that the kernels work on."""

    entity: Any
    """ENTITY, by slot."""
    window: Any
    """WINDOW: each entity has `OPEN` of them, a ring by start ÷ step."""
    service: Any
    """SERVICE_ROW."""
    known: Any
    """KNOWN[1], of the environment."""
    number: Any
    """int64: counters and settings, see EMITTED …"""
    counts: Any
    """int64: what was not used, see REASONS."""
    out: Any
    """OUT: features of closed windows."""
    naming: Any
    """NAMING: endpoints that were given a place, in words still to be found."""
    scratch: Any
    """uint32[BUCKETS]: durations of several windows."""
    prefixes: Any
    """uint64[3, PREFIXES]: for `template_of`."""


class CallRecord(NamedTuple):
    """The calls of one record, and what is known of its names."""

    rows: Any
    """CALL[n]."""
    data: Any
    """uint8: all names, UTF-8."""
    start: Any
    """int64[names + 1]: where each begins."""
    hash: Any
    """uint64[names]."""
    service: Any
    """int32[names]: entity slot of the service of this name, or -1."""
    edge_of: Any
    """int32[n]: which distinct edge, or -1."""
    edge: Any
    """int32[edges]: its entity slot, or -1."""
    edge_seen: Any
    """uint8[edges]: by whom it is remembered by now."""
    share: Any
    """int64[edges]: its part of the environment's mix, once it is seen."""
    path_of: Any
    """int32[n]: which distinct (target, endpoint, method)."""
    path_seen: Any
    """uint8[paths]: by whom its template is remembered by now."""
    template: Any
    """uint64[paths]: its template, while `collapses` holds."""
    ids: Any
    """int64[paths]."""
    collapses: Any
    """int32[paths]: collapses of the service when the template was found, -1 before."""
