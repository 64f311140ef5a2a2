"""Closing the windows of calls: which is next, and its features."""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock.state.jit import inner
from foreshock.stream.fingerprint_tables import (
    ACTIVE,
    CLASSES,
    CLIENT,
    EDGE,
    EMITTED,
    ENDPOINTS,
    ENVIRONMENT,
    ERRORS,
    FAILED,
    FOREVER,
    FULL,
    HISTORY,
    JUDGED,
    LEAST,
    LEAST_EMPTY,
    LOOKBACK,
    MIX,
    MIX_DECAY,
    MIX_KEPT,
    MIX_KNOWN,
    MIX_LEAST,
    MOST_EMITTED,
    MOST_EMPTY,
    NEVER,
    NEW_CALLERS,
    NEW_EDGES,
    NEW_ENDPOINTS,
    OK,
    OPEN,
    OTHERS,
    P50,
    P95,
    P99,
    PLACES,
    RATE,
    RECENT,
    REDIRECTED,
    SERVER,
    SERVICE,
    SHARES,
    STEP,
    UNANSWERED,
    UNUSUAL,
    Flag,
    Int,
    Tables,
)
from foreshock.stream.sketch import BUCKETS, mix_distance, quantile_of
from foreshock.stream.steady import KEPT, LAST, deviates, steady_rate

_TIMED = CLASSES


@inner
def window_of(t: Tables, e: Int, start: Int) -> Int:
    """The row of the window of an entity that begins at `start`."""
    return np.int64(e) * t.number[OPEN] + start // t.number[STEP] % t.number[OPEN]


@inner
def close_until(t: Tables, e: Int, clock: Int) -> Flag:
    """Close all windows of an entity that end at or before `clock`, in order; False where `out` has no room.

    At the end of time only those with calls, and those between.
    """
    r = t.entity[e]
    step = t.number[STEP]
    if r.closed_end == NEVER:
        return True
    while (r.waiting > 0) if clock == FOREVER else (r.closed_end + step <= clock):
        if t.number[EMITTED] + MOST_EMITTED > len(t.out):
            return False
        w = t.window[window_of(t, e, r.closed_end)]
        if w.start == r.closed_end:
            _close(t, e, w)
        elif r.began == 1 and r.empty < _most_empty(r):
            r.empty += 1
            _close_empty(t, e)
        else:
            r.closed_end = _next_start(t, e, clock)
            r.closed = 0
    return True


@inner
def _most_empty(r: Any) -> Int:
    """So many windows without calls are explained by the entity's usual gaps."""
    return min(max(LEAST_EMPTY, 4 * np.int64(r.gap) // 64), MOST_EMPTY)


@inner
def _next_start(t: Tables, e: Int, clock: Int) -> Int:
    """Where to go on after a silence: at the next window with calls, or at the clock."""
    step = t.number[STEP]
    to = clock if clock == FOREVER else clock - clock % step
    for k in range(t.number[OPEN]):
        start = t.window[np.int64(e) * t.number[OPEN] + k].start
        if start != NEVER:
            to = min(to, start)
    return to


@inner
def _close(t: Tables, e: Int, w: Any) -> None:
    """Give the features of a window with calls, learn from it, and free it."""
    r = t.entity[e]
    if r.began == 1:
        gap = 64 * (r.empty + 1)
        r.gap = gap if gap > r.gap else r.gap - ((r.gap - gap) >> 6)
    r.began, r.empty = 1, 0
    at = r.closed % HISTORY
    for c in range(CLASSES):
        r.past[at, c] = w.calls[c]
    r.past[at, _TIMED] = w.timed
    r.closed += 1
    _keep_durations(r, w)
    _give_calls(t, e, w.count)
    if r.kind != EDGE:
        _give_news(t, e, w.new_endpoints, w.new_edges, w.active)
        _give_mix(t, e, w)
    r.waiting -= 1
    w.start = NEVER
    r.closed_end += t.number[STEP]


@inner
def _close_empty(t: Tables, e: Int) -> None:
    """Give the features of a window without calls."""
    r = t.entity[e]
    at = r.closed % HISTORY
    for c in range(CLASSES + 1):
        r.past[at, c] = 0
    r.closed += 1
    _give_calls(t, e, 0)
    if r.kind != EDGE:
        _give_news(t, e, 0, 0, 0)
        _give(t, e, MIX, np.nan)
    if r.kind == SERVICE:
        _give_endpoints(t, e, t.window[0], False)
    r.closed_end += t.number[STEP]


@inner
def _keep_durations(r: Any, w: Any) -> None:
    """Remember the durations of a window: all buckets of a full one, else each by itself."""
    if w.timed >= FULL:
        for i in range(BUCKETS):
            r.full[i] = w.buckets[i]
        return
    if w.timed == 0:
        return
    for i in range(BUCKETS):
        for _ in range(w.buckets[i]):
            r.recent[r.recents % RECENT] = i
            r.recents += 1


@inner
def _give(t: Tables, e: Int, feature: Int, value: float) -> None:
    """Give a feature; one that never had a value is left out while it has none."""
    r = t.entity[e]
    bit = np.uint64(1) << np.uint64(feature)
    is_known = r.known & bit != 0
    if is_known or not np.isnan(value):
        r.known |= bit
        _put(t, e, feature, value, not is_known)


@inner
def _put(t: Tables, e: Int, feature: Int, value: float, is_first: Flag) -> None:
    o = t.out[t.number[EMITTED]]
    o.time, o.value, o.entity, o.feature, o.first = t.entity[e].closed_end, value, e, feature, is_first
    t.number[EMITTED] += 1


@inner
def _give_calls(t: Tables, e: Int, count: Int) -> None:
    """Rate, ratios and quantiles; the last two over the shortest whole number of windows with enough calls.

    For ratios enough are `FULL`, or `JUDGED` of which `FAILED` have failed, more than usual: a few bad calls among many
    are weighed by many, a burst shows at once. One bad call among fewer than `FULL` says nothing.
    """
    r = t.entity[e]
    _give(t, e, RATE, steady_rate(r.rate_past, r.rate_last, r.closed - 1, count) / (t.number[STEP] / 1e9))
    usual = _usual_failures(r)
    calls = np.int64(0)
    errors, unanswered, ok, redirected, client, server = 0, 0, 0, 0, 0, 0
    for k in range(min(t.number[LOOKBACK], r.closed)):
        past = r.past[(r.closed - 1 - k) % HISTORY]
        for c in range(CLASSES):
            calls += past[c]
        unanswered, ok, redirected = unanswered + past[0], ok + past[2], redirected + past[3]
        client, server = client + past[4], server + past[5]
        errors = unanswered + server
        if calls >= FULL:
            break
        if calls >= JUDGED and errors >= FAILED and deviates(float(errors), usual * calls, UNUSUAL):
            break
    judged = calls >= FULL or (calls >= t.number[LEAST] and errors != 1)
    _give(t, e, ERRORS, errors / calls if judged else np.nan)
    if r.kind != ENVIRONMENT:
        _give(t, e, UNANSWERED, unanswered / calls if judged else np.nan)
    if r.kind == SERVICE:
        _give(t, e, OK, ok / calls if judged else np.nan)
        _give(t, e, REDIRECTED, redirected / calls if judged else np.nan)
        _give(t, e, CLIENT, client / calls if judged else np.nan)
        _give(t, e, SERVER, server / calls if judged else np.nan)
    timed = _gather(t, e, JUDGED)
    if r.kind != ENVIRONMENT:
        _give(t, e, P50, quantile_of(t.scratch, timed, 0.5) if timed >= t.number[LEAST] else np.nan)
    _give(t, e, P95, quantile_of(t.scratch, timed, 0.95) if timed >= JUDGED else np.nan)
    if r.kind != ENVIRONMENT:
        if timed < FULL:
            timed = _gather(t, e, FULL)
        _give(t, e, P99, quantile_of(t.scratch, timed, 0.99) if timed >= FULL else np.nan)


@inner
def _usual_failures(r: Any) -> float:
    """The share of calls that usually fail, from windows before the last ones; it learns the window that joins them."""
    past = r.failed_past
    if r.closed > LAST:
        old = r.past[(r.closed - 1 - LAST) % HISTORY]
        calls = 0
        for c in range(CLASSES):
            calls += old[c]
        past[0] = past[0] * KEPT + (old[0] + old[CLASSES - 1])
        past[1] = past[1] * KEPT + calls
    # Half a failure more: of what never failed it is not known that it never will.
    return float((past[0] + 0.5) / (past[1] + FULL))


@inner
def _gather(t: Tables, e: Int, enough: Int) -> Int:
    """Put the durations of the last windows that have `enough` of them into `scratch`; how many there are.

    At most the last of these windows is full, and then it is the one that was kept.
    """
    r = t.entity[e]
    timed, single, full = np.int64(0), np.int64(0), False
    for k in range(min(t.number[LOOKBACK], r.closed)):
        here = np.int64(r.past[(r.closed - 1 - k) % HISTORY, _TIMED])
        timed += here
        if here >= FULL:
            full = True
        else:
            single += here
        if timed >= enough:
            break
    for i in range(BUCKETS):
        t.scratch[i] = r.full[i] if full else 0
    for k in range(single):
        t.scratch[r.recent[(r.recents - 1 - k) % RECENT]] += 1
    return timed


@inner
def _give_news(t: Tables, e: Int, endpoints: Int, edges: Int, active: Int) -> None:
    if t.entity[e].kind == SERVICE:
        _give(t, e, NEW_ENDPOINTS, endpoints)
        _give(t, e, NEW_CALLERS, edges)
    else:
        _give(t, e, ACTIVE, active)
        _give(t, e, NEW_ENDPOINTS, endpoints)
        _give(t, e, NEW_EDGES, edges)


@inner
def _give_mix(t: Tables, e: Int, w: Any) -> None:
    """How far the mix is from the usual one, which then learns it; and the rates of endpoints."""
    r = t.entity[e]
    if r.kind == SERVICE:
        _give_endpoints(t, e, w, True)
    distance = np.nan
    if w.mixed > 0:
        before, usual = 0.0, 0.0
        for k in range(SHARES):
            before += r.mix_now[k]
            usual += r.mix_usual[k]
        wanted = MIX_KEPT - w.mixed
        keep = min(1.0, wanted / before) if wanted > 0.0 and before > 0.0 else 0.0
        now = 0.0
        for k in range(SHARES):
            r.mix_now[k] = r.mix_now[k] * keep + w.mix[k]
            now += r.mix_now[k]
        if now >= MIX_LEAST and usual >= MIX_KNOWN:
            distance = mix_distance(r.mix_now, r.mix_usual)
        for k in range(SHARES):
            r.mix_usual[k] = r.mix_usual[k] * MIX_DECAY + w.mix[k]
    _give(t, e, MIX, distance)


@inner
def _give_endpoints(t: Tables, e: Int, w: Any, has_calls: Flag) -> None:
    """Rates of the endpoints that have a place, and of all others together once there were any."""
    r = t.entity[e]
    s = t.service[r.service]
    others = w.mix[PLACES] if has_calls else 0
    had_others = (r.known >> np.uint64(OTHERS)) & np.uint64(1)
    if others > 0 or had_others:
        _give(t, e, OTHERS, _endpoint_rate(t, r, s, PLACES, others))
    for k in range(PLACES):
        calls = w.mix[k] if has_calls else 0
        if r.closed_end >= s.place_since[k]:
            if s.place_key[k] != 0:
                is_first = r.closed_end == s.place_since[k]
                if is_first:
                    s.rate_past[k, :] = 0.0
                    s.rate_seen[k] = 0
                _put(t, e, ENDPOINTS + s.place_name[k], _endpoint_rate(t, r, s, k, calls), is_first)
            if s.moving[k]:
                s.moving[k] = 0
                r.mix_usual[PLACES] += r.mix_usual[k]
                r.mix_now[PLACES] += r.mix_now[k]
                r.mix_usual[k], r.mix_now[k] = 0.0, 0.0
        elif s.before_key[k] != 0:
            _put(t, e, ENDPOINTS + s.before_name[k], _endpoint_rate(t, r, s, k, calls), False)


@inner
def _endpoint_rate(t: Tables, r: Any, s: Any, place: Int, calls: Int) -> float:
    """Calls a second of a place."""
    seen = min(np.int64(s.rate_seen[place]), r.closed - 1)
    s.rate_seen[place] = seen + 1
    return float(steady_rate(s.rate_past[place], s.rate_last[place], seen, calls) / (t.number[STEP] / 1e9))
