"""The API behind the page: charts, the strip, the map, detectors, labels, the shop, the document, the headers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter

from foreshock.adapters.sql import Store
from foreshock.api import answers
from foreshock.api.auth import Role, Token
from foreshock.api.chart import buckets, greatest, least, mean, width_of
from foreshock.api.desk import Desk
from foreshock.api.first import FIRST
from foreshock.api.inside import Inside
from foreshock.api.limits import Limiter
from foreshock.api.routes import ROUTES
from foreshock.api.services import Health, Services
from foreshock.config import load
from foreshock.detect.speed import Speeds
from foreshock.errors import RetryableError
from foreshock.ports import DetectorInfo
from foreshock.runtime.figures import DetectorFigures, Figures
from foreshock.runtime.keeper import Keeper
from foreshock.runtime.rollups import Rollups
from foreshock.runtime.stretch import empty as no_stretch
from foreshock.runtime.ticker import Ticker
from foreshock.runtime.views import Views
from foreshock.shop.faults import Fault, Truth
from foreshock.shop.source import ShopSource
from foreshock.state import Registry
from foreshock.testing.check_store import sample_alert
from foreshock.types import Control, ControlKind, Series, labels
from tests.unit.api.rig import NOW, Client, FixedClock, Runtime
from tests.unit.test_rings import rows_of, verdict_of

ROOT = Path(__file__).parents[2]
PAYMENT = labels({"service.name": "payment"})
FOUND = (DetectorFigures("deviation", "deviation", "deviation", "primary", "univariate", 7, 1, 4, 2, 0.5),)
SPEEDS = {"deviation": Speeds(0.001, 0.004, 5e5)}
CALLS = labels({"client": "checkout", "server": "payment"})


class StandInShop(ShopSource):
    """A shop that notes what is done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: list[Fault] = []
        self.time = NOW

    def truth(self) -> tuple[Truth, ...]:
        return tuple(
            Truth(one.kind, one.service, "errors", one.magnitude, NOW, NOW + 60 * 10**9, ()) for one in self.broken
        )

    def inject(self, fault: Fault) -> Truth:
        self.broken.append(fault)
        return self.truth()[-1]

    @property
    def now_unix_nano(self) -> int:
        return self.time

    def heal(self) -> int:
        count = len(self.broken)
        self.broken.clear()
        return count


def views_of() -> Views:
    """A service and calls to it, of the last two minutes."""
    registry = Registry()
    for entity in (PAYMENT, CALLS):
        for name, unit in (("calls.rate", "1/s"), ("calls.error_ratio", "1"), ("calls.duration.p95", "s")):
            registry.intern(Series(name, entity, unit=unit))
    views = Views(20, 720)
    for k in range(24):
        at = NOW - (23 - k) * 5 * 10**9
        rows = rows_of(registry, [at, at], [0, 1])
        strength = [float("nan") if k < 4 else -1.0] * 6
        if k > 20:
            strength[1] = 2.0
        alarmed = np.array([k > 20, False])
        verdicts = [verdict_of("deviation", strength), verdict_of("linear", [0.5, -0.5], whole=True)]
        views.feed(rows, verdicts, registry, alarmed)
    views.sources.feed("shop", NOW, 600, NOW - 2 * 10**9)
    return views


@pytest.fixture
def shop() -> StandInShop:
    return StandInShop()


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def services(tmp_path: Path, runtime: Runtime, shop: StandInShop) -> Iterator[Services]:
    yield from services_of(tmp_path, runtime, shop)


def services_of(tmp_path: Path, runtime: Runtime, shop: StandInShop) -> Iterator[Services]:
    """Everything that the page asks for, of a service, calls to it, and a shop that can be broken."""
    store = Store(f"sqlite:///{tmp_path}/s.db")
    views, clock = views_of(), FixedClock()
    config = load([], preset="demo", environ={}, overrides={"http": {"tokens": [{"token": "hush", "role": "admin"}]}})
    info = {
        "deviation": DetectorInfo("deviation", 1, "univariate", 24, 100, 3.0),
        "linear": DetectorInfo("linear", 2, "multivariate", 60, 200, 3.0),
    }
    ticker = Ticker({"shop": 0}, 5 * 10**9)
    ticker.saw("shop", NOW, NOW)
    registry = CollectorRegistry()
    dropped = Counter("foreshock_source_dropped", "As the process counts it.", ["source", "reason"], registry=registry)
    for source, reason, count in (("shop", "late", 3), ("http", "late", 1), ("shop", "future", 9)):
        dropped.labels(source, reason).inc(count)

    def control(asked: Control) -> Control:
        runtime.controls.append(asked)
        position = len(runtime.controls)
        store.commit("c", position - 1, position, [], None, [asked])
        return asked

    yield Services(
        version="1.2.3", clock=clock, decode=runtime.decode, submit=runtime.submit, control=control, views=views,
        store=store, status=lambda: {"position": 7}, health=Health, reserve=runtime.reserve,
        inside=Inside(config, views, registry, lambda: info,
                      lambda: Figures(6, {"environment": 0.5}, {"late": 3}, FOUND, SPEEDS), ticker, [], {}),
        desk=Desk(shop, clock, dict, dict), page=tmp_path / "web", requests_per_second=1000.0,
    )  # fmt: skip
    store.close()


@pytest.fixture
def client(services: Services) -> Client:
    return Client(services)


def alert_of(services: Services, **more: Any) -> Any:
    alert = sample_alert(
        "x", NOW - 10**10, labels=labels({"alertname": "ForeshockAnomaly", "severity": "warning",
                                          "feature": "calls.error_ratio", "service_name": "payment"}),
        annotations=(("detector", "deviation"), ("summary", "Payment fails")), notified=True, **more,
    )  # fmt: skip
    services.store.commit("t", 0, 1, [alert], None, [])
    return alert


def test_a_chart_has_points_bands_and_the_opinions_of_all_detectors(client: Client) -> None:
    chart = client.get("/api/v1/series/points?entity=service.name=payment&feature=calls.error_ratio")
    assert (chart["title"], chart["unit"], chart["raw"]) == ("calls error ratio", "1", True)
    assert len(chart["points"]["value"]) == 24
    one, whole = chart["detectors"]
    assert (one["detector"], one["whole"], whole["detector"], whole["whole"]) == ("deviation", False, "linear", True)
    assert one["ratio"][:4] == [None] * 4
    assert one["ratio"][-1] == pytest.approx(np.exp(2.0))
    assert whole["ratio"][-1] == pytest.approx(np.exp(0.5))
    assert chart["points"]["anomalous"][-3:] == [True] * 3
    assert (chart["bucket_seconds"], chart["parts"]) == (
        0.0,
        [{"from_unix_seconds": NOW / 1e9 - 115, "kept_seconds": 0}],
    )
    thin = client.get("/api/v1/series/points?entity=service.name=payment&feature=calls.error_ratio&most=10")
    assert (thin["raw"], thin["bucket_seconds"]) == (False, 15.0)
    times = thin["points"]["time_unix_seconds"]
    assert times == [NOW // 10**9 // 15 * 15 - 15 * k for k in range(8, -1, -1)], (
        "aligned, so that moving shows the same"
    )
    assert len(thin["points"]["value"]) == 9 <= 10
    assert thin["detectors"][0]["ratio"][-1] == pytest.approx(np.exp(2.0)), "a bucket shows its worst"
    since = (NOW - 20 * 10**9) / 1e9
    late = client.get(f"/api/v1/series/points?entity=service.name=payment&feature=calls.rate&since={since:.0f}")
    assert len(late["points"]["value"]) == 5
    assert client("GET", "/api/v1/series/points?entity=service.name=x&feature=calls.rate").status_code == 404
    assert client("GET", "/api/v1/series/points?entity=service.name=payment").status_code == 400


def test_buckets_know_what_is_not_known() -> None:
    nan = float("nan")
    times = np.arange(6, dtype=np.int64)
    values, starts = np.array([1.0, nan, 3.0, nan, nan, nan]), buckets(times, 3)
    assert starts.tolist() == [0, 3]
    np.testing.assert_equal(mean(values, starts).tolist(), [2.0, nan])
    np.testing.assert_equal(mean(values, starts, np.array([3, 9, 1, 1, 1, 1])).tolist(), [1.5, nan])
    np.testing.assert_equal(greatest(values, starts).tolist(), [3.0, nan])
    np.testing.assert_equal(least(values, starts).tolist(), [1.0, nan])
    for empty in (mean, greatest, least):
        assert empty(values[:0], buckets(times[:0], 5)).tolist() == []


@pytest.mark.parametrize(
    ("n", "step", "most"),
    [(10, 1.0, 10), (11, 1.0, 10), (100_000, 1.0, 2000), (4320, 600.0, 2000), (5000, 0.013, 999), (400, 86_400.0, 10),
     (1000, 0.0, 10)],
)  # fmt: skip
def test_no_answer_has_more_than_was_asked_for(n: int, step: float, most: int) -> None:
    time = (NOW + np.arange(n) * round(step * 1e9)).astype(np.int64)
    stretch = replace(no_stretch(), time_unix_nano=time, seconds=np.full(n, 600 if step == 600.0 else 0, np.int32))
    width = width_of(stretch, most)
    assert (width == 0) == (n <= most)
    assert len(buckets(time, width)) <= most
    assert width % (600 * 10**9) == 0 or step != 600.0, "no bucket is cut in two"


def test_a_month_of_a_series_in_buckets(client: Client, services: Services) -> None:
    """What is no longer in memory comes from the store, and what is there from memory."""
    views, store = services.views, services.store
    rollups = Rollups(("deviation", "linear"))
    old, keeper = Views(20, 50, rollups=rollups), Keeper(Views(1, 1, rollups=rollups), store.stretches)
    registry = Registry()
    registry.intern(Series("calls.rate", PAYMENT, unit="1/s"))
    minutes = 30 * 1440
    for k in range(0, minutes, 1440):
        at = [NOW - (minutes - k - j) * 60 * 10**9 for j in range(1440)]
        rows = rows_of(registry, at, [0] * 1440)
        verdicts = [verdict_of("deviation", [-1.0] * 1440), verdict_of("linear", [0.5] * 1440, whole=True)]
        old.feed(rows, verdicts, registry)
        keeper.put(keeper.full(registry))
    query = "/api/v1/series/points?entity=service.name=payment&feature=calls.rate"
    month = client.get(f"{query}&since={NOW / 1e9 - 31 * 86400:.0f}")
    assert (month["raw"], month["bucket_seconds"], month["unit"]) == (False, 1800.0, "1/s")
    assert 1000 < len(month["points"]["value"]) <= 2000
    assert {one["kept_seconds"] for one in month["parts"]} == {600}
    assert month["oldest_unix_seconds"] == pytest.approx(NOW / 1e9 - 30 * 86400, abs=600)
    by_name = {one["detector"]: one for one in month["detectors"]}
    assert (by_name["deviation"]["whole"], by_name["linear"]["whole"]) == (False, True)
    assert by_name["linear"]["ratio"][3] == pytest.approx(np.exp(0.5), rel=1e-3)
    # Two hours that end now: minutes of the past, and the last two minutes point by point.
    hours = client.get(f"{query}&since={NOW / 1e9 - 7200:.0f}&most=5000")
    assert client.get(f"{query}&since={NOW / 1e9 - 7200:.0f}&until=8000000000&most=5000") == hours, "nothing is to come"
    kept = [one["kept_seconds"] for one in hours["parts"]]
    assert kept[-1] == 0
    assert 60 in kept
    assert views.find('{service.name="payment"}', "calls.rate", 50) is not None
    gone = client.get(f"{query}&since={NOW / 1e9 - 86400 * 40:.0f}&until={NOW / 1e9 - 86400 * 39:.0f}")
    assert gone["points"]["value"] == []
    for bad in ("most=100001", "most=9", "since=yesterday"):
        assert client("GET", f"{query}&{bad}").status_code == 400


def test_the_strip_and_the_map(client: Client) -> None:
    strip = client.get("/api/v1/strip?minutes=10")
    payment, calls = strip["rows"]
    assert payment["entity"] == '{service.name="payment"}'
    assert len(payment["ratio"]) == len(payment["minutes"]) == 10
    assert payment["ratio"][-1] == pytest.approx(np.exp(2.0))
    assert (payment["alarmed"], calls["alarmed"]) == ([9], [])
    assert payment["minutes"][:5] == [None] * 5
    found = client.get("/api/v1/map")
    assert {(one["name"], one["outside"]) for one in found["nodes"]} == {("payment", False), ("checkout", True)}
    [edge] = found["edges"]
    assert (edge["client"], edge["server"], edge["rate"]) == ("checkout", "payment", 3.0)


def test_detectors_sources_budget_and_settings(client: Client, services: Services) -> None:
    alert = alert_of(services)
    client("POST", f"/api/v1/alerts/{alert.episode}/label", json={"label": "true"})
    one, two = client.get("/api/v1/detectors")["detectors"]
    assert (one["name"], one["model"], one["judging"], one["of"]) == ("deviation", "deviation", 6, 6)
    assert (one["achieved_ratio"], one["achieved_per_day"]) == (0.5, 0.5 * one["budget_per_day"])
    assert (one["episodes"], one["open"], one["true_positives"], one["false_positives"]) == (7, 1, 4, 2)
    assert one["warm_up_seconds"] == 120.0
    assert (one["latency_p50_seconds"], one["latency_p99_seconds"], one["rows_per_second"]) == (0.001, 0.004, 5e5)
    assert (two["latency_p99_seconds"], two["rows_per_second"]) == (None, None), "it has made no step yet"
    assert (two["kind"], two["judging"], two["of"], two["achieved_per_day"]) == ("multivariate", 2, 2, None)
    found = client.get("/api/v1/sources")
    shop = next(one for one in found["sources"] if one["name"] == "shop")
    assert (shop["state"], shop["samples"], shop["pace"][-1]) == ("live", 600, 600)
    assert [one["state"] for one in found["sources"] if one["name"] == "host"] == ["waiting"]
    assert (shop["delay_p50_seconds"], shop["delay_p99_seconds"]) == (2.0, 2.0)
    assert shop["dropped"] == [{"reason": "future", "count": 9}, {"reason": "late", "count": 3}]
    future, late = found["dropped"]
    assert (future["reason"], future["count"], future["sources"]) == ("future", 9, [{"source": "shop", "count": 9}])
    assert late == {
        "reason": "late", "count": 4, "says": "they came later than the lateness of their source allows",
        "sources": [{"source": "shop", "count": 3}, {"source": "http", "count": 1}],
    }  # fmt: skip
    budget = client.get("/api/v1/budget")
    assert (budget["notified_today"], budget["environment_per_day"], len(budget["days"])) == (1, 200.0, 30)
    assert budget["days"][-1]["true_alerts"] == 1
    settings = {one["key"]: one for one in client.get("/api/v1/config")["settings"]}
    assert settings["budget.environment"]["value"] == "200.0"
    assert settings["budget.environment"]["origin"] == "preset demo"
    assert settings["budget.entity"]["origin"] == "default"
    assert settings["stream.step"]["value"].endswith("s"), "a duration has a unit"
    unsaid = [key for key, one in settings.items() if not one["says"]]
    assert unsaid == [], "every setting says what it means"
    assert "hush" not in client("GET", "/api/v1/config").text
    assert settings["http.tokens.0.token"]["value"] == "'***'"


def test_a_label_is_kept_shown_and_taken_back(client: Client, services: Services, runtime: Runtime) -> None:
    alert = alert_of(services)
    path = f"/api/v1/alerts/{alert.episode}"
    seen = client.get(path)["foreshock"]
    assert (seen["entity"], seen["feature"]) == ('{service.name="payment"}', "calls.error_ratio")
    assert "label" not in seen
    answer = client("POST", path + "/label", json={"label": "false", "comment": "no"})
    assert answer.status_code == 202
    assert [one["kind"] for one in answer.json()["controls"]] == ["label"]
    assert client.get(path)["foreshock"]["label"] == "false"
    [listed] = client.get("/api/v1/alerts")["alerts"]
    assert listed["foreshock"]["label"] == "false"
    services.clock.now += 1  # type: ignore[attr-defined]
    client("POST", path + "/label", json={"label": "none"})
    assert "label" not in client.get(path)["foreshock"]
    services.clock.now += 1  # type: ignore[attr-defined]
    client("POST", path + "/label", json={"label": "expected"})
    made = runtime.controls[-1]
    assert (made.kind, made.matchers) == (ControlKind.EXPECTED, {"service.name": "payment"})
    listed = client.get("/api/v1/control?kind=label&limit=2")["controls"]
    assert [one["label"] for one in listed] == ["expected", "none"], "the latest first"
    for body, status in (({"label": "maybe"}, 400), ({}, 400), ({"label": "true", "x": 1}, 400)):
        assert client("POST", path + "/label", json=body).status_code == status
    assert client("POST", "/api/v1/alerts/none/label", json={"label": "true"}).status_code == 404
    assert client("POST", path + "/label", content=b"{}").status_code == 415


def test_a_label_sent_twice_is_one(client: Client, services: Services, runtime: Runtime) -> None:
    path = f"/api/v1/alerts/{alert_of(services).episode}/label"
    for _ in range(2):
        client("POST", path, json={"label": "true"}, headers={"Idempotency-Key": "k"})
        services.clock.now += 5  # type: ignore[attr-defined]
    assert len(runtime.controls) == 1, "it was told once, and answered twice"
    assert len(services.store.controls(kind="label")) == 1


def test_what_is_broken_twice_with_one_key_is_broken_once(client: Client, shop: StandInShop) -> None:
    body = {"kind": "error_spike", "service": "payment"}
    keys = {"Idempotency-Key": "k"}
    first, again = (client("POST", "/api/v1/demo/faults", json=body, headers=keys) for _ in range(2))
    assert (first.status_code, again.status_code, first.json()) == (201, 201, again.json())
    assert first.headers["content-type"] == again.headers["content-type"]
    assert len(shop.broken) == 1
    client("POST", "/api/v1/demo/faults", json=body, headers={"Idempotency-Key": "l"})
    client("POST", "/api/v1/demo/faults", json={**body, "magnitude": "small"}, headers=keys)
    assert len(shop.broken) == 3, "another key, and another request under the same key"


def test_what_could_not_be_done_is_answered_in_full_and_tried_again(client: Client, shop: StandInShop) -> None:
    body, keys = {"kind": "error_spike", "service": "payment"}, {"Idempotency-Key": "k"}
    shop.time -= 60 * 10**9
    refused = client("POST", "/api/v1/demo/faults", json=body, headers=keys)
    shop.time = NOW
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert client("POST", "/api/v1/demo/faults", json=body, headers=keys).status_code == 201


def test_alerts_are_searched_and_filtered_by_kind(client: Client, services: Services) -> None:
    alert = alert_of(services)
    for query, found in (("text=pAYMENT", 1), ("text=fails", 1), ("text=100%25", 0), ("kind=silence", 0),
                         ("kind=anomaly&text=deviation", 1)):  # fmt: skip
        listed = client.get(f"/api/v1/alerts?{query}")["alerts"]
        assert [one["foreshock"]["episode"] for one in listed] == [alert.episode] * found, query
    assert client("GET", "/api/v1/alerts?kind=odd").status_code == 400


def test_things_are_broken_and_healed_where_there_is_a_shop(client: Client, shop: StandInShop) -> None:
    found = client.get("/api/v1/demo/faults")
    assert {"error_spike", "crash"} <= {one["kind"] for one in found["kinds"]}
    assert "payment" in found["services"]
    pool = next(one for one in found["kinds"] if one["kind"] == "pool_exhaustion")
    assert "checkout" not in pool["services"]
    assert found["faults"] == []
    body = {"kind": "error_spike", "service": "payment", "magnitude": "small"}
    answer = client("POST", "/api/v1/demo/faults", json=body)
    assert answer.status_code == 201
    assert shop.broken == [Fault("error_spike", "payment", "small")]
    [fault] = client.get("/api/v1/demo/faults")["faults"]
    assert (fault["running"], fault["noticed"]) == (True, False)
    for bad in ({"kind": "earthquake", "service": "payment"}, {"kind": "crash"}, {**body, "duration_seconds": 1e9}):
        answer = client("POST", "/api/v1/demo/faults", json=bad)
        assert (answer.status_code, answer.json()["reason"]) == (400, "bad_fault")
    assert client("DELETE", "/api/v1/demo/faults").json() == {"ended": 1}
    shop.time = NOW - 60 * 10**9
    late = client("POST", "/api/v1/demo/faults", json=body)
    assert (late.status_code, shop.broken) == (503, []), "it would be over before anybody saw it"


def test_a_real_shop_refuses_what_cannot_be(services: Services) -> None:
    desk = Desk(ShopSource(), FixedClock(), dict, dict)
    with pytest.raises(RetryableError, match="not open yet"):
        desk.break_(answers.FaultRequest("crash", "payment"))
    assert desk.faults().faults == []
    assert desk.heal().ended == 0


def test_without_a_shop_there_is_nothing_to_break(services: Services) -> None:
    client = Client(replace(services, desk=None, inside=None))
    for method in ("GET", "POST", "DELETE"):
        assert client(method, "/api/v1/demo/faults").status_code == 404
    assert client.get("/api/v1/detectors") == {"detectors": []}
    assert client.get("/api/v1/sources") == {"sources": [], "dropped": []}
    assert client.get("/api/v1/config") == {"settings": []}
    assert len(client.get("/api/v1/budget")["days"]) == 30


# The document


def test_the_document_is_the_one_that_the_page_was_made_from(client: Client) -> None:
    kept = json.loads((ROOT / "web/openapi.json").read_text())
    served = client.get("/openapi.json")
    served["info"]["version"] = kept["info"]["version"]
    assert served == kept, "run scripts/openapi.py, then `npm run types` in web/"


def test_the_document_says_everything_that_is_served(client: Client) -> None:
    document = client.get("/openapi.json")
    assert document["openapi"] == "3.1.0"
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}
    names = [one["operationId"] for item in document["paths"].values() for one in item.values()]
    assert len(names) == len(set(names))
    text = json.dumps(document)
    for name in {one.split('"')[0] for one in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]


def test_answers_are_of_the_types_that_the_document_says(client: Client, services: Services) -> None:
    alert = alert_of(services)
    client("POST", f"/api/v1/alerts/{alert.episode}/label", json={"label": "true"})
    checked = 0
    for route in ROUTES:
        if route.method != "GET" or route.answer is str:
            continue
        path = route.path.replace("{episode}", alert.episode)
        if path.endswith("/points"):
            path += "?entity=service.name=payment&feature=calls.rate"
        answer = client("GET", path)
        assert answer.status_code == 200, path
        assert isinstance(msgspec.convert(answer.json(), route.answer, strict=True), route.answer), path
        checked += 1
    assert checked > 15


# The door


def test_every_answer_keeps_the_page_to_itself(client: Client) -> None:
    for method, path in (("GET", "/"), ("GET", "/health"), ("GET", "/nothing"), ("POST", "/api/v1/control")):
        headers = client(method, path).headers
        assert "default-src 'self'" in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    refused = client("GET", "/", headers={"Host": "evil.example"})
    assert (refused.status_code, refused.headers["x-frame-options"]) == (403, "DENY")


def test_the_page_is_served_from_its_folder_and_nothing_else(client: Client, tmp_path: Path) -> None:
    assert "make web" in client("GET", "/").text
    folder = tmp_path / "web"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>built</h1>")
    (folder / "assets/a-1.js").write_text("1")
    (tmp_path / "secret.txt").write_text("secret")
    assert client("GET", "/").text == "<h1>built</h1>"
    asset = client("GET", "/assets/a-1.js")
    assert asset.headers["content-type"].startswith("text/javascript")
    assert "immutable" in asset.headers["cache-control"]
    for name in ("../../secret.txt", "%2e%2e/%2e%2e/secret.txt", "..%2f..%2fsecret.txt", "none.js"):
        answer = client("GET", f"/assets/{name}")
        assert answer.status_code == 404
        assert "secret" not in answer.text.replace("secret.txt", "")


def _first(page: str) -> dict[str, Any]:
    text = page.split('<script type="application/json" id="first">')[1].split("</script>", maxsplit=1)[0]
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_page_brings_its_first_answers(client: Client, services: Services, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/index.html").write_text('<body><div id="app"></div></body>')
    alert = alert_of(services, strength=1.5)
    page = client("GET", "/")
    assert page.headers["cache-control"] == "no-cache"
    assert page.text.endswith('</script><div id="app"></div></body>')
    found = _first(page.text)
    assert set(found) == {*FIRST, "/ws"}
    for asked in FIRST:
        assert found[asked] == client.get(asked), asked
    assert found[FIRST[0]]["alerts"][0]["foreshock"]["episode"] == alert.episode
    assert found["/ws"]["topic"] == "entities"
    assert {one[0] for one in found["/ws"]["entities"]} == {
        '{service.name="payment"}', '{client="checkout",server="payment"}',
    }  # fmt: skip


def test_first_answers_cannot_leave_their_element_and_long_ones_stay_out(
    client: Client, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/index.html").write_text('<div id="app"></div>')
    evil = sample_alert("x", NOW, annotations=(("summary", "</script><script>alert(1)</script><!--"),))
    services.store.commit("t", 0, 1, [evil], None, [])
    page = client("GET", "/").text
    assert page.count("<script") == page.count("</script>") == 1
    assert "<!--" not in page
    assert _first(page)[FIRST[0]]["alerts"][0]["annotations"]["summary"].startswith("</script>")
    monkeypatch.setattr("foreshock.api.first.MOST_BYTES", 2000)
    assert "/api/v1/strip" not in _first(client("GET", "/").text)


def test_where_one_has_to_say_who_asks_the_page_knows_nothing(services: Services, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/index.html").write_text('<div id="app"></div>')
    client = Client(replace(services, tokens=(Token.of("a", Role.ADMIN, "s"),)))
    for headers in ({}, {"Authorization": "Bearer s"}):
        assert client("GET", "/", headers=headers).text == '<div id="app"></div>'


def test_scripts_are_sent_packed_to_who_can_unpack_them(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "web/assets"
    folder.mkdir(parents=True)
    text = "let a = 1;" * 1000
    (folder / "a-1.js").write_text(text)
    packed = client("GET", "/assets/a-1.js", headers={"Accept-Encoding": "gzip, br"})
    assert (packed.headers["content-encoding"], packed.headers["vary"], packed.text) == (
        "gzip",
        "Accept-Encoding",
        text,
    )
    assert int(packed.headers["content-length"]) < 200
    plain = client("GET", "/assets/a-1.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert (plain.headers["vary"], plain.text) == ("Accept-Encoding", text)
    for answer in (packed, plain):
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"].startswith("text/javascript")


def test_what_a_caller_has_already_is_not_sent_again(client: Client) -> None:
    first = client("GET", "/api/v1/map")
    again = client("GET", "/api/v1/map", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client("GET", "/api/v1/strip", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


def test_who_asks_too_often_is_told_to_wait(services: Services) -> None:
    client = Client(replace(services, requests_per_second=1.0))
    answers_ = [client("GET", "/api/v1/map").status_code for _ in range(6)]
    assert answers_.count(429) >= 1
    assert answers_[:4] == [200] * 4
    late = client("GET", "/api/v1/map")
    assert late.headers["retry-after"] == "1"
    assert client("GET", "/api/v1/strip").status_code == 200, "each route counts by itself"
    assert [client("GET", "/health").status_code for _ in range(9)] == [200] * 9


def test_the_limiter_gives_back_with_time_and_forgets_the_oldest() -> None:
    now = 0.0
    limiter = Limiter(rate=2.0, burst=3, most_keys=2, clock=lambda: now)
    assert [limiter.wait("a") for _ in range(4)] == [0, 0, 0, 1]
    now = 1.0
    assert [limiter.wait("a") for _ in range(3)] == [0, 0, 1]
    for key in ("b", "c"):
        limiter.wait(key)
    assert [limiter.wait("a") for _ in range(3)] == [0, 0, 0], "it was forgotten"
