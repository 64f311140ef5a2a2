"""Takes the pictures of the page in docs/img, and with `--all` every page in every state into a folder, to look at.

Of each page there is also a sheet: quiet, firing and disconnected, on a desktop and a phone, light and dark.

It runs a Foreshock that watches the simulated shop, breaks a service, and drives Debian's Chromium; it takes some
minutes. What a healthy server does not do (old data, an answer that fails, none at all) is put between it and the page.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, WebSocketRoute, sync_playwright

ROOT = Path(__file__).parents[1]
CONFIG = """
preset: demo
sources:
  - shop: {history: 3h, deploys: true, bursts: false, tour: false}
alarm: {silence: false}
budget: {environment: 4}
"""
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 360, "height": 760}
VIEWS = tuple((size, scheme) for size in (DESKTOP, PHONE) for scheme in ("light", "dark"))
GAP = 24
STATES = ("quiet", "firing", "lost")
PAYMENT = "#/explore?entity=%7Bservice.name%3D%22payment%22%7D&feature=calls.error_ratio"
PAGES = {name: f"#/{name}" for name in ("now", "alerts", "detectors", "sources", "settings")} | {"explore": PAYMENT}
SMALLER = 0.6
"""How large the pictures of a sheet are."""
STRONG, MOST_STRONG = 40, 96
"""From how far apart its red, green and blue are a colour is none of the greys, and how many of those are kept."""
WAIT = 60_000


class Foreshock:
    """A process that watches the shop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{one.getsockname()[1]}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, config: str = CONFIG) -> None:
        """Start it, or start it again on what it knows."""
        (self._folder / "foreshock.yaml").write_text(config)
        command = [sys.executable, "-m", "foreshock", "run", "foreshock.yaml", "--headless", "--data-dir", "data",
                   "--listen", self.url.removeprefix("http://")]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)

    def get(self, path: str) -> Any:
        """An answer."""
        return httpx.get(self.url + path, trust_env=False, timeout=30).json()

    def until(self, holds: Callable[[], Any], seconds: float = 600.0) -> Any:
        """What holds, once it does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if found := holds():
                    return found
            except (httpx.HTTPError, ValueError):
                pass
            time.sleep(0.5)
        raise SystemExit(f"it did not come about; see {self._folder}/log")

    def judges(self) -> bool:
        """Whether the past has been brought, and services are judged."""
        nodes = self.get("/api/v1/map")["nodes"]
        behind = [one["behind_seconds"] for one in self.get("/api/v1/sources")["sources"]]
        if None in behind or max(behind) > 10 or sum(one["status"] == "scored" for one in nodes) < 10:
            return False
        rows = self.get("/api/v1/strip?minutes=10")["rows"]
        return all(row["minutes"][-2] is not None for row in rows)

    def end(self) -> None:
        """Kill it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Camera:
    """Opens pages and takes their pictures."""

    def __init__(self, browser: Browser, url: str, folder: Path) -> None:
        self._browser, self._url, self._folder = browser, url, folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def page(self, size: dict[str, int] = DESKTOP, scheme: str = "light") -> Iterator[Page]:
        """A page of its own."""
        context = self._browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        try:
            yield context.new_page()
        finally:
            context.close()

    def open(self, page: Page, hash_: str = "#/now", ready: str = "main h1, .say h1", wait: int = 2500) -> None:
        """Go there, and wait until it stands still."""
        page.goto(self._url + "/" + hash_)
        page.wait_for_selector(ready, timeout=WAIT)
        page.wait_for_timeout(wait)

    def take(self, page: Page, name: str, whole: bool = False) -> None:
        """Take a picture of what is in sight, or of the whole page."""
        path = self._folder / f"{name}.png"
        page.screenshot(path=path, full_page=whole)
        kept(Image.open(path).convert("RGB"), path)
        sys.stdout.write(f"{name}\n")

    def join(self, names: list[str], name: str) -> None:
        """Pictures side by side as one, in their place."""
        paths = [self._folder / f"{one}.png" for one in names]
        images = [Image.open(path) for path in paths]
        width = sum(one.width for one in images) + GAP * (len(images) - 1)
        whole = Image.new("RGB", (width, max(one.height for one in images)), (128, 128, 128))
        left = 0
        for image in images:
            whole.paste(image, (left, 0))
            left += image.width + GAP
        kept(whole, self._folder / f"{name}.png")
        for path in paths:
            path.unlink()

    def everywhere(self, state: str, pages: dict[str, str]) -> None:
        """Pages in one state, in each size and colour, for the sheets."""
        for n, (size, scheme) in enumerate(VIEWS):
            with self.page(size, scheme) as page:
                for name, hash_ in pages.items():
                    self.open(page, hash_, wait=1300)
                    self.take(page, f"{name}-{state}-{n}")


def kept(image: Image.Image, path: Path) -> None:
    """Save a picture in few bytes: with its most common colours, greys, and the colours that stand for something."""
    found = sorted(image.getcolors(image.width * image.height) or [], reverse=True)
    colours = [colour for _, colour in found]
    strong = [one for one in colours if max(one) - min(one) > STRONG]
    greys = [(one, one, one) for one in range(0, 256, 6)]
    chosen = list(dict.fromkeys([*colours[: 256 - MOST_STRONG - len(greys)], *greys, *strong[:MOST_STRONG]]))
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for one in chosen for part in one])
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def sheet(folder: Path, page: str, path: Path) -> None:
    """All pictures of a page as one: a row for each state, a column for each view."""
    rows = []
    for state in STATES:
        images = [Image.open(folder / f"{page}-{state}-{n}.png").convert("RGB") for n in range(len(VIEWS))]
        tall = round(DESKTOP["height"] * SMALLER)
        rows.append(
            [one.resize((round(one.width * tall / one.height), tall), Image.Resampling.LANCZOS) for one in images]
        )
    width = sum(one.width for one in rows[0]) + GAP * (len(VIEWS) - 1)
    whole = Image.new("RGB", (width, (tall + GAP) * len(rows) - GAP), (128, 128, 128))
    for n, row in enumerate(rows):
        left = 0
        for image in row:
            whole.paste(image, (left, n * (tall + GAP)))
            left += image.width + GAP
    kept(whole, path)


WITHOUT_FIRST_ANSWERS = """
new MutationObserver(() => document.getElementById('first')?.remove())
  .observe(document, { childList: true, subtree: true });
"""


def aged(page: Page, seconds: float) -> None:
    """Everything that is told of the process says that the last data are so old."""

    def change(text: str) -> str:
        message = json.loads(text)
        if "standing" in message:
            message["standing"]["silent_seconds"] = seconds
        return json.dumps(message)

    def between(socket_: WebSocketRoute) -> None:
        server = socket_.connect_to_server()
        server.on_message(lambda text: socket_.send(change(str(text))))

    page.add_init_script(WITHOUT_FIRST_ANSWERS)
    page.route_web_socket("**/ws", between)


def refused(page: Page, pattern: str) -> None:
    """What asks for this is told that something broke."""
    problem = {"type": "about:blank", "title": "Not now", "status": 500, "detail": "The store did not answer in time."}
    page.add_init_script(WITHOUT_FIRST_ANSWERS)
    page.route(pattern, lambda route: route.fulfill(status=500, json=problem, content_type="application/problem+json"))


def unanswered(page: Page) -> None:
    """Nothing that the page asks for is answered."""
    page.add_init_script(WITHOUT_FIRST_ANSWERS)
    page.route("**/api/**", lambda route: None)
    page.route_web_socket("**/ws", lambda socket_: None)


def quiet(camera: Camera, every: bool) -> None:
    """Nothing is wrong."""
    with camera.page() as page:
        camera.open(page)
        camera.take(page, "page-quiet")
    if not every:
        return
    for scheme in ("light", "dark"):
        for size, device in ((DESKTOP, "desktop"), (PHONE, "phone")):
            for name, spoil in (
                ("stale", lambda one: aged(one, 380.0)),
                ("error", lambda one: refused(one, "**/api/v1/alerts?status=firing*")),
                ("loading", unanswered),
            ):
                with camera.page(size, scheme) as page:
                    spoil(page)
                    camera.open(page, ready="h1, .sk")
                    camera.take(page, f"{name}-{device}-{scheme}")


def firing(camera: Camera, episode: str, every: bool) -> None:
    """A service fails."""
    with camera.page() as page:
        camera.open(page)
        camera.take(page, "page-now")
        camera.open(page, f"#/alert/{episode}", ".cv.band canvas")
        camera.take(page, "page-alert")
        camera.open(page, "#/detectors", ".tbl tbody tr")
        camera.take(page, "page-detectors")
        for name in ("alerts", "sources", "settings"):
            camera.open(page, f"#/{name}")
            camera.take(page, f"page-{name}")
    with camera.page(scheme="dark") as page:
        camera.open(page, PAYMENT, ".cv.band canvas")
        camera.take(page, "page-explore")
        camera.open(page)
        camera.take(page, "page-dark")
    for scheme in ("light", "dark") if every else ("light",):
        with camera.page(PHONE, scheme) as page:
            for name, hash_ in (("now", "#/now"), ("alert", f"#/alert/{episode}"), ("detectors", "#/detectors")):
                camera.open(page, hash_)
                camera.take(page, f"phone-{name}-{scheme}")
        camera.join(
            [f"phone-{name}-{scheme}" for name in ("now", "alert", "detectors")],
            f"page-phone{'' if scheme == 'light' else '-dark'}",
        )
    if every:
        with camera.page() as page:
            camera.open(page)
            page.get_by_role("button", name="Break something").first.click()
            page.wait_for_timeout(1500)
            camera.take(page, "break")


def lost(camera: Camera, foreshock: Foreshock, pages: dict[str, str]) -> None:
    """Pages that have been looked at, once the server is gone."""
    with ExitStack() as stack:
        opened = [stack.enter_context(camera.page(size, scheme)) for size, scheme in VIEWS]
        for page in opened:
            for hash_ in pages.values():
                camera.open(page, hash_, wait=1300)
        foreshock.end()
        for n, page in enumerate(opened):
            page.wait_for_selector("main.off", timeout=WAIT)
            for name, hash_ in pages.items():
                page.evaluate(f"location.hash = {hash_!r}")
                page.wait_for_timeout(1200)
                camera.take(page, f"{name}-lost-{n}")


def empty(camera: Camera, folder: Path) -> None:
    """Nothing sends anything yet, and then too little to judge."""
    fresh = Foreshock(folder)
    fresh.start("preset: minimal\nsources: [{type: http, name: feed}]\n")
    fresh.until(lambda: fresh.get("/health"))
    other = Camera(camera._browser, fresh.url, camera._folder)
    for scheme, size, name in (("light", DESKTOP, "empty"), ("dark", PHONE, "empty-phone-dark")):
        with other.page(size, scheme) as page:
            other.open(page)
            other.take(page, name)
    rows = [{"time": time.time() - 60 + n, "host": f"web-{k}", "load": n + k} for n in range(12) for k in range(3)]
    httpx.post(fresh.url + "/api/v1/events", json=rows, trust_env=False)
    for scheme, size, name in (("light", DESKTOP, "learning"), ("dark", PHONE, "learning-phone-dark")):
        with other.page(size, scheme) as page:
            other.open(page)
            other.take(page, name)
    fresh.end()


def main() -> int:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="every page in every state, into this folder")
    asked = parser.parse_args()
    folder = asked.all or ROOT / "docs/img"
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        foreshock = Foreshock(Path(name))
        foreshock.start()
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
            camera = Camera(browser, foreshock.url, folder)
            foreshock.until(foreshock.judges)
            quiet(camera, bool(asked.all))
            folder_of_parts = asked.all or Path(name) / "parts"
            parts = Camera(browser, foreshock.url, folder_of_parts)
            parts.everywhere("quiet", PAGES)
            fault = {"kind": "error_spike", "service": "payment", "magnitude": "large", "duration_seconds": 1800}
            httpx.post(foreshock.url + "/api/v1/demo/faults", json=fault, trust_env=False).raise_for_status()
            found = foreshock.until(lambda: noticed(foreshock), 120.0)
            time.sleep(20)
            firing(camera, found, bool(asked.all))
            every = PAGES | {"alert": f"#/alert/{found}"}
            parts.everywhere("firing", every)
            lost(parts, foreshock, every)
            shutil.copy(folder_of_parts / "now-lost-0.png", folder / "page-lost.png")
            foreshock.start()
            foreshock.until(lambda: ended(foreshock, found))
            parts.everywhere("quiet", {"alert": every["alert"]})
            for page in every:
                sheet(folder_of_parts, page, folder / f"sheet-{page}.png")
            if asked.all:
                (Path(name) / "empty").mkdir()
                empty(camera, Path(name) / "empty")
            browser.close()
        finally:
            foreshock.end()
    return 0


def noticed(foreshock: Foreshock) -> str:
    """The episode about payment, once it is noticed."""
    faults = foreshock.get("/api/v1/demo/faults")["faults"]
    if not faults or not faults[0]["noticed"]:
        return ""
    alerts = foreshock.get("/api/v1/alerts?status=firing")["alerts"]
    own = [one for one in alerts if one["labels"].get("service_name") == "payment"]
    return str(own[0]["foreshock"]["episode"]) if own else ""


def ended(foreshock: Foreshock, episode: str) -> bool:
    """Whether what was broken is well again."""
    httpx.delete(foreshock.url + "/api/v1/demo/faults", trust_env=False)
    return bool(foreshock.get(f"/api/v1/alerts/{episode}")["status"] == "resolved")


if __name__ == "__main__":
    raise SystemExit(main())
