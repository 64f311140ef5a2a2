"""The compiled alarm against a slow twin (plain Python, written from the rules), its functions against libm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from foreshock.incident import alarm_kernel as kernel
from foreshock.incident import alarm_prices as prices
from foreshock.incident import arithmetic
from foreshock.state import SlotTable
from foreshock.state import arithmetic as exact
from foreshock.types import Status
from tests.unit.kernels import called

DAY, HOUR = 86_400_000_000_000, 3_600_000_000_000
KEEP, AGAIN = math.log(0.7), math.log(1.4)


@dataclass
class Row:
    """`cells`: (series, value, strength or None, live); by series pauses (`still`) and departures (`apart`)."""

    time: int
    end: int
    status: str
    cells: list[tuple[int, float, float | None, bool]] = field(default_factory=list)
    mv: float | None = None
    mv_over: bool = False
    still: dict[int, float] = field(default_factory=dict)
    apart: dict[int, float] = field(default_factory=dict)

    def strengths(self) -> list[tuple[int, float]]:
        """Of each judged series the largest strength."""
        every = [(s, strength, self.still.get(s), self.apart.get(s)) for s, _, strength, _ in self.cells]
        return [(s, max(x for x in found if x is not None)) for s, *found in every if any(x is not None for x in found)]


def theta0(k: float, rate: float) -> float:
    return max(0.0, 2 * math.log(math.log(rate * k) / math.log(rate)))


def flap_share(states: list[int]) -> float:
    """Over the last 21 states, missing ones counting as within."""
    padded = ([0] * 21 + states)[-21:]
    changes = [a != b for a, b in pairwise(padded)]
    return sum((0.8 + 0.4 * i / 19) * changed for i, changed in enumerate(changes)) / 20


class Twin:
    """One entity; `row` gives (kind, time, …) tuples."""

    def __init__(self, budget: float = 0.2, close_after: int = 5) -> None:
        self.budget, self.close_after = budget, close_after
        self.step: float | None = None
        self.last: int | None = None
        self.wide: int | None = None
        self.day: int | None = None
        self.prices: dict[int, tuple[float, int]] = {}
        self.price: tuple[float, int] | None = None
        self.charged: int | None = None
        self.alarm: int | None = None
        self.peak = 0.0
        self.open: dict[str, Any] | None = None
        self.states: list[int] = []
        self.flapping = self.silent = self.single = False
        self.rows = 0
        self.lead: int | None = None
        self.run: list[float] = []
        self.source = 0
        self.pauses: dict[int, tuple[float, int]] = {}
        self.records: dict[int, tuple[float, int]] = {}
        self.reached: dict[int, tuple[float, int]] = {}

    def decayed(self, price: tuple[float, int], now: int, days: float) -> float:
        return price[0] * 2 ** (-(now - price[1]) / (days * DAY))

    def follow(self, time: int) -> None:
        if self.last is not None and time > self.last:
            d = float(time - self.last)
            self.step = d if self.step is None else self.step + max(min(d - self.step, 0.05 * self.step),
                                                                    -0.05 * self.step)  # fmt: skip
        self.last = time

    def record(self, s: int, now: int) -> float:
        """What a series reached on days past, half of it after 30 days; 0 where it was never over its bar."""
        if s in self.reached and now // DAY > self.reached[s][1]:
            top, day = self.reached.pop(s)
            record, since = self.records.get(s, (0.0, day))
            if top > record * 2 ** (-max(day - since, 0) / 30):
                self.records[s] = top, day
        if s not in self.records:
            return 0.0
        record, day = self.records[s]
        return record * 2 ** (-(now / DAY - day - 1) / 30)

    def note(self, row: Row) -> None:
        for s, _, value, _ in row.cells:
            strength = max([x for x in (value, row.apart.get(s)) if x is not None], default=0.0)
            if strength > 0:
                self.record(s, row.time)
                top, _ = self.reached.get(s, (0.0, 0))
                self.reached[s] = max(top, float(np.float32(min(strength, 4.0)))), row.time // DAY

    def row(self, row: Row) -> list[tuple[Any, ...]]:
        if row.status == "stale":
            if self.silent or self.rows < 10:
                return []
            self.silent = True
            return [("silent", row.time)]
        self.follow(row.time)
        self.rows += row.status != "missing"
        out: list[tuple[Any, ...]] = []
        if row.status != "missing" and self.silent:
            self.silent = False
            out.append(("heard", row.time))
        if row.status == "excluded":
            if self.open:
                out.append(("excluded", row.time, self.open["source"]))
            self.open, self.states, self.flapping = None, [], False
            self.lead, self.run = None, []
        elif row.status == "scored":
            out += self.evaluate(row)
            if not self.single:
                self.note(row)
        return out

    def evaluate(self, row: Row) -> list[tuple[Any, ...]]:
        t = row.time
        judged, valued = row.strengths(), {cell[0]: cell[2] for cell in row.cells}
        if not judged and row.mv is None:
            return []
        out: list[tuple[Any, ...]] = []
        if t // DAY != self.day:
            self.day = t // DAY
            out.append(("present", self.day))
        live = sum(cell[3] for cell in row.cells)
        single = live <= 1 and (self.wide is None or t - self.wide > DAY)
        self.single = single
        if live > 1:
            self.wide = t
        rate = max((DAY / self.step if self.step else 1440) / self.budget, 10)
        theta = 0.0 if single else theta0(len(judged) + 1, rate)
        if not single and self.price is None:
            self.price = (theta0(live + 1, rate), t)
        p_entity = 0.0 if single or self.price is None else min(self.decayed(self.price, t, 2), theta)
        level = self.open["level"] if self.open else theta + p_entity

        def price(s: int, account: dict[int, tuple[float, int]]) -> float:
            return 0.0 if single or s not in account else min(self.decayed(account[s], t, 15), 2 * theta)

        def excess_of(s: int, strength: float, level: float, at_once: bool = True) -> float:
            if single or (self.open and s == self.open["source"]):
                return strength - (self.open["shield"] if self.open else 0.0) - level
            value, departure, pause = valued[s], row.apart.get(s), row.still.get(s)
            whole = row.mv is None or row.mv >= -0.7
            paid, record = price(s, self.prices), self.record(s, t)
            if at_once and record:
                paid += max(record + AGAIN - level, 0.0)
            found = [-math.inf]
            if value is not None:
                found.append(value - paid - 0.7 * (not (whole or (-9.0 if departure is None else departure) >= -0.7)))
            if departure is not None:
                found.append(departure - paid - 0.7 * (value is not None and value < -0.7))
            if pause is not None:
                found.append(pause - price(s, self.pauses))
            return max(found) - level

        passing = [(excess_of(s, strength, level), -i, s, strength) for i, (s, strength) in enumerate(judged)]
        passing = [entry for entry in passing if entry[3] >= level]
        best = max(passing) if passing else None
        if not self.open and not single:
            low = 0.3 * level
            lasting = [(excess_of(s, strength, low, False), -i, s, strength) for i, (s, strength) in enumerate(judged)]
            lasting = [entry for entry in lasting if entry[3] >= low]
            mine = next((entry for entry in lasting if entry[2] == self.lead and entry[0] >= 0), None)
            if mine is None:
                mine, self.run = max(lasting) if lasting else None, []
            if mine is not None and mine[0] >= 0:
                self.lead, self.run = mine[2], [*self.run, mine[0]]
                if len(self.run) >= 4 and not (best and best[0] >= 0):
                    level, best = low, (min(self.run), *mine[1:])
            else:
                self.lead, self.run = None, []
        uni = best is not None and best[0] >= 0
        high = max((value for value in valued.values() if value is not None), default=None)
        alone = not self.open and high is not None and high < 0 and (row.mv or 0.0) < 0.7
        mv_over = row.mv_over and not alone
        over = uni or mv_over
        top = max((strength for _, strength in judged), default=-math.inf)
        mv_level = self.open["mv_level"] if self.open else 0.0
        within = top < min(level, 0.0) + KEEP and (row.mv is None or row.mv < mv_level + KEEP)
        self.states.append(1 if over else 0 if within else (self.states[-1] if self.states else 0))
        share = flap_share(self.states)
        self.flapping = True if share > 0.2 else False if share < 0.05 else self.flapping
        excess = best[0] if best else -math.inf
        if mv_over:
            excess = max(excess, row.mv or 0.0, 0.0)
        if self.open:
            return out + self.go_on(row, over, within, excess, best[3] if uni and best else None)
        quiet = max(6 * HOUR, 10 * (self.step or 0))
        free = self.alarm is None or t - self.alarm > quiet or (best is not None and best[2] != self.source)
        if mv_over or (uni and best and (free or best[3] >= self.peak + KEEP)):
            source = best[2] if uni and best else max(judged, key=lambda pair: pair[1])[0] if judged else -1
            paused = uni and best is not None and row.still.get(source, -math.inf) >= best[3]
            account, step = (self.pauses, 0.3) if paused else (self.prices, 1.0)
            shield = 0.0 if source < 0 else price(source, account)
            self.open = {"level": level, "source": source, "shield": shield, "said": excess, "calm": 0,
                         "mv_level": min(row.mv or 0.0, 0.0) if row.mv_over else 0.0, "values": []}  # fmt: skip
            self.open["values"] = [v for s, v, _, _ in row.cells if s == source]
            self.alarm, self.peak = t, best[3] if uni and best else -50.0
            self.lead, self.run, self.source = None, [], source
            out.append(("opened", t, source, round(excess, 9), not uni))
            if not single and (self.charged is None or t - self.charged >= HOUR):
                self.charged = t
                if uni:
                    account[source] = (min(price(source, account) + step, 2 * theta), t)
                self.price = (min(p_entity + 0.3, theta), t)
        return out

    def go_on(self, row: Row, over: bool, within: bool, excess: float, peak: float | None) -> list[tuple[Any, ...]]:
        assert self.open is not None
        episode = self.open
        episode["values"] += [v for s, v, _, _ in row.cells if s == episode["source"] and not math.isnan(v)]
        episode["calm"] = episode["calm"] + 1 if within else 0
        if over:
            self.alarm = row.time
            if peak is not None:
                self.peak = max(self.peak, peak)
            if excess > episode["said"] + AGAIN:
                episode["said"] = excess
                return [("grew", row.time, episode["source"], round(excess, 9))]
        elif episode["calm"] >= self.close_after and not self.flapping:
            self.open = None
            values = episode["values"] or [math.nan]
            return [("closed", row.time, episode["source"], min(values), max(values))]
        return []


STATUS = {"scored": Status.SCORED, "missing": Status.MISSING, "stale": Status.STALE, "excluded": Status.EXCLUDED}
NAMES = {kernel.OPENED: "opened", kernel.GREW: "grew", kernel.CLOSED: "closed", kernel.EXCLUDED: "excluded",
         kernel.SILENT: "silent", kernel.HEARD: "heard", kernel.PRESENT: "present"}  # fmt: skip


class Tables:
    """Kernel state that lives from one call to the next."""

    def __init__(self, entities: int, series: int) -> None:
        self.entity = SlotTable(kernel.ENTITY, kernel.ENTITY_START)
        self.entity.ensure(entities - 1)
        self.price, self.limit = np.zeros(series, prices.PRICE), np.zeros(series, kernel.LIMIT)

    def call(self, inputs: prices.Inputs, room: int = 16) -> list[Any]:
        tables = prices.Tables(self.entity.rows, self.price, self.limit)
        out, alarmed = np.zeros(room, kernel.EVENT), np.zeros(len(inputs.entity), np.bool_)
        row, events = 0, []
        while row < len(inputs.entity):
            row, count = kernel.judge(inputs, tables, kernel.Rule(0.2, 5), row, out, alarmed)
            events += list(out[:count].copy())
        return events


def inputs_of(rows: list[tuple[int, Row]]) -> prices.Inputs:
    """(entity, row) pairs as columns."""
    cells = [cell for _, row in rows for cell in row.cells]
    valued = np.array([math.nan if cell[2] is None else cell[2] for cell in cells], np.float64)
    still, apart = (
        np.array([found.get(cell[0], math.nan) for row, found in of for cell in row.cells], np.float64)
        for of in ([(row, row.still) for _, row in rows], [(row, row.apart) for _, row in rows])
    )
    return prices.Inputs(
        np.array([entity for entity, _ in rows], np.int32),
        np.array([row.time for _, row in rows], np.int64),
        np.array([STATUS[row.status] for _, row in rows], np.uint8),
        np.cumsum([0] + [len(row.cells) for _, row in rows]).astype(np.int64),
        np.array([cell[0] for cell in cells], np.int32),
        np.array([cell[1] for cell in cells], np.float64),
        np.fmax(np.fmax(valued, apart), still),
        valued,
        apart,
        still,
        np.array([cell[3] for cell in cells], np.bool_),
        np.zeros(0, np.uint8),
        np.array([math.nan if row.mv is None else row.mv for _, row in rows], np.float64),
        np.array([row.mv_over for _, row in rows], np.bool_),
        np.array([math.nan if row.mv is None else row.mv for _, row in rows], np.float64),
        np.array([row.mv_over and (row.mv or 0.0) >= 0.7 for _, row in rows], np.bool_),
    )


def as_twin(inputs: prices.Inputs, events: list[Any]) -> list[tuple[Any, ...]]:
    out: list[tuple[Any, ...]] = []
    for event in events:
        kind, time = NAMES[int(event["kind"])], int(inputs.time[event["row"]])
        source = int(inputs.series[event["cell"]]) if event["cell"] >= 0 else -1
        if kind == "opened":
            out.append((kind, time, source, round(float(event["excess"]), 9), bool(event["by_mv"])))
        elif kind == "grew":
            out.append((kind, time, source, round(float(event["excess"]), 9)))
        elif kind == "closed":
            out.append((kind, time, source, float(event["low"]), float(event["high"])))
        elif kind == "present":
            out.append((kind, time // prices.DAY))
        else:
            out.append((kind, time, source) if kind == "excluded" else (kind, time))
    return out


def history(rng: np.random.Generator, features: int, step: int, first_series: int, mv: bool) -> list[Row]:
    """Rows of one entity: noise, bursts in one feature or all, gaps, silence, maintenance."""
    rows, time, burst, who = [], 1_700_000_000_000_000_000, 0, 0
    for n in range(1500):
        time += step + int(rng.integers(0, step // 10))
        roll = rng.random()
        if roll < 0.01:
            burst, who = int(rng.integers(1, 30)), int(rng.integers(-1, features))
        height = rng.uniform(0.5, 3.0) if burst else 0.0
        burst = max(burst - 1, 0)
        cells = []
        for j in range(features):
            judged = n > 5 + j % 3 and rng.random() > 0.02
            strength = rng.normal(-2.0, 0.7) + (height * 1.5 + 0.5 if height and who in (j, -1) else 0.0)
            live = judged or rng.random() < 0.5
            cells.append((first_series + j, float(rng.normal()), strength if judged else None, live))
        status = "scored"
        if roll > 0.995:
            status = "stale"
        elif roll > 0.985:
            status = "missing"
        elif roll > 0.97:
            status = "excluded"
        strength_mv = float(rng.normal(-1.0, 0.5)) if mv and n > 20 else None
        over = strength_mv is not None and strength_mv > 0.3
        still = {first_series + j: float(rng.normal(-1.0, 1.5)) for j in range(features) if rng.random() < 0.05}
        apart = {first_series + j: float(rng.normal(0.0, 1.5)) for j in range(features) if mv and rng.random() < 0.02}
        rows.append(Row(time, time + step, status, cells, strength_mv, over, still, apart))
    return rows


@pytest.mark.parametrize(("features", "step_seconds", "mv"), [(1, 3600, False), (4, 60, False), (12, 300, True)])
def test_the_kernel_does_what_its_twin_does(features: int, step_seconds: int, mv: bool) -> None:
    rng = np.random.default_rng(features)
    rows = history(rng, features, step_seconds * 1_000_000_000, 0, mv)
    slow = Twin()
    wanted = [event for row in rows for event in slow.row(row)]
    inputs = inputs_of([(0, row) for row in rows])
    got = as_twin(inputs, Tables(1, features).call(inputs))
    assert got == wanted
    kinds = {event[0] for event in wanted}
    assert {"opened", "closed", "grew", "present", "silent", "heard", "excluded"} <= kinds


@pytest.mark.parametrize(("step_seconds", "mv"), [(60, False), (1200, True)])
def test_cut_and_mix_do_not_matter(step_seconds: int, mv: bool) -> None:
    rng = np.random.default_rng(5)
    step = step_seconds * 1_000_000_000
    per_entity = [[(e, row) for row in history(rng, 3, step, 3 * e, mv)[:500]] for e in range(3)]
    whole: dict[int, list[Any]] = {}
    for entity, rows in enumerate(per_entity):
        inputs = inputs_of(rows)
        whole[entity] = as_twin(inputs, Tables(3, 9).call(inputs))
    turn = np.concatenate([np.full(500, e) for e in range(3)])
    rng.shuffle(turn)
    queues = [iter(rows) for rows in per_entity]
    mixed = [next(queues[e]) for e in turn.tolist()]
    tables = Tables(3, 9)
    parts: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    cuts = sorted({0, len(mixed), *rng.integers(1, len(mixed), 60).tolist()})
    for low, high in pairwise(cuts):
        inputs = inputs_of(mixed[low:high])
        for event in tables.call(inputs, room=8):
            parts[int(inputs.entity[event["row"]])] += as_twin(inputs, [event])
    assert parts == whole
    assert sum(map(len, whole.values())) > 30


def test_logarithm_and_halving() -> None:
    ln, halved = called(exact.ln), called(arithmetic.halved)
    x = np.exp(np.random.default_rng(0).uniform(-40, 40, 2000))
    assert max(abs(ln(float(v)) - math.log(v)) for v in x) < 1e-13
    h = np.random.default_rng(1).uniform(0, 60, 2000)
    assert max(abs(halved(3.0, float(v)) / (3.0 * 2.0**-v) - 1) for v in h) < 1e-14
    assert halved(1.0, 1e9) == 0.0


@pytest.mark.parametrize(("k", "rate", "wanted"), [(39, 7200, 0.69), (20, 1440, 0.69), (1, 7200, 0.0)])
def test_theta0_is_as_published(k: float, rate: float, wanted: float) -> None:
    assert arithmetic.theta0(k, rate) == pytest.approx(wanted, abs=0.01)


def test_flap_share_weighs_the_newest_most() -> None:
    share = called(kernel.flap_share)
    alternating = int("01" * 11, 2) & ((1 << 21) - 1)
    assert share(alternating) == pytest.approx(1.0)
    assert share(1) == pytest.approx(1.2 / 20)
    assert share(1 << 20) == pytest.approx(0.8 / 20)
    assert share(0) == 0.0


@pytest.mark.parametrize("k", [0.2, 1.0, 2.9, 3.1, 10.0, 100.0])
def test_the_cap_of_a_level_is_as_published(k: float) -> None:
    wanted = 2 * theta0(k, 7200.0) + AGAIN + 0.35 * math.log(max(k / 3, 1.0))
    assert arithmetic.level_cap(k, 7200.0) == pytest.approx(wanted, abs=1e-9)
