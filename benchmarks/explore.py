"""What a turn of the wheel and a move of the cursor over a long chart cost a browser: `python -m benchmarks.explore`.

CPU time of the page's main thread a step, as Chromium counts it (`Performance.getMetrics`), over a month of a series
with 100,000 points in its last day. The page must be built (`make web`).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from benchmarks.speed.charts import month
from foreshock.adapters.sql import Store
from foreshock.app import App
from foreshock.config import load
from tests.services import binary

STEPS, PAUSE_MS = 60, 30
METRICS = ("ScriptDuration", "TaskDuration")


@contextmanager
def served() -> Iterator[str]:
    """The address of a Foreshock that keeps a month of some series."""
    with tempfile.TemporaryDirectory() as name:
        config = load([], preset="minimal", environ={}, overrides={
            "data_dir": name, "sources": [{"type": "http"}], "http": {"listen": "127.0.0.1:0"},
            "store": {"points": "2d"},
        })  # fmt: skip
        store = Store(config.database_url)
        month(store, int(time.time()))
        store.close()
        app = App(config)
        app.start()
        try:
            assert app.server is not None
            yield f"http://127.0.0.1:{app.server.port}"
        finally:
            app.stop()


def measured(page: Page, step: Callable[[int], None]) -> dict[str, float]:
    """Milliseconds of CPU that each step takes the page."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def now() -> dict[str, float]:
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}

    before = now()
    for k in range(STEPS):
        step(k)
        page.wait_for_timeout(PAUSE_MS)
    after = now()
    return {name: round((after[name] - before[name]) * 1e3 / STEPS, 2) for name in METRICS}


def main() -> int:
    """Measure, and say so."""
    with served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{url}/#/explore?entity=%7Bhost.name%3D%22a1%22%7D&feature=metric_0")
        page.get_by_role("button", name="24 h", exact=True).click()
        page.wait_for_timeout(3000)
        box = page.locator(".cv.band[tabindex='0']").first.bounding_box()
        assert box is not None
        left, top = box["x"], box["y"] + 100
        page.mouse.move(left + 400, top)
        page.wait_for_timeout(500)
        wheel = measured(page, lambda k: page.mouse.wheel(0, -60 if k < STEPS // 2 else 60))
        cursor = measured(page, lambda k: page.mouse.move(left + 100 + 5 * k, top))
        browser.close()
    sys.stdout.write(f"ms of CPU a step: wheel {wheel}, cursor {cursor}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
