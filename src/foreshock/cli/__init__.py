"""The command line.

Exit codes: 0 done, 1 problems found, 2 wrong usage, config or input, 3 cannot go on, 130 interrupted. What a command
needs is imported inside it, so that `--help` and `version` do not wait for what they do not use.
"""

from __future__ import annotations

import gc
import logging
import os
import sys

import typer

from foreshock.cli import agent, bench, config, demo, dlq, load, log, replay, run, shop, tools, why, worker
from foreshock.errors import BadInputError, ConfigError, ForeshockError

app = typer.Typer(
    name="foreshock",
    help="Finds what is abnormal in telemetry, at a false-alarm budget that it keeps to.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("worker")(worker.worker)
app.command("demo")(demo.demo)
app.command("replay")(replay.replay)
app.command("explain-verdict")(why.explain_verdict)
app.command("check")(config.check)
app.add_typer(config.app, name="config")
app.add_typer(log.app, name="log")
app.add_typer(bench.app, name="bench")
app.add_typer(shop.app, name="shop")
app.add_typer(agent.app, name="agent")
app.command("load")(load.load)
app.add_typer(dlq.app, name="dlq")
app.command("plan")(tools.plan)
app.command("doctor")(tools.doctor)
app.command("version")(tools.version)


def main() -> None:
    """Run the command line; errors become one sentence on stderr and an exit code."""
    _see_own_parts()
    # Importing makes many objects and no garbage: looking for some would take a tenth of the start.
    gc.disable()
    try:
        app()
    except (ConfigError, BadInputError) as error:
        _say(str(error), 2)
    except ForeshockError as error:
        _say(str(error), 3)
    except OSError as error:
        _say(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), 3)
    except Exception:
        # The edge of the program: whatever gets here is a defect of ours, and its exit code must not mean "problems".
        logging.getLogger(__name__).exception("foreshock has a defect; please report this")
        sys.exit(3)


def _see_own_parts() -> None:
    """Let `detectors: [my_module:Mine]` find a module of the current folder; last, so that it hides nothing."""
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        sys.path.append(here)


def _say(sentence: str, code: int) -> None:
    sys.stderr.write(f"foreshock: {sentence}\n")
    sys.exit(code)
