"""The shop's kernel: a discrete-event simulation of requests that call one another, wait, fail and try again.

A request arrives at a service, waits for a worker (first come, first served), does its own work, makes its calls one
after the other while it holds the worker, and answers. Latency is the time this takes; cascades, retry storms and
exhausted pools are written nowhere.
"""

from __future__ import annotations

from foreshock.shop.dynamics_flow import arrive, call, issue, respond, time_out, worked
from foreshock.shop.dynamics_parts import LINES_A_SECOND, pop
from foreshock.shop.dynamics_second import begin_second, end_second
from foreshock.shop.dynamics_tables import (
    ARRIVE,
    BACKING_OFF,
    CALLS,
    COME,
    EVENTS,
    GAUGES,
    IDLING,
    LOGS,
    NANO,
    NOW,
    OPEN,
    RESPOND,
    RETRY,
    SPANS,
    TIME_OUT,
    WORKED,
    WORKING,
    Flag,
    Int,
    Tables,
)
from foreshock.state.jit import entry, inner

DONE, FULL = range(2)
"""Why `run` stopped: the time is reached; its output has no room, and it is to be called again with some."""


@entry
def run(t: Tables, until: Int) -> Int:
    """Play whole seconds up to `until` (Unix ns); the output is the same however this is cut."""
    number = t.number
    while number[NOW] < until:
        if number[OPEN] == 0:
            # Each service has its lines a second, so that a second's lines have room if this many have.
            lines = number[LOGS] + LINES_A_SECOND * len(t.service)
            if lines > len(t.logs) or number[GAUGES] >= len(t.gauges):
                return FULL
            begin_second(t)
            number[OPEN] = 1
        end = number[NOW] + NANO
        while number[EVENTS] > 0 and t.event[0].time < end:
            if number[CALLS] >= len(t.calls) or number[SPANS] >= len(t.spans):
                return FULL
            _happen(t)
        number[NOW], number[OPEN] = end, 0
        end_second(t)
    return DONE


@inner
def _happen(t: Tables) -> None:
    """Let the earliest event happen, unless its request has moved on since."""
    now, kind, slot, life = pop(t)
    if t.request[slot].life != life:
        return
    if kind == COME:
        issue(t, slot, now)
    elif kind == ARRIVE:
        arrive(t, slot, now)
    elif kind == WORKED:
        if _works(t, slot):
            worked(t, slot, now)
    elif kind == RESPOND:
        respond(t, slot, now)
    elif kind == TIME_OUT:
        if t.request[slot].abandoned == 0:
            time_out(t, slot, now)
    elif kind == RETRY and t.request[slot].state == BACKING_OFF:
        call(t, slot, now)


@inner
def _works(t: Tables, slot: Int) -> Flag:
    state = t.request[slot].state
    return state in (WORKING, IDLING)
