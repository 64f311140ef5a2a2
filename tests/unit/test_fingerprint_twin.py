"""Fingerprints against a slow, obvious twin, on random calls: disorder, repeats, gaps, watermarks, restarts."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from foreshock.stream.sketch import BOUNDS
from tests.unit.made_calls import T0, Call, Prints, Row, S

NAN = math.nan
ACCURACY = 0.01
MASK = (1 << 64) - 1


def mixed(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def text_hash(text: str) -> int:
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 & MASK
    return mixed(h)


def joined(a: int, b: int) -> int:
    return mixed((a * 0x9E3779B97F4A7C15 + b) & MASK) | 1


def template_key(method: str, endpoint: str) -> int:
    key = 1
    for segment in endpoint.split("/"):
        key = joined(key, text_hash(segment)) if segment else key
    return joined(key, text_hash(method))


class Frequencies:
    """Count-min with conservative update: in each of four rows a cell a key, of which the smallest are raised."""

    def __init__(self) -> None:
        self.cells: Counter[tuple[int, int]] = Counter()

    def add(self, key: int) -> int:
        mine = [(d, key >> 16 * d & 255) for d in range(4)]
        often = min(self.cells[cell] for cell in mine)
        for cell in mine:
            self.cells[cell] = max(self.cells[cell], often + 1)
        return often + 1

    def halve(self) -> None:
        self.cells = Counter({cell: n // 2 for cell, n in self.cells.items()})


def distance(a: list[float], b: list[float]) -> float:
    p, q = [x / sum(a) for x in a], [x / sum(b) for x in b]
    total = sum(x * math.log2(2 * x / (x + y)) for x, y in zip(p, q, strict=True) if x)
    total += sum(y * math.log2(2 * y / (x + y)) for x, y in zip(p, q, strict=True) if y)
    return math.sqrt(max(total / 2, 0.0))


def quantile(seconds: list[float], q: float) -> float:
    exact = sorted(seconds)[math.floor(q * (len(seconds) - 1))]
    bucket = min(int(np.searchsorted(BOUNDS, exact)), len(BOUNDS) - 1)
    return float(BOUNDS[bucket] * (2 / (1 + (1 + ACCURACY) / (1 - ACCURACY)))) if bucket else 1e-6


def ln(x: float) -> float:
    """Natural logarithm as the project has it, by the series of artanh."""
    m, e = math.frexp(x)
    if m < 0.7071067811865476:
        m, e = 2.0 * m, e - 1
    z = (m - 1.0) / (m + 1.0)
    term, total = z, 0.0
    for k in range(1, 27, 2):
        total += term / k
        term *= z * z
    return e * 0.6931471805599453 + 2.0 * total


def deviance(x: int, mu: float) -> float:
    return (x * ln(x / mu) if x else 0.0) - (x - mu)


@dataclass
class Rate:
    """What a series has now: the mean of its last windows if they are not like what was before, else that."""

    last: list[int] = field(default_factory=list)
    events: float = 0.0
    windows: float = 0.0
    scatter: float = 0.0

    def take(self, count: int) -> float:
        if len(self.last) == 12:
            self.learn(self.last.pop(0))
        self.last.append(count)
        if self.windows < 20:
            return count
        spread = max(self.scatter / self.windows, 1.0)
        limit, usual = 18.0 * spread, (self.events + 0.5) / self.windows
        horizons = [k for k in (1, 2, 3, 4, 6, 12) if k <= len(self.last)]
        for i, k in enumerate(horizons):
            x = sum(self.last[-k:])
            if deviance(x, usual * k) > limit * (1.0 + k / self.windows):
                newest = [deviance(sum(self.last[-h:]), max(x / k * h, 0.5)) for h in horizons[:i]]
                if any(one > limit / 3.0 for one in newest):
                    break
                return x / k
        return self.events / self.windows

    def learn(self, count: int) -> None:
        learnt, scatter = float(count), 1.0
        if self.events > 0:
            mean, spread = self.events / self.windows, max(self.scatter / self.windows, 1.0)
            if self.windows >= 20:
                reach = 3.0 * math.sqrt(mean * spread) + 1.0
                learnt = min(max(learnt, mean - reach), mean + reach)
            scatter = (learnt - mean) * (learnt - mean) / mean
            if self.windows >= 20:
                scatter = min(scatter, 4.0 * (spread + 1.0 / mean))
        self.events = self.events * 0.994 + learnt
        self.windows = self.windows * 0.994 + 1.0
        self.scatter = self.scatter * 0.994 + scatter


@dataclass
class Window:
    calls: list[Call] = field(default_factory=list)
    shares: list[int] = field(default_factory=list)
    new_endpoints: int = 0
    new_edges: int = 0
    edges: set[tuple[str, str]] = field(default_factory=set)


@dataclass
class Entity:
    name: str
    kind: str
    newest: int = -1
    lateness: int = 0
    hold: float = -math.inf
    end: int | None = None
    quiet: float = math.inf
    open: dict[int, Window] = field(default_factory=dict)
    past: list[Window] = field(default_factory=list)
    began: bool = False
    empty: int = 0
    gap: int = 0
    usual: list[float] = field(default_factory=lambda: [0.0] * 64)
    now: list[float] = field(default_factory=lambda: [0.0] * 64)
    known: set[str] = field(default_factory=set)
    seen: set[Any] = field(default_factory=set)
    calls: set[Call] = field(default_factory=set)
    places: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    before: dict[int, str] = field(default_factory=dict)
    moving: set[int] = field(default_factory=set)
    rate: Rate = field(default_factory=Rate)
    failed: tuple[float, float] = (0.0, 0.0)
    endpoint_rates: dict[int, Rate] = field(default_factory=lambda: defaultdict(Rate))
    age: int = 0
    often: Frequencies = field(default_factory=Frequencies)
    names: int = 0


class Twin:
    """Fingerprints in plain Python: lists of calls, sorted and counted anew each time."""

    def __init__(self, prints: Prints) -> None:
        self.times, options = prints.times, prints.options
        self.edges, self.environment, self.least = options.edges, options.environment, options.least
        self.step, self.learn = round(options.window * S), round(options.learn * S)
        self.lookback = min(max(round(options.lookback / options.window), 1), 60)
        longest = max(round(one.lateness_seconds * S) for one in prints.times.values())
        self.most_late = -(-longest // self.step) * self.step
        self.entities: dict[str, Entity] = {}
        self.watermark = -math.inf
        self.counts: Counter[str] = Counter()
        self.out: list[Row] = []

    def entity(self, name: str, kind: str) -> Entity:
        return self.entities.setdefault(name, Entity(name, kind))

    def take(self, call: Call, source: str, received: float) -> None:
        skew = self.times[source].max_skew_seconds
        if skew is not None and call.time > T0 + (received + skew) * S:
            self.counts["future"] += 1
            return
        service = self.entity(call.target, "service")
        if service.end is not None and call.time < service.end:
            self.counts["late"] += 1
            return
        if call.nanos and call in service.calls:
            self.counts["duplicate"] += 1
            return
        service.calls.add(call)
        all_ = [service]
        if call.source and self.edges:
            all_.append(self.entity(f"{call.source}→{call.target}", "edge"))
        if self.environment:
            all_.append(self.entity("test", "environment"))
        for e in all_:
            e.lateness = max(e.lateness, min(round(self.times[source].lateness_seconds * S), self.most_late))
            if e.end is None:
                e.end = (call.time - e.lateness) // self.step * self.step
                e.newest, e.quiet = call.time, call.time + self.learn
            e.newest = max(e.newest, call.time)
            self.close(e, e.newest - e.lateness)
        for e in all_:
            self.add(e, call)

    def add(self, e: Entity, call: Call) -> None:
        start = call.time // self.step * self.step
        assert e.end is not None
        if start < e.end:
            self.counts[f"late_{e.kind}"] += 1
            return
        if call.time < self.watermark:
            e.hold = self.watermark + 30 * S
        w = e.open.setdefault(start, Window())
        w.calls.append(call)
        endpoint = f"{call.method} {call.endpoint}".strip()
        if e.kind == "service" and call.endpoint:
            w.new_endpoints += self.is_new(e, call, endpoint)
            place = self.place(e, endpoint, template_key(call.method, call.endpoint), start)
            w.shares.append(place)
        if e.kind == "service" and call.source:
            w.new_edges += self.is_new(e, call, (call.source,))
        if e.kind == "environment":
            if call.endpoint:
                w.new_endpoints += self.is_new(e, call, (call.target, endpoint, ""))
            if call.source:
                w.new_edges += self.is_new(e, call, (call.source, call.target))
                edge = joined(text_hash(call.source), text_hash(call.target))
                w.shares.append((edge >> 1) % 64)
                if self.edges:
                    w.edges.add((call.source, call.target))

    def is_new(self, e: Entity, call: Call, what: Any) -> bool:
        new = what not in e.seen
        e.seen.add(what)
        return new and call.time >= e.quiet

    def place(self, e: Entity, endpoint: str, key: int, start: int) -> int:
        for k, (name, n, since) in e.places.items():
            if name == endpoint:
                e.places[k] = (name, n + 1, since)
                return k if start >= since else 16
        for k, name in e.before.items():
            if name == endpoint and start < e.places[k][2]:
                return k
        age = e.newest // (120 * self.step)
        while 0 < e.age < age:
            e.age += 1
            e.often.halve()
            e.places = {k: (name, n // 2, since) for k, (name, n, since) in e.places.items()}
        e.age = age
        often = e.often.add(key)
        if often < 5 or e.names == 64:
            return 16
        k = len(e.places)
        if k == 16:
            k = min(e.places, key=lambda place: e.places[place][1])
            _, n, since = e.places[k]
            if often <= 2 * n or e.newest - e.lateness < since + self.step:
                return 16
            for at, w in e.open.items():
                if at >= start:
                    w.shares = [16 if share == k else share for share in w.shares]
            e.before[k] = e.places[k][0]
            e.moving.add(k)
        e.places[k] = (endpoint, often, start)
        e.names += 1
        return k

    def on_watermark(self, watermark: float) -> None:
        if watermark < math.inf:
            if watermark <= self.watermark:
                return
            self.watermark = watermark
        for e in self.entities.values():
            if watermark == math.inf or watermark >= e.hold:
                self.close(e, watermark)

    def close(self, e: Entity, clock: float) -> None:
        assert e.end is not None
        while e.open if clock == math.inf else e.end + self.step <= clock:
            limit = min(max(12, e.gap // 16), 720)
            if e.end in e.open:
                w = e.open.pop(e.end)
                if e.began:
                    gap = 64 * (e.empty + 1)
                    e.gap = gap if gap > e.gap else e.gap - ((e.gap - gap) >> 6)
                e.began, e.empty = True, 0
                self.give(e, w)
            elif e.began and e.empty < limit:
                e.empty += 1
                self.give(e, Window())
            else:
                e.past = []
                for rate in (e.rate, *e.endpoint_rates.values()):
                    rate.last = []
                e.end = int(min([clock // self.step * self.step if clock < math.inf else math.inf, *e.open]))

    def put(self, e: Entity, feature: str, value: float) -> None:
        if not math.isnan(value) or feature in e.known:
            e.known.add(feature)
            assert e.end is not None
            self.out.append((e.name, feature, (e.end - T0) / S, value))

    def give(self, e: Entity, w: Window) -> None:
        e.past.append(w)
        self.put(e, "calls.rate", e.rate.take(len(w.calls)) / (self.step / 1e9))
        self.give_ratios(e)
        self.give_quantiles(e)
        if e.kind == "service":
            self.put(e, "calls.new_endpoints", w.new_endpoints)
            self.put(e, "calls.new_callers", w.new_edges)
            self.give_endpoints(e, w)
        if e.kind == "environment":
            self.put(e, "calls.active_edges", len(w.edges))
            self.put(e, "calls.new_endpoints", w.new_endpoints)
            self.put(e, "calls.new_edges", w.new_edges)
        if e.kind != "edge":
            self.give_mix(e, w)
        assert e.end is not None
        e.end += self.step

    def last(self, e: Entity, enough: Callable[[list[Call]], bool]) -> list[Call]:
        """Calls of the shortest whole number of windows that holds enough."""
        out: list[Call] = []
        for w in reversed(e.past[-self.lookback :]):
            out += w.calls
            if enough(out):
                break
        return out

    def give_ratios(self, e: Entity) -> None:
        def failed(calls: list[Call]) -> int:
            return sum(c.status // 100 not in (1, 2, 3, 4) for c in calls)

        if len(e.past) > 12:
            old = e.past[-13].calls
            e.failed = e.failed[0] * 0.994 + failed(old), e.failed[1] * 0.994 + len(old)
        usual = (e.failed[0] + 0.5) / (e.failed[1] + 100)

        def unusual(k: int, n: int) -> bool:
            off = k - usual * n
            return k > 0 and k * math.log(k / (usual * n)) - off > 10.0

        def enough(some: list[Call]) -> bool:
            return len(some) >= 100 or (len(some) >= 20 and failed(some) >= 3 and unusual(failed(some), len(some)))

        calls = self.last(e, enough)
        judged = len(calls) >= 100 or (len(calls) >= self.least and failed(calls) != 1)
        of = Counter(c.status // 100 if c.status // 100 < 6 else 0 for c in calls)
        ratio = {k: of[k] / len(calls) if judged else NAN for k in range(6)}
        self.put(e, "calls.error_ratio", failed(calls) / len(calls) if judged else NAN)
        if e.kind != "environment":
            self.put(e, "calls.no_answer_ratio", ratio[0])
        if e.kind == "service":
            for k in (2, 3, 4, 5):
                self.put(e, f'calls.status_ratio{{class="{k}xx"}}', ratio[k])

    def give_quantiles(self, e: Entity) -> None:
        for name, q, wanted, least in (("p50", 0.5, 20, self.least), ("p95", 0.95, 20, 20), ("p99", 0.99, 100, 100)):
            seconds = timed(self.last(e, holding(wanted)))
            if e.kind != "environment" or name == "p95":
                self.put(e, f"calls.duration.{name}", quantile(seconds, q) if len(seconds) >= least else NAN)

    def give_endpoints(self, e: Entity, w: Window) -> None:
        def rate(k: int) -> float:
            return e.endpoint_rates[k].take(w.shares.count(k)) / (self.step / 1e9)

        name = 'calls.endpoint.rate{endpoint="others"}'
        if 16 in w.shares or name in e.known:
            self.put(e, name, rate(16))
        for k, (name, _, since) in sorted(e.places.items()):
            assert e.end is not None
            if e.end == since:
                e.endpoint_rates.pop(k, None)
            shown = name if e.end >= since else e.before.get(k)
            if shown:
                self.put(e, f'calls.endpoint.rate{{endpoint="{shown}"}}', rate(k))
            if e.end >= since and k in e.moving:
                e.moving.remove(k)
                for mix in (e.usual, e.now):
                    mix[16], mix[k] = mix[16] + mix[k], 0.0

    def give_mix(self, e: Entity, w: Window) -> None:
        value = NAN
        if w.shares:
            mix = [float(w.shares.count(k)) for k in range(64)]
            before, wanted = sum(e.now), 50.0 - len(w.shares)
            keep = min(1.0, wanted / before) if wanted > 0 and before > 0 else 0.0
            e.now = [a * keep + b for a, b in zip(e.now, mix, strict=True)]
            if sum(e.now) >= 20 and sum(e.usual) >= 100:
                value = distance(e.now, e.usual)
            e.usual = [a * 0.995 + b for a, b in zip(e.usual, mix, strict=True)]
        self.put(e, "calls.endpoint_mix.distance" if e.kind == "service" else "calls.edge_mix.distance", value)


def timed(calls: list[Call]) -> list[float]:
    return [c.seconds for c in calls if not math.isnan(c.seconds)]


def holding(least: int) -> Callable[[list[Call]], bool]:
    return lambda calls: len(timed(calls)) >= least


def plain(rows: list[Row]) -> dict[tuple[str, str], list[tuple[float, Any]]]:
    """Rows by series, comparable: NaN as text, distances (which are compared nearly) to nine digits."""
    out: dict[tuple[str, str], list[tuple[float, Any]]] = defaultdict(list)
    for entity, feature, at, value in rows:
        shown: Any = "NaN" if math.isnan(value) else round(value, 9) if feature.endswith("distance") else value
        out[entity, feature].append((at, shown))
    return dict(out)


def stream(rng: np.random.Generator, n: int, *, tidy: bool) -> list[tuple[Call, str, float]]:
    """Calls, their sources and when they were received, in the order of arrival."""
    services = ["payment", "cart", "ads"][: int(rng.integers(1, 4))]
    endpoints = ["", "/a", "/b/c", "/b", "/d/e/f"] + [f"/x{chr(97 + k)}" for k in range(int(rng.choice([1, 24])))]
    weights = rng.dirichlet(np.full(len(endpoints), 0.5))
    rate = float(rng.choice([0.5, 2, 20, 100]))
    at, sent = 0.0, []
    for _ in range(n):
        at += rng.exponential(1 / rate)
        if rng.random() < 0.006:
            at += float(rng.choice([8, 20, 60, 60 if tidy else 300]))
        if rng.random() < 0.02:
            weights = rng.dirichlet(np.full(len(endpoints), 0.05))
        one = Call(
            math.floor(at * 1000) / 1000, str(rng.choice(services)), str(rng.choice(["", "web", "app", "cron"])),
            str(rng.choice(endpoints, p=weights)), int(rng.choice([200, 200, 201, 302, 404, 503, 0, 100, 700])),
            float(rng.choice([rng.lognormal(-3, 1), 0.0, 1e-7, 1e5, NAN], p=[0.9, 0.03, 0.03, 0.02, 0.02])),
            str(rng.choice(["GET", "POST", ""], p=[0.9, 0.06, 0.04])), int(rng.integers(0, 1_000_000)),
        )  # fmt: skip
        delay = rng.random() * (0.5 if tidy else 3)
        sent.append((at + delay, one))
        if not tidy and rng.random() < 0.03:
            sent.append((at + delay + rng.random(), one))
    sent.sort(key=lambda pair: pair[0])
    received = [at if tidy else at + float(rng.choice([0, 0, 0, -70])) for at, _ in sent]
    slow = 0.0 if tidy else float(rng.choice([0, 0, 0.3]))
    source = ["slow" if rng.random() < slow else "s" for _ in sent]
    return [(one, src, got) for (_, one), src, got in zip(sent, source, received, strict=True)]


def setting(seed: int) -> tuple[np.random.Generator, Prints]:
    rng = np.random.default_rng(seed)
    options = {
        "window": float(rng.choice([1, 5, 5, 10])), "edges": bool(rng.random() < 0.8),
        "environment": bool(rng.random() < 0.8), "learn": float(rng.choice([0, 20, 600])),
        "lookback": float(rng.choice([10, 60])), "least": int(rng.choice([1, 5])),
    }  # fmt: skip
    return rng, Prints(float(rng.choice([0, 1, 5])), **options)


def drive(prints: Prints, twin: Twin | None, rng: np.random.Generator) -> None:
    """Random calls, cut at random, with watermarks and restarts between them."""
    waiting: list[Call] = []
    before: tuple[str, float] = ("s", 0.0)
    for one, source, received in stream(rng, 500, tidy=False):
        if (source, received) != before or rng.random() < 0.1:
            prints.take(*waiting, source=before[0], received=before[1])
            waiting = []
        before = (source, received)
        if rng.random() < 0.03:
            prints.take(*waiting, source=source, received=received)
            waiting = []
            mark = one.at + float(rng.choice([-20, -5, 0, 30]))
            prints.tick(mark)
            if twin is not None:
                twin.on_watermark(T0 + round(mark * S))
            if rng.random() < 0.3:
                prints.restart()
        waiting.append(one)
        if twin is not None:
            twin.take(one, source, received)
    prints.take(*waiting, source=before[0], received=before[1])
    prints.finish()
    if twin is not None:
        twin.on_watermark(math.inf)


@pytest.mark.parametrize("seed", range(40))
def test_fingerprints_are_those_of_the_twin(seed: int) -> None:
    rng, prints = setting(seed)
    twin = Twin(prints)
    drive(prints, twin, rng)
    assert plain(prints.out) == plain(twin.out)
    assert prints.operator.counts == twin.counts


def test_the_random_calls_reach_every_case() -> None:
    features: set[str] = set()
    counts: Counter[str] = Counter()
    for seed in range(0, 40, 2):
        rng, prints = setting(seed)
        drive(prints, None, rng)
        features |= {feature.split("{")[0] for _, feature, _, value in prints.out if value > 0}
        counts.update(prints.operator.counts)
    assert features == {
        "calls.rate", "calls.error_ratio", "calls.no_answer_ratio", "calls.status_ratio", "calls.duration.p50",
        "calls.duration.p95", "calls.duration.p99", "calls.new_endpoints", "calls.new_callers", "calls.new_edges",
        "calls.active_edges", "calls.endpoint_mix.distance", "calls.edge_mix.distance", "calls.endpoint.rate",
    }  # fmt: skip
    assert {"late", "future", "duplicate", "late_environment"} <= set(counts)


@pytest.mark.parametrize("lateness", [0.0, 5.0, 12.0])
@pytest.mark.parametrize("ticks", [False, True])
def test_what_becomes_frequent_takes_the_place_of_what_was(lateness: float, ticks: bool) -> None:
    """Many endpoints, each frequent for a while, some calls late: places change hands while windows are open."""
    rng = np.random.default_rng(round(lateness))
    prints = Prints(lateness)
    twin = Twin(prints)
    for k in range(1600):
        phase = k // 50 if rng.random() < 0.8 else int(rng.integers(0, 33))
        one = Call(k / 20 - round(rng.random() * lateness, 3) * 0.9 + 20, endpoint=f"/x{chr(97 + phase)}", nanos=k)
        prints.take(one)
        twin.take(one, "s", 1e6)
        if ticks and k % 20 == 0:
            prints.tick(k / 20 + 20 - lateness)
            twin.on_watermark(T0 + round((k / 20 + 20 - lateness) * S))
    prints.finish()
    twin.on_watermark(math.inf)
    assert plain(prints.out) == plain(twin.out)
    named = {feature for entity, feature, *_ in prints.out if entity == "payment" and "endpoint.rate" in feature}
    assert len(named) > 17
    assert sum(value for _, feature, _, value in prints.out if feature in named) * 5 == pytest.approx(
        1600 - prints.operator.counts.get("late", 0)
    )


@pytest.mark.parametrize("seed", range(20))
def test_cuts_watermarks_and_restarts_do_not_matter(seed: int) -> None:
    """What was given by the end is the same, however calls were cut and however often it was said that time passes."""
    results = []
    for rate in (0.0, 0.02, 0.3):
        rng, prints = setting(1000 + seed)
        sent = stream(rng, 400, tidy=True)
        marks = np.random.default_rng(seed)
        waiting: list[Call] = []
        for i, (one, _, _) in enumerate(sent):
            waiting.append(one)
            if marks.random() < rate:
                prints.take(*waiting, received=1e6)
                waiting = []
                ahead = min((later.at for later, _, _ in sent[i + 1 :]), default=one.at)
                if marks.random() < 0.5:
                    prints.tick(math.floor(ahead) - float(marks.integers(0, 3)))
                if marks.random() < 0.1:
                    prints.restart()
        prints.take(*waiting, received=1e6)
        prints.tick(sent[-1][0].at + 1e5)
        prints.finish()
        results.append((plain(prints.out), prints.operator.counts))
    if not any("late" in reason for _, counts in results for reason in counts):
        assert results[0] == results[1] == results[2]
    assert results[0][0]


def test_most_tidy_calls_have_nothing_late() -> None:
    clean = 0
    for seed in range(20):
        rng, prints = setting(1000 + seed)
        prints.take(*(one for one, _, _ in stream(rng, 400, tidy=True)), received=1e6)
        clean += not any("late" in reason for reason in prints.operator.counts)
    assert clean >= 8


@pytest.mark.parametrize("seed", range(8))
def test_entities_do_not_depend_on_one_another(seed: int) -> None:
    """The calls of each service alone give what they give among all others, in any order between services."""
    rng, prints = setting(2000 + seed)
    prints = Prints(5.0, environment=False, window=prints.options.window)
    sent = [one for one, _, _ in stream(rng, 500, tidy=True)]
    prints.take(*sent)
    prints.finish()
    together = plain(prints.out)
    apart: dict[tuple[str, str], list[tuple[float, Any]]] = {}
    for target in sorted({one.target for one in sent}):
        alone = Prints(5.0, environment=False, window=prints.options.window)
        for one in sent:
            if one.target == target:
                alone.take(one)
        alone.finish()
        apart |= plain(alone.out)
    assert apart == together
