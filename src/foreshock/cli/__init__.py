"""The command line. Exit codes: 0 done, 1 problems found, 2 wrong usage or config, 3 cannot go on, 130 interrupted."""

from __future__ import annotations

import sys

import typer

from foreshock.cli import config, log, replay, run, tools
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
app.command("replay")(replay.replay)
app.command("check")(config.check)
app.add_typer(config.app, name="config")
app.add_typer(log.app, name="log")
app.command("plan")(tools.plan)
app.command("doctor")(tools.doctor)
app.command("version")(tools.version)


def main() -> None:
    """Run the command line; errors become one sentence on stderr and an exit code."""
    try:
        app()
    except ConfigError as error:
        _say(error, 2)
    except BadInputError as error:
        _say(error, 2)
    except ForeshockError as error:
        _say(error, 3)
    except KeyboardInterrupt:
        sys.exit(130)


def _say(error: ForeshockError, code: int) -> None:
    sys.stderr.write(f"foreshock: {error}\n")
    sys.exit(code)
