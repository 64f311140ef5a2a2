"""The page as somebody uses it: a real Chromium against a running shop, from the fault to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.services import binary, free_port, wait_until

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
CONFIG = """
preset: demo
sources:
  - shop: {history: 1h, deploys: false, bursts: false}
alarm: {silence: false}
"""
READY_SECONDS = 600.0
"""On a machine that has to compile first."""
NOTICED = 120_000
RESOLVED = 240_000
expect.set_options(timeout=30_000)


@dataclass
class Shop:
    """A Foreshock that watches a shop in which nothing breaks by itself."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = self.folder / "shop.yaml"
        config.write_text(CONFIG)
        command = [sys.executable, "-m", "foreshock", "run", str(config), "--headless"]
        command += ["--data-dir", str(self.folder / "data"), "--listen", f"127.0.0.1:{self.port}"]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        wait_until(self.judges, f"it does not judge: {self.folder / 'log'}", READY_SECONDS)

    def judges(self) -> bool:
        """Whether the past has been brought, and services are judged."""
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            if httpx.get(f"{self.url}/readyz", trust_env=False).status_code != 200:
                return False
            found = httpx.get(f"{self.url}/api/v1/map", trust_env=False, timeout=30)
            sources = httpx.get(f"{self.url}/api/v1/sources", trust_env=False, timeout=30)
        except httpx.TransportError:
            return False
        nodes: list[dict[str, Any]] = found.json().get("nodes", [])
        behind = [one["behind_seconds"] for one in sources.json().get("sources", [])]
        late = not behind or None in behind or max(behind) > 10
        return not late and sum(one["status"] == "scored" for one in nodes if one["entity"]) >= 10

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    if not (ROOT / "src/foreshock/web/index.html").is_file():
        pytest.fail("the page is not built: make web", pytrace=False)
    one = Shop(tmp_path_factory.mktemp("shop"))
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=binary("chromium"), args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield chromium
        chromium.close()


@dataclass
class Seen:
    """What a page did beside what it showed."""

    console: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextmanager
def opened(browser: Browser, shop: Shop, **more: Any) -> Iterator[tuple[Page, Seen]]:
    """A page whose console errors and foreign requests are noted."""
    options: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | more
    context: BrowserContext = browser.new_context(**options)
    page, seen = context.new_page(), Seen()

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            seen.console.append(message.text)

    def asked(request: Request) -> None:
        seen.asked.append(request.url.removeprefix(shop.url))
        if not request.url.startswith((shop.url, shop.url.replace("http", "ws"), "data:", "blob:")):
            seen.elsewhere.append(request.url)

    page.on("console", said)
    page.on("pageerror", lambda error: seen.console.append(str(error)))
    page.on("request", asked)
    page.set_default_timeout(30_000)
    try:
        page.goto(shop.url)
        expect(page.locator(".say h1")).to_be_visible()
        yield page, seen
    finally:
        context.close()


def clean(seen: Seen) -> None:
    assert seen.console == []
    assert seen.elsewhere == []


def test_the_first_view_brings_its_answers_with_it(shop: Shop, browser: Browser) -> None:
    with opened(browser, shop) as (page, seen):
        expect(page.locator(".strip .names a").first).to_be_visible()
        expect(page.locator(".slots, .big-number").first).to_be_visible()
        brought = {"/api/v1/alerts?status=firing&limit=500", "/api/v1/strip", "/api/v1/budget"}
        assert brought.isdisjoint(seen.asked), seen.asked
        page.evaluate("location.hash = '#/detectors'")
        expect(page.locator(".tbl tbody tr").first).to_be_visible()
        clean(seen)


def test_a_silence_is_told_shown_and_ended_early(shop: Shop, browser: Browser) -> None:
    with opened(browser, shop) as (page, seen):
        page.evaluate("location.hash = '#/settings'")
        page.get_by_role("button", name="Silence", exact=True).click()
        page.get_by_label("Of", exact=True).fill("service.name=cart")
        expect(page.get_by_text("now 1 entity of", exact=False)).to_be_visible()
        page.get_by_label("Why").fill("we look at it")
        page.get_by_role("button", name="Start silence now").click()
        held = page.get_by_role("region", name="In force and to come")
        expect(held).to_contain_text("we look at it")
        expect(held.get_by_text("in force")).to_be_visible()
        [one] = _silences(shop)
        assert one["matchers"] == {"service.name": "cart"}
        held.get_by_role("button", name="End the silence of cart").click()
        expect(page.get_by_text("Nothing is silenced", exact=False)).to_be_visible()
        [ended] = _silences(shop)
        assert ended["id"] == one["id"]
        assert one["effective_unix_nano"] == ended["effective_unix_nano"] < ended["until_unix_nano"]
        assert ended["until_unix_nano"] < one["until_unix_nano"]
        clean(seen)


def _silences(shop: Shop) -> list[dict[str, Any]]:
    answer = httpx.get(f"{shop.url}/api/v1/control", params={"kind": "silence"}, trust_env=False)
    found: list[dict[str, Any]] = answer.json()["controls"]
    return found


AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
PAGES = ("now", "alerts", "explore", "detectors", "sources", "settings")


def serious(page: Page) -> list[str]:
    """Serious violations that axe finds on a page."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})")
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def test_a_fault_from_the_page_to_its_end(shop: Shop, browser: Browser) -> None:
    with opened(browser, shop) as (page, seen):
        expect(page.locator(".link b").first).to_have_text("Live")
        page.get_by_role("button", name="Break something").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("radio", name="payment", exact=True).check()
        dialog.get_by_role("radio", name="Errors").check()
        assert serious(page) == []
        dialog.get_by_role("button", name="Break payment").click()
        # It appears by itself: nothing is loaded anew.
        expect(page.locator(".watch")).to_contain_text("Noticed", timeout=NOTICED)
        page.get_by_role("button", name="Close").click()
        heading = page.locator(".say h1")
        expect(heading).to_contain_text("payment", timeout=NOTICED)
        rows = page.locator(".alert").filter(has_text="payment")
        expect(rows.first).to_be_visible()
        page.get_by_role("link", name="Open alert").first.click()
        expect(page.locator(".title h1")).to_contain_text("expected")
        named = httpx.get(f"{shop.url}/api/v1/alerts/{page.url.rpartition('/')[2]}", trust_env=False).json()["labels"]
        expect(page.locator(".title h1")).to_contain_text(named.get("service_name") or named["server"])
        expect(page.locator(".panel header code").first).to_have_text(named["feature"])
        assert serious(page) == []
        expect(page.get_by_text("firing", exact=True)).to_be_visible()
        expect(page.locator(".cv.band canvas").first).to_be_visible()
        expect(page.get_by_role("table").first).to_contain_text("anomalous")
        page.get_by_role("button", name="Real").click()
        expect(page.get_by_role("button", name="Real")).to_have_attribute("aria-pressed", "true")
        expect(page.get_by_text("Noted.", exact=False)).to_be_visible()
        expect(page.locator(".tl")).to_contain_text("Called real")
        page.reload()
        expect(page.get_by_role("button", name="Real")).to_have_attribute("aria-pressed", "true")
        page.set_viewport_size({"width": 360, "height": 760})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert serious(page) == []
        httpx.delete(f"{shop.url}/api/v1/demo/faults", trust_env=False)
        expect(page.get_by_text("resolved", exact=True)).to_be_visible(timeout=RESOLVED)
        clean(seen)


def test_every_page_is_accessible_and_fits_a_phone(shop: Shop, browser: Browser) -> None:
    wrong: list[str] = []
    for width, scheme in ((1280, "light"), (1280, "dark"), (360, "light")):
        with opened(browser, shop, viewport={"width": width, "height": 800}, color_scheme=scheme) as (page, seen):
            for name in PAGES:
                page.evaluate(f"location.hash = '#/{name}'")
                expect(page.locator("main h1, main .say").first).to_be_visible()
                page.wait_for_timeout(600)
                wrong += [f"{name}, {scheme}, {width} px: {one}" for one in serious(page)]
                if page.evaluate("document.documentElement.scrollWidth") > width:
                    wrong.append(f"{name}, {width} px: it scrolls sideways")
            clean(seen)
    assert wrong == []


def test_with_the_keyboard_alone(shop: Shop, browser: Browser) -> None:
    with opened(browser, shop) as (page, seen):
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the page")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        for name in ("Explore", "Detectors", "Sources"):
            page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).first.focus()
            page.keyboard.press("Enter")
            expect(page.locator("main h1").first).to_have_text(name)
        page.evaluate("location.hash = '#/explore'")
        chart = page.locator(".cv.band[tabindex='0']").first
        chart.focus()
        before = page.locator(".read span").first.inner_text()
        page.keyboard.press("PageUp")
        expect(page.locator(".read span").first).not_to_have_text(before)
        page.keyboard.press("+")
        expect(page.get_by_role("button", name="Reset zoom")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Reset zoom")).to_have_count(0)
        page.get_by_role("button", name="Break something").first.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        clean(seen)


def test_explore_reaches_back_and_takes_a_note(shop: Shop, browser: Browser) -> None:
    with opened(browser, shop) as (page, seen):
        page.evaluate("location.hash = '#/explore'")
        chart = page.locator(".cv.band[tabindex='0']").first
        expect(chart.locator("canvas")).to_be_visible()
        for name in ("30 days", "6 h", "1 h"):
            page.get_by_role("button", name=name, exact=True).click()
            expect(page.get_by_role("button", name=name, exact=True)).to_have_attribute("aria-pressed", "true")
        box = chart.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 80)
        page.wait_for_timeout(400)  # a wheel that scrolls the page does not zoom
        page.mouse.wheel(0, -400)
        expect(page.get_by_role("button", name="Reset zoom")).to_be_visible()
        expect(page.locator(".read span").first).not_to_have_text("–")
        page.get_by_role("button", name="Earlier").click()
        page.wait_for_url("**from=**")
        page.get_by_role("button", name="Add a note").click()
        assert serious(page) == []
        page.get_by_role("textbox", name="Why").fill("a new version, by hand")
        page.get_by_role("button", name="Add it").click()
        expect(page.locator("table.cards").filter(has_text="a new version, by hand")).to_be_visible()
        page.reload()
        expect(page.locator("table.cards").filter(has_text="a new version, by hand")).to_be_visible()
        clean(seen)


def test_without_a_websocket_it_lives_on_events(shop: Shop, browser: Browser) -> None:
    context = browser.new_context(reduced_motion="reduce")
    try:
        page = context.new_page()
        page.route_web_socket("**/ws", lambda socket: socket.close())
        page.goto(f"{shop.url}/#/explore")
        expect(page.locator(".link b").first).to_have_text("Live")
        chart = page.locator(".cv.band[tabindex='0']").first
        expect(chart.locator("canvas")).to_be_visible()
        before = page.locator(".read span").first.inner_text()
        expect(page.locator(".read span").first).not_to_have_text(before)
        expect(page.locator("main.off")).to_have_count(0)
    finally:
        context.close()


def test_a_lost_server_is_said_and_nothing_is_missing_after_it(shop: Shop, browser: Browser) -> None:
    with opened(browser, shop) as (page, seen):
        before = {one["foreshock"]["episode"] for one in _alerts(shop)}
        shop.kill()
        expect(page.get_by_role("alert")).to_contain_text("Connection lost", timeout=15_000)
        expect(page.locator("main.off")).to_be_visible()
        expect(page.locator(".link b").first).to_have_text("Not connected")
        shop.start()
        expect(page.locator(".link b").first).to_have_text("Live", timeout=60_000)
        expect(page.locator("main.off")).to_have_count(0)
        assert before <= {one["foreshock"]["episode"] for one in _alerts(shop)}
        page.evaluate("location.hash = '#/alerts'")
        for episode in before:
            expect(page.locator(f".alert[href='#/alert/{episode}']")).to_be_visible()
        seen.console.clear()  # a browser writes refused connections to the console by itself
        clean(seen)


def _alerts(shop: Shop) -> list[dict[str, Any]]:
    answer = httpx.get(f"{shop.url}/api/v1/alerts", params={"limit": 500}, trust_env=False)
    found: list[dict[str, Any]] = answer.json()["alerts"]
    return [one for one in found if one["foreshock"]["kind"] != "watchdog"]
