"""Other libraries' detectors, run as ours is: what is learnt comes from the past, and one pass gives scores and alarms.

Each learns on the train part (where there is none, on the rows that are not judged) with its own default settings, but
for what its authors ask for (scaled inputs). Of one series it sees the last 32 values. An alarm is a score above the
.999 quantile of its own last 20,000 scores, looked at again every 100 rows: the usual rule, and one that needs no
labels. PyOD's ECOD and COPOD are not among them: they rank a row among the rows that are scored with it, later ones
too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foreshock.bench.layout import Case
from foreshock.bench.measures import Flags, Reals, warm_up_rows

LAGS = 32
LEAST_TRAIN, MOST_TRAIN = 50, 20_000
CLIP = 30.0
ALARM_QUANTILE, ALARM_MEMORY, ALARM_EVERY = 0.999, 20_000, 100
PIECE = 20_000
"""Rows that are scored at a time."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A detector of a library: `score(values float64[n, J], train bool[n]) -> float64[n]`."""

    name: str
    package: str
    install: str
    score: Callable[[Reals, Flags], Reals]

    @property
    def is_there(self) -> bool:
        """Whether its library is installed."""
        return find_spec(self.package) is not None


def run(peer: Peer, case: Case) -> tuple[Reals, Flags, float]:
    """(score float64[n], alarm bool[n], CPU seconds) of a peer on a case."""
    train = ~case.judged
    if train.sum() < LEAST_TRAIN:
        train = np.arange(len(case)) < max(LEAST_TRAIN, warm_up_rows(len(case)))
    started = process_time()
    with warnings.catch_warnings(), _one_thread():
        # What they warn of (a net that might have been trained longer) is theirs.
        warnings.simplefilter("ignore")
        score = np.nan_to_num(np.asarray(peer.score(case.values, train), np.float64))
    alarm = alarms(score, max(int(np.argmax(case.judged)), LEAST_TRAIN))
    return score, alarm, process_time() - started


def _one_thread() -> AbstractContextManager[Any]:
    """One thread for linear algebra, where there is a way to say so: more would only wait for one another."""
    if find_spec("threadpoolctl") is None:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def alarms(score: Reals, first: int) -> Flags:
    """Whether each score from row `first` on is above the quantile of those before its hundred: bool[n]."""
    out = np.zeros(len(score), np.bool_)
    for low in range(first, len(score), ALARM_EVERY):
        level = np.quantile(score[max(0, low - ALARM_MEMORY) : low], ALARM_QUANTILE)
        out[low : low + ALARM_EVERY] = score[low : low + ALARM_EVERY] > level
    return out


def scaled(values: Reals, train: Flags) -> Reals:
    """Values in standard deviations of the train part, within ±30; missing ones are 0."""
    known = np.where(np.isfinite(values), values, np.nan)
    center, spread, most = (np.nan_to_num(of(known[train], axis=0)) for of in (_mean, _std, _largest))
    out: Reals = np.clip(np.nan_to_num((known - center) / np.maximum(spread, 1e-3 * most + 1e-6)), -CLIP, CLIP)
    return out


def _mean(values: Reals, axis: int) -> Reals:
    count = np.isfinite(values).sum(axis)
    out: Reals = np.nansum(values, axis) / np.maximum(count, 1)
    return out


def _std(values: Reals, axis: int) -> Reals:
    out: Reals = np.sqrt(_mean((values - _mean(values, axis)) ** 2, axis))
    return out


def _largest(values: Reals, axis: int) -> Reals:
    out: Reals = np.max(np.abs(np.nan_to_num(values)), axis)
    return out


def table(values: Reals, train: Flags) -> Reals:
    """What a detector of rows sees: the scaled metrics, or of a single one its last 32 values."""
    x = scaled(values, train)
    if x.shape[1] > 1:
        return x
    padded = np.concatenate([np.full(LAGS - 1, x[0, 0]), x[:, 0]])
    return np.lib.stride_tricks.sliding_window_view(padded, LAGS)


def in_pieces(score: Callable[[Reals], Any], rows: Reals) -> Reals:
    """Scores of many rows, some at a time."""
    return np.concatenate([np.asarray(score(rows[at : at + PIECE])) for at in range(0, len(rows), PIECE)])


def half_space_trees(values: Reals, train: Flags) -> Reals:
    """river's HalfSpaceTrees (Tan et al. 2011): score, then learn, from the last rows of the train part on."""
    from river.anomaly import HalfSpaceTrees

    known = np.nan_to_num(values)
    if known.shape[1] == 1:
        level = np.convolve(known[:, 0], np.ones(30) / 30)[: len(known)]
        level[:30] = known[0, 0]
        known = np.column_stack([known[:, 0], np.diff(known[:, 0], prepend=known[0, 0]), known[:, 0] - level])
    low, high = known[train].min(0), known[train].max(0)
    room = np.maximum(high - low, 1e-9)
    unit = np.clip((known - low + 0.2 * room) / (1.4 * room), 0.0, 1.0)
    forest: Any = HalfSpaceTrees(n_trees=25, height=8, window_size=250, seed=0)
    first = int(np.flatnonzero(train)[-5000:][0])
    names = list(range(unit.shape[1]))
    out = np.zeros(len(unit))
    for i, row in enumerate(unit[first:].tolist(), first):
        x = dict(zip(names, row, strict=True))
        out[i] = forest.score_one(x)
        forest.learn_one(x)
    return out


def isolation_forest(values: Reals, train: Flags) -> Reals:
    """scikit-learn's IsolationForest (Liu et al. 2008), fitted once on the train part."""
    from sklearn.ensemble import IsolationForest

    rows = table(values, train)
    forest = IsolationForest(random_state=0).fit(rows[train])
    return -in_pieces(forest.score_samples, rows)


def autoencoder(values: Reals, train: Flags) -> Reals:
    """A small autoencoder: scikit-learn's MLPRegressor, 64-8-64, that tells the train part from itself."""
    from sklearn.neural_network import MLPRegressor

    rows = table(values, train)
    known = np.clip(rows[train][-MOST_TRAIN:], -10.0, 10.0)
    epochs = max(15, 100_000 // len(known))
    net = MLPRegressor(
        hidden_layer_sizes=(64, 8, 64), learning_rate_init=2e-3, batch_size=min(128, len(known)),
        max_iter=min(epochs, 100), random_state=0,
    )  # fmt: skip
    net.tol, net.n_iter_no_change = 0.0, 1000
    net.fit(known, known)
    return in_pieces(lambda part: np.mean((net.predict(part) - part) ** 2, axis=1), rows)


def histograms(values: Reals, train: Flags) -> Reals:
    """PyOD's HBOS (Goldstein & Dengel 2012), fitted once on the train part."""
    from pyod.models.hbos import HBOS

    rows = table(values, train)
    return _of_pyod(HBOS(), rows, train)


def components(values: Reals, train: Flags) -> Reals:
    """PyOD's PCA (Shyu et al. 2003), fitted once on the train part; directions in which nothing moves are left out."""
    from pyod.models.pca import PCA

    rows = table(values, train)
    return _of_pyod(PCA(n_components=0.99, svd_solver="full", random_state=0), rows, train)


def _of_pyod(model: Any, rows: Reals, train: NDArray[np.bool_]) -> Reals:
    model.fit(np.ascontiguousarray(rows[train]))
    return in_pieces(lambda part: model.decision_function(np.ascontiguousarray(part)), rows)


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("river HST", "river", "river", half_space_trees),
        Peer("sklearn IForest", "sklearn", "scikit-learn", isolation_forest),
        Peer("sklearn autoencoder", "sklearn", "scikit-learn", autoencoder),
        Peer("pyod HBOS", "pyod", "pyod", histograms),
        Peer("pyod PCA", "pyod", "pyod", components),
    )
}
