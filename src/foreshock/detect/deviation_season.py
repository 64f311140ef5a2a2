"""The season of `deviation`: the day in slots around an offset that moves, and the hours of the week (compiled)."""

from __future__ import annotations

from typing import Any

import numpy as np

from foreshock.detect.deviation_near import clip, faded, long_scale, memory, narrow, noise_floor
from foreshock.detect.deviation_row import (
    DAY,
    HOUR,
    LONG_CLIP,
    OFFSET_MEMORY,
    OFFSET_ROWS,
    SEASON_CLIP,
    SEASON_MEMORY,
    SECOND,
    SLOT_GAIN,
    SLOT_SECONDS,
    SLOT_VISITS,
    SLOTS,
    WEEK_COMPARED,
    WEEK_EARNS,
    WEEK_GAIN,
    WEEK_HOURS,
)
from foreshock.state.jit import inner

DAY_NANOS, HOUR_NANOS = int(DAY) * SECOND, int(HOUR) * SECOND
COUNTED = 50.0
"""Rows after which a season's error is clipped by what it has been."""


@inner
def slots_of(interval: float) -> int:
    """Slots of a day for a mean interval in seconds: as many as have a row each, `SLOTS` at most."""
    for seconds in (300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0):
        if interval <= seconds / 0.9:
            return int(DAY / seconds)
    return 1


@inner
def open_season(row: Any) -> None:
    """Begin to learn the day of a series whose interval is known, from nothing."""
    row.slots, row.slot, row.hour = slots_of(row.interval), -1, -1
    row.offset, row.offset_weight, row.season_scale, row.season_weight = row.level, 0.0, 0.0, 0.0
    row.slot_sum, row.slot_errors, row.slot_rows = 0.0, 0.0, 0
    row.hour_sum, row.hour_daily, row.hour_weekly, row.hour_rows = 0.0, 0.0, 0.0, 0
    row.daily_error, row.weekly_error, row.hours = 0.0, 0.0, 0
    for j in range(SLOTS):
        row.slot_level[j], row.slot_scale[j], row.slot_visits[j] = 0.0, 0.0, 0
    for j in range(WEEK_HOURS):
        row.week_level[j], row.week_visits[j] = 0.0, 0


@inner
def slot_at(row: Any, now: int) -> tuple[int, float]:
    """The slot of a time of day (UTC), and how far from its middle the time is, in slots: −½ … ½."""
    place = (now % DAY_NANOS) / DAY_NANOS * row.slots
    slot = min(int(place), row.slots - 1)
    return slot, place - slot - 0.5


@inner
def daily(row: Any, now: int) -> float:
    """What the time of day adds to the offset; NaN before the third visit of its slot.

    Where a slot holds several rows, it is joined to its neighbour by a line.
    """
    slot, beside = slot_at(row, now)
    if row.slot_visits[slot] < SLOT_VISITS:
        return np.nan
    level = np.float64(row.slot_level[slot])
    if row.slots == SLOTS and row.interval < 0.75 * SLOT_SECONDS:
        other = (slot + (1 if beside > 0.0 else SLOTS - 1)) % SLOTS
        if row.slot_visits[other] >= SLOT_VISITS:
            level += abs(beside) * (np.float64(row.slot_level[other]) - level)
    return level


@inner
def weekly(row: Any, now: int) -> float:
    """What the hour of the week adds to the day, where it has been seen twice and the week has earned its place."""
    hour = now // HOUR_NANOS % WEEK_HOURS
    if row.week_visits[hour] < SLOT_VISITS or not week_counts(row):
        return 0.0
    return np.float64(row.week_level[hour])


@inner
def week_counts(row: Any) -> bool:
    """Whether the hour of the week has left so little of the day's error that it counts."""
    return bool(row.hours >= WEEK_COMPARED and row.weekly_error < WEEK_EARNS * row.daily_error)


@inner
def season_scale(row: Any, now: int) -> float:
    """The scale of what lies beyond the season: half the slot's own, half that of all, wider while visits are few."""
    slot, _ = slot_at(row, now)
    own = 0.5 * np.float64(row.slot_scale[slot]) + 0.5 * row.season_scale
    return float(max(own * (1.0 + 2.0 / max(row.slot_visits[slot] - 1.0, 1.0)), noise_floor(row)))


@inner
def learn_season(row: Any, x: float, now: int, past: float) -> None:
    """Learn a row: the day's slot, the hour of the week and the offset of both."""
    day = daily(row, now)
    slot, _ = slot_at(row, now)
    known = day == day
    if known:
        week = weekly(row, now)
        rest = x - row.offset - day
        beyond = rest - week
        most = SEASON_CLIP * season_scale(row, now)
        if row.season_weight <= COUNTED:
            most = np.inf
        row.season_weight = faded(row.season_weight, memory(row, SEASON_MEMORY), past)
        error = min(abs(beyond), most)
        row.season_scale += (error - row.season_scale) / row.season_weight
        lack = clip(beyond, most)
        _enter_slot(row, slot)
        row.slot_errors += error
        _learn_hour(row, rest, lack, week, now)
    else:
        lack = clip(x - row.offset, LONG_CLIP * long_scale(row)) - np.float64(row.slot_level[slot])
        _enter_slot(row, slot)
    row.slot_sum += lack
    row.slot_rows += 1
    row.offset_weight = faded(row.offset_weight, memory(row, OFFSET_MEMORY), past)
    row.offset += lack / max(row.offset_weight, OFFSET_ROWS)


@inner
def _enter_slot(row: Any, slot: int) -> None:
    """Close the visit of the slot before, if this is another: its mean goes into the day."""
    if slot == row.slot:
        return
    if row.slot >= 0 and row.slot_rows:
        at, visits = row.slot, int(row.slot_visits[row.slot])
        lack = row.slot_sum / row.slot_rows
        row.slot_level[at] = narrow(np.float64(row.slot_level[at]) + max(SLOT_GAIN, 1.0 / (visits + 1.0)) * lack)
        if visits >= SLOT_VISITS:
            # A visit of few rows has seen little of what its slot may do: n rows count (n + 1)/n times.
            error = row.slot_errors / row.slot_rows * (1.0 + 1.0 / row.slot_rows)
            gain, scale = max(SLOT_GAIN, 1.0 / (visits - 1.0)), np.float64(row.slot_scale[at])
            row.slot_scale[at] = narrow(scale + gain * (error - scale))
        row.slot_visits[at] = min(visits + 1, 255)
    row.slot, row.slot_rows, row.slot_sum, row.slot_errors = slot, 0, 0.0, 0.0


@inner
def _learn_hour(row: Any, rest: float, lack: float, week: float, now: int) -> None:
    """Learn what the hour of the week leaves of the day's error."""
    hour = now // HOUR_NANOS % WEEK_HOURS
    if hour != row.hour:
        if row.hour >= 0 and row.hour_rows:
            _close_hour(row)
        row.hour, row.hour_rows, row.hour_sum, row.hour_daily, row.hour_weekly = hour, 0, 0.0, 0.0, 0.0
    level = np.float64(row.week_level[hour])
    most = np.inf if row.hours < WEEK_COMPARED else SEASON_CLIP * max(row.daily_error, noise_floor(row))
    row.hour_daily += min(abs(rest), most)
    row.hour_weekly += min(abs(rest - level), most)
    row.hour_sum += lack + week - level
    row.hour_rows += 1


@inner
def _close_hour(row: Any) -> None:
    at, visits = row.hour, int(row.week_visits[row.hour])
    lack = row.hour_sum / row.hour_rows
    row.week_level[at] = narrow(np.float64(row.week_level[at]) + max(WEEK_GAIN, 1.0 / (visits + 1.0)) * lack)
    if visits >= SLOT_VISITS:
        row.hours = min(row.hours + 1, WEEK_HOURS)
        row.daily_error += (row.hour_daily / row.hour_rows - row.daily_error) / row.hours
        row.weekly_error += (row.hour_weekly / row.hour_rows - row.weekly_error) / row.hours
    row.week_visits[at] = min(visits + 1, 255)
