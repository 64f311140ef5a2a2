"""A series as a chart shows it: its points, thinned where they are many, and what each detector says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from foreshock.api import answers
from foreshock.api.ask import asked, entity_of, needed, number, time_of
from foreshock.api.services import Json, problem, services_of
from foreshock.incident import words
from foreshock.runtime.views import SeriesDetail
from foreshock.types import Status

STATUS = [status.name.lower() for status in Status]


def get_chart(request: Request) -> Response:
    """`GET /api/v1/series/points`: one series with its expected band and each detector's opinion."""
    query = asked(request, ("entity", "feature", "since", "until", "most"))
    views = services_of(request).views
    needed(query, "entity")
    entity, feature = entity_of(query) or "", needed(query, "feature")
    since, until = time_of(query, "since"), time_of(query, "until")
    most = number(query, "most", 2000, 10, 20_000)
    found = views.find(entity, feature, views.points)
    if found is None:
        return problem(404, "Not Found", f"there is no series {feature} of {entity} in view")
    return Json(chart_of(found, since, until, most))


def chart_of(found: SeriesDetail, since: int | None, until: int | None, most: int) -> answers.Chart:
    """The points in [since, until) (Unix ns), in at most `most` buckets."""
    points = found.points
    time = points["time_unix_nano"]
    keep = np.ones(len(points), np.bool_)
    if since is not None:
        keep &= time >= since
    if until is not None:
        keep &= time < until
    opinions = [(name, False, one["strength"][keep], one["p_value"][keep]) for name, one in found.opinions.items()]
    for name, rows in found.entity_opinions.items():
        strength, p_value = _at(time[keep], rows)
        opinions.append((name, True, strength, p_value))
    points = points[keep]
    starts = buckets(len(points), most)
    series = found.series
    return answers.Chart(
        series.entity_text,
        series.feature,
        words.metric(series),
        series.unit,
        str(series.kind),  # type: ignore[arg-type]
        len(starts) == len(points),
        _thinned(points, starts),
        [
            answers.Opinion(name, whole, np.exp(greatest(strength, starts)).tolist(), least(p_value, starts).tolist())
            for name, whole, strength, p_value in opinions
        ],
    )


def buckets(n: int, most: int) -> NDArray[np.int64]:
    """Where each of at most `most` buckets of `n` points starts: int64[k].

    >>> buckets(3, 10).tolist(), buckets(10, 3).tolist()
    ([0, 1, 2], [0, 4, 8])
    """
    size = max(1, -(-n // most))
    return np.arange(0, n, size, dtype=np.int64)


def mean(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of each bucket over what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    total = np.add.reduceat(np.where(known, values, 0.0), starts) if len(starts) else np.zeros(0)
    count = np.add.reduceat(known.astype(np.float64), starts) if len(starts) else np.zeros(0)
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


def _thinned(points: NDArray[Any], starts: NDArray[np.int64]) -> answers.ChartPoints:
    known = ~np.isnan(points["value"])
    # A bucket is scored where one of its points is, else what its first point is.
    scored = points["status"] == Status.SCORED
    status = points["status"][starts].copy()
    if len(starts):
        status[np.logical_or.reduceat(scored & known, starts)] = Status.SCORED
        anomalous = np.logical_or.reduceat(points["anomalous"], starts).tolist()
    else:
        anomalous = []
    return answers.ChartPoints(
        (points["time_unix_nano"][starts] / 1e9).tolist(),
        mean(points["value"], starts).tolist(),
        least(points["value"], starts).tolist(),
        greatest(points["value"], starts).tolist(),
        mean(points["expected"], starts).tolist(),
        mean(points["low"], starts).tolist(),
        mean(points["high"], starts).tolist(),
        anomalous,
        [STATUS[code] for code in status.tolist()],
    )


def _at(time: NDArray[np.int64], rows: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What a detector of whole entities says at these times; NaN where it has no row of that time."""
    strength, p_value = np.full(len(time), np.nan, np.float32), np.full(len(time), np.nan, np.float32)
    if len(rows) and len(time):
        place = np.minimum(np.searchsorted(rows["time_unix_nano"], time), len(rows) - 1)
        same = rows["time_unix_nano"][place] == time
        strength[same], p_value[same] = rows["strength"][place[same]], rows["p_value"][place[same]]
    return strength, p_value
