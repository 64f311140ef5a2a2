"""The demo: the simulated shop and this machine, watched by an app of their own; what breaks, and how it is caught."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from foreshock.app import App
from foreshock.config import Config, load
from foreshock.errors import ConfigError
from foreshock.incident import words
from foreshock.runtime.clock import FastClock, SystemClock
from foreshock.runtime.warm import warm
from foreshock.shop.faults import KINDS
from foreshock.shop.http.launch import launched
from foreshock.shop.http.tour import Tour
from foreshock.shop.judge import Finding, about_shop, judge
from foreshock.shop.source import ShopSource
from foreshock.types import Alert, rfc3339

FIRST_FAULT_SECONDS = 20.0
LEAST_QUIET_SECONDS = 2.0
REAL_FAULT_SECONDS, REAL_GAP_SECONDS = 240.0, 60.0
"""The first fault comes so long after the start; on a machine that still had to compile, so long after that."""
COMPILING_SECONDS = 5.0
"""Getting ready takes less where all is compiled."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What is shown: `faults` = kinds that break in turn (all, if none is named); `speed` = how fast time goes.

    `real` = the shop as HTTP services, which has no past: judging begins after some minutes, and so do faults.
    `data_dir` None = a folder of its own, which goes with the demo.
    """

    seed: int = 0
    real: bool = False
    speed: float = 1.0
    faults: tuple[str, ...] = ()
    data_dir: Path | None = None
    listen: str | None = None

    def __post_init__(self) -> None:
        for kind in self.faults:
            if kind not in KINDS:
                raise ConfigError(f"there is no fault {kind!r}; there are {', '.join(KINDS)}")
        if not 0.1 <= self.speed <= 100:
            raise ConfigError(f"speed is {self.speed:g}: it must lie between 0.1 and 100")
        if self.real and self.speed != 1.0:
            raise ConfigError("real services take their own time: leave out speed, or real")


class Demo:
    """An app that watches the shop, and the truth about it.

    `say` is told what takes time, `change` may change the config. Raises what App raises. `close` cleans up.
    """

    def __init__(
        self,
        options: DemoOptions,
        say: Callable[[str], None] = lambda sentence: None,
        change: Callable[[Config], Config] = lambda config: config,
    ) -> None:
        self.options = options
        began = perf_counter()
        self._real = ExitStack()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        data_dir = options.data_dir
        if data_dir is None:
            self._folder = tempfile.TemporaryDirectory(prefix="foreshock-demo-", ignore_cleanup_errors=True)
            data_dir = Path(self._folder.name)
        try:
            compile_ahead(config_of(options, data_dir, FIRST_FAULT_SECONDS), say)
            first = max(LEAST_QUIET_SECONDS, FIRST_FAULT_SECONDS - (perf_counter() - began))
            config = change(config_of(options, data_dir, first))
            self.app = App(config, FastClock(options.speed) if options.speed != 1.0 else SystemClock())
        except BaseException:
            self.close()
            raise
        self._say = say
        self._urls: dict[str, str] = {}
        kinds: Any = options.faults
        self.shop: ShopSource | Tour | None = next(
            (one for one in self.app.sources if isinstance(one, ShopSource)), None
        )
        if options.real:
            self.shop = self.app.shop = Tour(
                self._urls, self.app.clock, options.seed, kinds,
                first_seconds=REAL_FAULT_SECONDS, gap_seconds=REAL_GAP_SECONDS,
            )  # fmt: skip

    def start(self) -> None:
        """Start the app, and the services where they are real."""
        self.app.start()
        if self.options.real:
            assert self.app.server is not None
            self._say("starting the shop's services; they are learnt for some minutes before the first fault …")
            collect = f"http://{self.app.server.host}:{self.app.server.port}/collect"
            self._urls.update(self._real.enter_context(launched(collect=collect)).urls)
            assert isinstance(self.shop, Tour)
            self.shop.start()
            self._real.callback(self.shop.stop)

    def close(self) -> None:
        """End the services, and remove what was only made for the demo."""
        self._real.close()
        if self._folder is not None:
            self._folder.cleanup()

    def findings(self) -> tuple[list[Finding], list[Alert]]:
        """What became of each fault so far, and the alerts about the shop since it is live that belong to none."""
        now = self.app.clock.now_unix_nano()
        began = self.shop.live_unix_nano if isinstance(self.shop, ShopSource) else self.app.started_unix_nano
        known = self.shop.truth() if self.shop is not None else ()
        truths = [truth for truth in known if truth.since_unix_nano <= now]
        alerts = list(self.app.engine.said.values())
        found, rest = judge(truths, alerts, self.app.engine.decided)
        return found, [one for one in rest if about_shop(one) and 0 < began <= one.starts_unix_nano]

    def report(self) -> dict[str, Any]:
        """What a headless demo ends with, after the app has stopped."""
        found, rest = self.findings()
        report = self.app.final
        return {
            "seed": self.options.seed,
            "faults": [fault_report(one) for one in found],
            "false_alarms": len(rest),
            "alerts": report["alerts"],
            "components": components(self.app),
            "status": report["status"],
        }


def config_of(options: DemoOptions, data_dir: Path, first_fault_seconds: float) -> Config:
    """The preset `demo` or `demo-real` with what the options say."""
    overrides: dict[str, Any] = {"data_dir": str(data_dir)}
    if options.listen is not None:
        overrides["http"] = {"listen": options.listen}
    config = load([], preset="demo-real" if options.real else "demo", overrides=overrides)
    sources = []
    for source in config.sources:
        own: dict[str, Any] = {}
        if source.type == "shop":
            own = {"seed": options.seed, "first": first_fault_seconds, "kinds": options.faults}
        elif options.speed != 1.0:
            # This machine does not go faster.
            continue
        sources.append(source.model_copy(update={"options": source.options.model_copy(update=own)}))
    return config.model_copy(update={"sources": sources})


def compile_ahead(config: Config, say: Callable[[str], None]) -> None:
    """Compile what the demo needs, the largest parts in processes beside: from the second start on it is on disk."""
    beside = [
        subprocess.Popen([sys.executable, "-m", *module], stdin=subprocess.DEVNULL)
        for module in (("foreshock.runtime.warm", "linear", "calls"), ("foreshock.shop",))
    ]
    try:
        began = perf_counter()
        say("getting ready …")
        # Without sources nothing brings calls, which are being seen to.
        rest = [part for part in config.detectors if part.name != "linear"]
        warm(config.model_copy(update={"sources": [], "detectors": rest}))
        for one in beside:
            one.wait()
        if perf_counter() - began > COMPILING_SECONDS:
            say("what was compiled is kept: the next start is quicker")
    finally:
        for one in beside:
            if one.poll() is None:
                one.kill()
                one.wait()


def fault_report(finding: Finding) -> dict[str, Any]:
    """A fault and what became of it, for programs; where nothing was found, what was found is null."""
    truth = finding.truth
    return {
        "kind": truth.kind,
        "service": truth.service,
        "magnitude": truth.magnitude,
        "start": rfc3339(truth.since_unix_nano),
        "end": rfc3339(truth.until_unix_nano),
        "found": finding.found,
        "found_service": finding.service or None,
        "found_feature": finding.feature or None,
        "right_service": finding.right_service,
        "right_feature": finding.right_feature,
        "delay_seconds": finding.delay_seconds if finding.found else None,
        "summary": dict(finding.alerts[0].annotations).get("summary") if finding.found else None,
    }


def components(app: App) -> dict[str, str]:
    """How each part of the app stood, in words: `ok`, or what was wrong with it."""
    failed = app.engine.failed
    out = {
        "pipeline": failed or ("ok" if app.engine.ready.is_set() else "starting"),
        "store": app.engine.writer.trouble or "ok",
        "http": f"ok at http://{app.server.host}:{app.server.port}" if app.server else "off",
    }
    brought = {source.source: source.records for source in app.views.sources.all()}
    for source in app.sources:
        state = app.ended.get(source.name) or f"ok: {brought.get(source.name, 0)} records"
        out[f"source {source.name}"] = state
    for part in app.config.detectors:
        out[f"detector {part.name}"] = part.role
    return out


def sentence(finding: Finding) -> str:
    """How a fault was caught, in words; "" while it was not.

    >>> from foreshock.shop.faults import Truth
    >>> sentence(Finding(Truth("crash", "cart", "availability", "large", 0, 1, ())))
    ''
    """
    if not finding.found:
        return ""
    seconds = words.duration(max(0.0, finding.delay_seconds))
    return f"noticed after {seconds}" + ("" if finding.right_service else f", at {finding.service or 'the shop'}")


def told(findings: Sequence[Finding]) -> list[str]:
    """The faults of a demo in words, a line each."""
    out = []
    for one in findings:
        mark = "✓" if one.right_service else "◇" if one.found else "✗"
        out.append(f"{mark} {one.truth.kind} in {one.truth.service}: {sentence(one) or 'not noticed'}")
    return out
