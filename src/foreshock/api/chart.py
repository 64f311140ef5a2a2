"""A series as a chart shows it: its points, thinned where they are many, and what each detector says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from foreshock.api import answers
from foreshock.api.ask import asked, entity_of, needed, number, time_of
from foreshock.api.services import Json, Services, problem, services_of
from foreshock.incident import words
from foreshock.runtime.history import History, Past
from foreshock.runtime.stretch import Stretch
from foreshock.types import Status

STATUS = [status.name.lower() for status in Status]
MOST = 100_000
MOST_PARTS = 20
_SECOND = 1_000_000_000
_DAY = 86_400 * _SECOND
_WIDTHS = [
    *(_SECOND // 1000 * n for n in (10, 20, 50, 100, 200, 500)),
    *(_SECOND * n for n in (1, 2, 5, 10, 15, 20, 30)),
    *(_SECOND * 60 * n for n in (1, 2, 5, 10, 20, 30)),
    *(_SECOND * 3600 * n for n in (1, 2, 3, 4, 6, 8, 12, 24)),
]
"""Lengths of buckets: each is a whole number of those below a minute, of minutes, or of ten minutes."""


def get_chart(request: Request) -> Response:
    """`GET /api/v1/series/points`: one series with its expected band and each detector's opinion."""
    query = asked(request, ("entity", "feature", "since", "until", "most"))
    services = services_of(request)
    needed(query, "entity")
    entity, feature = entity_of(query) or "", needed(query, "feature")
    most = number(query, "most", 2000, 10, MOST)
    since, until = time_of(query, "since"), time_of(query, "until")
    found, oldest = _found(services, entity, feature, since, until, most)
    if found is None:
        return problem(404, "Not Found", f"there is no series {feature} of {entity} in view, nor anything kept of it")
    return Json(chart_of(found, most, oldest))


def _found(
    services: Services, entity: str, feature: str, since: int | None, until: int | None, most: int
) -> tuple[Past | None, int | None]:
    """A series over this time, and when what is known of it begins, where it was asked for.

    Without `since` it is what is in memory, or the last day of what is kept of a series that is not.
    """
    history = History(services.views, services.store)
    # What is to come is empty, as is what lies before all that is known: neither must make the buckets longer.
    latest = max(services.clock.now_unix_nano(), services.views.newest()) + 1
    end = latest if until is None else min(until, latest)
    if since is None:
        recent = history.recent(entity, feature)
        if recent is not None:
            return Past(recent.series, _until(recent.stretch, end), recent.whole), None
        since = end - _DAY
    oldest = history.oldest(entity, feature)
    since = max(since, oldest or 0)
    return history.between(entity, feature, since, max(end, since + 1), most), oldest


def _until(stretch: Stretch, end: int) -> Stretch:
    return stretch.take(slice(int(np.searchsorted(stretch.time_unix_nano, end))))


def chart_of(found: Past, most: int, oldest: int | None = None) -> answers.Chart:
    """The answer, in at most `most` points or buckets."""
    stretch, series = found.stretch, found.series
    width = width_of(stretch, most)
    starts = buckets(stretch.time_unix_nano, width)
    nothing: NDArray[np.float64] = np.full(len(stretch), np.nan)
    return answers.Chart(
        series.entity_text,
        series.feature,
        words.metric(series),
        series.unit,
        str(series.kind),  # type: ignore[arg-type]
        not width and not stretch.seconds.any(),
        width / _SECOND,
        None if oldest is None else oldest / _SECOND,
        _parts(stretch),
        _thinned(stretch, starts, width),
        [
            answers.Opinion(
                name,
                name in found.whole,
                np.exp(greatest(strength, starts)).tolist(),
                least(stretch.p_value.get(name, nothing), starts).tolist(),
            )
            for name, strength in stretch.strength.items()
        ],
    )


def width_of(stretch: Stretch, most: int) -> int:
    """The length of buckets (ns) that bring a stretch down to `most`; 0 where it has no more."""
    if len(stretch) <= most:
        return 0
    time = stretch.time_unix_nano
    # One more than fit between the first and the last may be touched.
    wanted = -(-int(time[-1] - time[0]) // (most - 1))
    kept = int(stretch.seconds.max()) * _SECOND
    fitting = (one for one in _WIDTHS if one >= wanted and (not kept or one % kept == 0))
    return next(fitting, -(-wanted // _DAY) * _DAY)


def buckets(time: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Where each bucket of `width` (aligned to the epoch) begins among sorted times: int64[k]; 0 = each time is one.

    >>> buckets(np.array([3, 4, 11, 25]), 10).tolist(), buckets(np.array([3, 4]), 0).tolist()
    ([0, 2, 3], [0, 1])
    """
    if not width or not len(time):
        return np.arange(len(time), dtype=np.int64)
    number = time // width
    return np.flatnonzero(np.concatenate([[True], number[1:] != number[:-1]])).astype(np.int64)


def mean(values: NDArray[Any], starts: NDArray[np.int64], weights: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """The mean of each bucket over what is known, each value as often as its weight; NaN where nothing is."""
    known = ~np.isnan(values)
    weight = np.where(known, 1.0 if weights is None else weights, 0.0)
    total = np.add.reduceat(np.where(known, values, 0.0) * weight, starts) if len(starts) else np.zeros(0)
    count = np.add.reduceat(weight, starts) if len(starts) else np.zeros(0)
    out: NDArray[np.float64] = np.full(len(starts), np.nan)
    np.divide(total, count, out=out, where=count > 0)
    return out


def greatest(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The greatest of each bucket, NaN where nothing is known."""
    values = values.astype(np.float64)
    found: NDArray[np.float64] = np.fmax.reduceat(values, starts) if len(starts) else values[:0]
    return found


def least(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The least of each bucket, NaN where nothing is known."""
    return -greatest(-values, starts)


def _thinned(stretch: Stretch, starts: NDArray[np.int64], width: int) -> answers.ChartPoints:
    known = ~np.isnan(stretch.value)
    time, status = stretch.time_unix_nano[starts], stretch.status[starts].copy()
    if width:
        time = time - time % width
    # A bucket is scored where one of its points is, else what its first point is.
    scored = (stretch.status == Status.SCORED) & known
    if len(starts):
        status[np.logical_or.reduceat(scored, starts)] = Status.SCORED
        anomalous = np.logical_or.reduceat(stretch.anomalous, starts).tolist()
    else:
        anomalous = []
    weights = stretch.rows.astype(np.float64)
    band = {name: mean(getattr(stretch, name), starts, weights).tolist() for name in ("expected", "low", "high")}
    return answers.ChartPoints(
        (time / 1e9).tolist(),
        mean(stretch.value, starts, weights).tolist(),
        least(stretch.least, starts).tolist(),
        greatest(stretch.most, starts).tolist(),
        **band,
        anomalous=anomalous,
        status=[STATUS[code] for code in status.tolist()],
    )


def _parts(stretch: Stretch) -> list[answers.ChartPart]:
    """Of what it is made, run by run; where there are many, the first ones."""
    changes = np.flatnonzero(np.diff(stretch.seconds, prepend=-1))[:MOST_PARTS]
    return [
        answers.ChartPart(float(stretch.time_unix_nano[at]) / 1e9, float(stretch.seconds[at]))
        for at in changes.tolist()
    ]
