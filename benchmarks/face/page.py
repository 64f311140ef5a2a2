"""The page in a real Chromium: its size, its first view, its work while 5,000 series move, and from verdict to pixel.

Needs the built page (`make web`) and chromium. The first view is taken with nothing cached, from the navigation to the
first frame in which the sentence stands. Scripting is the processor time that the page's scripts take for an update,
while each second brings a row of every series; the verdict is the moment at which a running engine shows an alert to
its views.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

import foreshock
from benchmarks.face.stand import standing
from foreshock.app import App
from foreshock.config import load
from foreshock.types import Alert

IDS = ("page.bundle", "page.first_view", "page.scripting.p95", "page.longest_task", "page.verdict_to_pixel.p95")
VIEWS = 15
SECONDS = 60
GAP = 100_000
"""Microseconds without scripting that part two updates."""
ALERTS = 40
WATCH = """
addEventListener('DOMContentLoaded', () => {
  const shown = () => {
    if (!window.__view && document.querySelector('.say h1:not(.vh)'))
      requestAnimationFrame(() => setTimeout(() => { window.__view ??= performance.now(); }));
    for (const one of document.querySelectorAll('a.alert'))
      if (!(one.hash in window.__seen)) {
        window.__seen[one.hash] = 0;
        requestAnimationFrame(() => setTimeout(() => { window.__seen[one.hash] = Date.now(); }));
      }
  };
  new MutationObserver(shown).observe(document, { childList: true, subtree: true });
});
window.__seen = {};
window.__tasks = [];
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) window.__tasks.push([one.startTime, one.duration]);
}).observe({ type: 'longtask', buffered: true });
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str) -> Iterator[Page]:
    """A page with nothing cached."""
    # What is asked of the page from here is evaluated in it, which its own rules forbid.
    context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
    try:
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(url)
        page.wait_for_function("window.__view")
        yield page
    finally:
        context.close()


def bundle() -> tuple[float, float]:
    """Packed size of all scripts and styles, and of those that the first view waits for (kB)."""
    folder = Path(foreshock.__file__).parent / "web"
    index = (folder / "index.html").read_text()
    sizes = {one.name: len(gzip.compress(one.read_bytes(), 9)) / 1e3 for one in (folder / "assets").glob("*.[jc]*s*")}
    return sum(sizes.values()), sum(size for name, size in sizes.items() if name in index)


def first_views(browser: Browser, url: str) -> tuple[list[float], int]:
    """Milliseconds from navigation to the first view, each time anew, and the requests until then."""
    times, requests = [], 0
    for _ in range(VIEWS):
        with opened(browser, url) as page:
            times.append(float(page.evaluate("window.__view")))
            requests = int(
                page.evaluate(
                    "performance.getEntriesByType('resource').filter(e => e.startTime < window.__view).length"
                )
            )
    return times, requests + 1


def scripting(browser: Browser, url: str) -> tuple[list[float], float, int]:
    """Milliseconds of scripting that each update took (processor time); the longest task, and how many over 50 ms."""
    with opened(browser, url) as page:
        page.wait_for_timeout(5000)  # what the first view brings with it is over
        page.evaluate("window.__tasks.length = 0")
        browser.start_tracing(page=page, categories=["devtools.timeline", "v8.execute", "toplevel"])
        page.wait_for_timeout(SECONDS * 1000)
        events = json.loads(browser.stop_tracing())["traceEvents"]
        tasks = [float(duration) for _, duration in page.evaluate("window.__tasks")]
    return updates(events), max(tasks, default=0.0), len(tasks)


SCRIPT = frozenset({"FunctionCall", "EvaluateScript", "TimerFire", "EventDispatch", "FireAnimationFrame",
                    "RunMicrotasks", "v8.callFunction", "FireIdleCallback"})  # fmt: skip


def updates(events: list[dict[str, Any]]) -> list[float]:
    """Milliseconds of scripting of each update: what runs within 100 ms of what ran before belongs together."""
    own = sorted(
        (one for one in events if one.get("name") in SCRIPT and "tdur" in one), key=lambda one: (one["ts"], -one["dur"])
    )
    threads: dict[Any, float] = {}
    for one in own:
        threads[one["pid"], one["tid"]] = threads.get((one["pid"], one["tid"]), 0.0) + one["tdur"]
    main = max(threads, key=lambda thread: threads[thread])
    out: list[float] = []
    inside = end = -1e9
    for one in own:
        if (one["pid"], one["tid"]) != main or one["ts"] < inside:
            continue  # another thread's, or part of what was counted
        if one["ts"] - end > GAP:
            out.append(0.0)
        out[-1] += one["tdur"] / 1e3
        inside = end = one["ts"] + one["dur"]
    return out


CONFIG: dict[str, Any] = {
    "sources": [{"type": "http", "name": "feed", "lateness": "0s"}],
    "stream": {"step": "1s"},
    "detectors": [{"type": "static_threshold", "above": 100}],
    "alarm": {"silence": False},
    "http": {"listen": "127.0.0.1:0"},
}


def verdict_to_pixel(browser: Browser) -> list[float]:
    """Milliseconds from an engine's verdict to the frame that shows the alert; values pass a limit one by one."""
    with tempfile.TemporaryDirectory() as folder:
        app = App(load([], preset="minimal", environ={}, overrides=CONFIG | {"data_dir": folder}))
        verdicts: dict[str, float] = {}
        app.views.feed_alerts = noting(app.views.feed_alerts, verdicts)  # type: ignore[method-assign, assignment]
        app.start()
        try:
            assert app.server is not None
            url = f"http://127.0.0.1:{app.server.port}"
            ended = threading.Event()
            sender = threading.Thread(target=send, args=(url, ended))
            sender.start()
            try:
                with opened(browser, url) as page:
                    page.wait_for_function(f"Object.keys(window.__seen).length >= {ALERTS}", timeout=240_000)
                    page.wait_for_timeout(500)
                    seen: dict[str, float] = page.evaluate("window.__seen")
            finally:
                ended.set()
                sender.join()
        finally:
            app.stop()
    shown = ((hash_.removeprefix("#/alert/"), at) for hash_, at in seen.items() if at)
    return [at - verdicts[episode] * 1e3 for episode, at in shown if episode in verdicts]


def noting(feed: Callable[[Any], None], verdicts: dict[str, float]) -> Callable[[Any], None]:
    """Note when each alert was first shown to the views (Unix seconds)."""

    def note(alerts: list[Alert]) -> None:
        now = time.time()
        for alert in alerts:
            verdicts.setdefault(alert.episode, now)
        feed(alerts)

    return note


def send(url: str, ended: threading.Event) -> None:
    """A value of 12 hosts each second; one after another is over its limit for three of them."""
    with httpx.Client(base_url=url, trust_env=False) as client:
        second = 0
        while not ended.wait(1.0 - time.time() % 1.0):
            now = int(time.time())
            high = second // 3 % 12 if second > 10 else -1
            rows = [{"time": now, "host": f"h{n}", "load": 500.0 if n == high else 1.0} for n in range(12)]
            client.post("/api/v1/events", json=rows)
            second += 1


def spread(values: list[float]) -> str:
    """Median and greatest, in words."""
    return f"median {np.median(values):.1f}, greatest {max(values):.1f}"


def run() -> list[dict[str, Any]]:
    packed, first = bundle()
    with chromium() as browser:
        with standing("--series", "411") as (url, _):
            views, requests = first_views(browser, url)
        with standing("--series", "5000") as (url, _):
            spent, longest, over = scripting(browser, url)
        pixels = verdict_to_pixel(browser)
    rows = [
        ("page.bundle", packed, "kB", f"gzip, all scripts and styles; the first view waits for {first:.0f}"),
        ("page.first_view", float(np.median(views)), "ms", f"of {VIEWS}; {spread(views)}; {requests} requests"),
        (
            "page.scripting.p95",
            float(np.quantile(spent, 0.95)),
            "ms",
            f"of {len(spent)} updates, 5,000 series; {spread(spent)}",
        ),
        ("page.longest_task", longest, "ms", f"in {SECONDS} s with 5,000 series; {over} over 50 ms"),
        ("page.verdict_to_pixel.p95", float(np.quantile(pixels, 0.95)), "ms", f"of {len(pixels)}; {spread(pixels)}"),
    ]
    return [{"id": name, "value": value, "unit": unit, "note": said} for name, value, unit, said in rows]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
