"""The slow, obvious twins of the detectors of trees: river's and scikit-learn's own trees, row by row, one key each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from river.anomaly import HalfSpaceTrees as River
from river.tree.padded import make_padded_tree

from foreshock.detect.half_space_trees import HalfSpaceTreesOptions
from foreshock.detect.histogram import LN2
from foreshock.detect.isolation_forest import IsolationForestOptions
from foreshock.types import Status

NAN = math.nan


class Twin:
    """Rows one by one; a subclass says what a row scores against a memory, and what the memory becomes."""

    expiry_seconds: float

    def __init__(self) -> None:
        self.memories: dict[int, Any] = {}

    def fresh(self, values: list[float]) -> Any:
        raise NotImplementedError

    def judge(self, memory: Any, values: list[float]) -> float:
        """The score, NaN while it is warming up."""
        raise NotImplementedError

    def learn(self, memory: Any, values: list[float], time: int) -> None:
        raise NotImplementedError

    def step(
        self, keys: list[int], times: list[int], values: list[list[float]], learn: list[bool], status: list[int]
    ) -> tuple[list[float], list[int]]:
        out = [self.row(*one) for one in zip(keys, times, values, learn, status, strict=True)]
        return [score for score, _ in out], [given for _, given in out]

    def row(self, key: int, time: int, values: list[float], learn: bool, status: int) -> tuple[float, int]:
        if status != Status.SCORED:
            return NAN, status
        if not any(map(math.isfinite, values)):
            return NAN, int(Status.MISSING)
        memory = self.memories.get(key)
        if memory is None or time - memory.time > round(self.expiry_seconds * 1e9):
            if not learn:
                return NAN, int(Status.WARMING_UP)
            memory = self.memories[key] = self.fresh(values)
            memory.rows, memory.time, memory.width = 0, time, 0
        if learn:
            memory.width = max(memory.width, len(values))
        score = self.judge(memory, values)
        if learn:
            self.learn(memory, values, time)
            memory.rows += 1
            memory.time = max(time, memory.time)
        return score, int(Status.WARMING_UP if math.isnan(score) else Status.SCORED)


class HalfSpaceTreesTwin(Twin):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.options = HalfSpaceTreesOptions(**config)
        self.expiry_seconds = self.options.expiry_seconds

    def forest(self, features: int) -> Any:
        own = self.options
        made: Any = River(own.n_trees, own.height, own.window_size, seed=own.seed)
        grow: Any = make_padded_tree
        made.trees = [
            grow(
                limits=dict.fromkeys(range(features), own.limits), height=own.height, padding=0.15, rng=made.rng,
                r_mass=0, l_mass=0,
            )
            for _ in range(own.n_trees)
        ]  # fmt: skip
        made._tree_nodes = [list(tree.iter_dfs()) for tree in made.trees]
        return made

    def fresh(self, values: list[float]) -> Any:
        return SimpleNamespace(
            learner=self.forest(len(values)), features=len(values), scorer=None, scoring=0, bounds={}
        )

    def seen(self, memory: Any, values: list[float], features: int) -> dict[int, float]:
        there = {j: value for j, value in enumerate(values[:features]) if math.isfinite(value)}
        if self.options.scale == "none":
            return there
        return {j: scaled(held(value), memory.bounds.get(j)) for j, value in there.items()}

    def judge(self, memory: Any, values: list[float]) -> float:
        least = self.options.warm_up_rows or self.options.window_size
        if memory.scorer is None or memory.rows < least:
            return NAN
        return float(memory.scorer.score_one(self.seen(memory, values, memory.scoring)))

    def learn(self, memory: Any, values: list[float], time: int) -> None:
        memory.learner.learn_one(self.seen(memory, values, memory.features))
        self.follow(memory, values, time)
        if memory.learner.counter == 0:
            memory.scorer, memory.scoring = memory.learner, memory.features
            if memory.width != memory.features:
                memory.learner, memory.features = self.forest(memory.width), memory.width

    def follow(self, memory: Any, values: list[float], time: int) -> None:
        seconds = max(time - memory.time, 0) / 1e9 if memory.rows else 0.0
        gain = seconds / (seconds + self.options.range_half_life_seconds / LN2)
        for j, value in enumerate(values):
            if not math.isfinite(value):
                continue
            x = held(value)
            low, high = memory.bounds.get(j, (x, x))
            reach = math.inf if memory.rows < self.options.window_size or low == high else 0.25 * (high - low)
            x = min(max(x, low - reach), high + reach)
            bottom = x if x < low else low + gain * (x - low)
            memory.bounds[j] = (bottom, x if x > high else high - gain * (high - x))


def held(value: float) -> float:
    return min(max(value, -1e100), 1e100)


def scaled(x: float, bounds: tuple[float, float] | None) -> float:
    low, high = bounds or (x, x)
    if low == high:
        return 0.5 if x == low else 2.0 if x > high else -1.0
    return 0.25 + 0.5 * ((x - low) / (high - low))


class IsolationForestTwin(Twin):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.options = IsolationForestOptions(**config)
        self.expiry_seconds = self.options.expiry_seconds

    def fresh(self, values: list[float]) -> Any:
        return SimpleNamespace(sample={}, seen=0, forest=None, fitted=0, levels=[])

    def judge(self, memory: Any, values: list[float]) -> float:
        if memory.forest is None:
            return NAN
        x = [float32(value) for value in values[: len(memory.levels)]]
        x += [NAN] * (len(memory.levels) - len(x))
        trees = [tree.tree_ for tree in memory.forest.estimators_]
        path = sum(path_length(tree, x) for tree in trees) / len(trees)
        there = [j for j in range(len(x)) if not math.isnan(x[j])]
        moved = [j for j in there if memory.levels[j] is not None and x[j] != memory.levels[j]]
        if there and (self.options.count_constants or None not in memory.levels):
            share = len(moved) / len(there)
            path = (1 - share) * path + share
        return float(2.0 ** (-path / average(memory.forest.max_samples)))

    def learn(self, memory: Any, values: list[float], time: int) -> None:
        own = self.options
        place = memory.seen
        if place >= own.window:
            place = splitmix64(memory.rows + own.seed) % (memory.seen + 1)
        if place < own.window:
            memory.sample[place] = [float32(value) for value in values]
        memory.seen += 1
        now = max(time, memory.time) if memory.rows else time
        period = round(own.refit_seconds * 1e9)
        first = memory.forest is None
        if memory.seen >= own.warm_up_rows and (first or (period and now // period > memory.fitted // period)):
            self.fit(memory)
            memory.fitted, memory.seen = now, 0

    def fit(self, memory: Any) -> None:
        from sklearn.ensemble import IsolationForest

        own = self.options
        rows = np.full((min(memory.seen, own.window), memory.width), np.nan, np.float32)
        for i in range(len(rows)):
            rows[i, : len(memory.sample[i])] = memory.sample[i]
        for j in range(memory.width):
            there = rows[~np.isnan(rows[:, j]), j]
            rows[np.isnan(rows[:, j]), j] = np.median(there) if len(there) else 0
        memory.levels = [float(rows[0, j]) if len(set(rows[:, j].tolist())) == 1 else None for j in range(memory.width)]
        forest = IsolationForest(
            n_estimators=own.n_estimators, max_samples=min(own.max_samples, len(rows)), random_state=own.seed
        )
        memory.forest = forest.fit(rows)


def float32(value: float) -> float:
    return float(np.float32(min(max(value, -1e30), 1e30))) if math.isfinite(value) else NAN


def average(n: int) -> float:
    """c(n) of Liu et al. 2008: twice the harmonic number's approximation, less twice the share of the others."""
    return 0.0 if n < 2 else 1.0 if n == 2 else 2 * (math.log(n - 1) + 0.5772156649015329) - 2 * (n - 1) / n


def path_length(tree: Any, x: list[float]) -> float:
    node, depth = 0, 0
    while tree.children_left[node] >= 0:
        left, right = tree.children_left[node], tree.children_right[node]
        value = x[tree.feature[node]]
        if math.isnan(value):
            node = left if tree.n_node_samples[left] > tree.n_node_samples[right] else right
        else:
            node = left if value <= tree.threshold[node] else right
        depth += 1
    return depth + average(int(tree.n_node_samples[node]))


def splitmix64(number: int) -> int:
    mask = (1 << 64) - 1
    z = number * 0x9E3779B97F4A7C15 & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)
