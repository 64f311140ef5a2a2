"""`foreshock explain-verdict`: why something was found anomalous, and what would have been normal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from foreshock.cli.output import emit_json, errors, lines
from foreshock.errors import BadInputError, ConfigError, PermanentError, RetryableError

Ask = Callable[[dict[str, Any], int], list[dict[str, Any]]]
"""Gives anomalous rows, the newest first: what is wanted of them, and how many at most."""
MOST = 1000
"""Rows of one moment that are explained."""


def explain_verdict(
    where: Annotated[
        str, typer.Argument(help="A data folder, or the address of a running server (http://127.0.0.1:8080).")
    ] = ".foreshock",
    entity: Annotated[
        str | None, typer.Option("--entity", help="Which entity, host.name=a1 (default: the one found last).")
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", help="The last finding at or before T: ISO 8601 or Unix seconds.")
    ] = None,
    detector: Annotated[str | None, typer.Option("--detector", help="Only what this detector found.")] = None,
    token: Annotated[
        str | None, typer.Option("--token", envvar="FORESHOCK_TOKEN", help="Token of the server's API.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain an anomalous verdict of each detector: score, p-value, what contributed, what would have been normal.

    Exit code 1 if nothing was found anomalous.
    """
    from foreshock.runtime.why import in_words

    ask = _server(where, token) if where.startswith(("http://", "https://")) else _folder(Path(where))
    wanted: dict[str, Any] = {name: one for name, one in (("entity", entity), ("detector", detector)) if one}
    latest = ask(wanted if time is None else wanted | {"until": _nanoseconds(time) + 1000}, 1)
    found: list[dict[str, Any]] = []
    if latest:
        moment, about = latest[0]["time_unix_nano"], latest[0]["entity"]
        micros = moment // 1000 * 1000
        rows = ask(wanted | {"entity": about, "since": micros, "until": micros + 1000}, MOST)
        found = [row for row in rows if row["time_unix_nano"] == moment]
    if as_json:
        emit_json({"entity": found[0]["entity"], "time": found[0]["time"], "verdicts": found} if found else None)
    elif found:
        lines(*in_words(found))
    if not found:
        whom = f" of {entity}" if entity else ""
        errors().print(f"nothing anomalous is known{whom}" + (f" up to {time}" if time else ""), markup=False)
        raise typer.Exit(1)


def _folder(folder: Path) -> Ask:
    """Asks the database of a data folder."""
    from foreshock.adapters.sql import Store
    from foreshock.adapters.sql.text import parse_labels
    from foreshock.runtime.why import findings
    from foreshock.types import label_text

    path = folder / "foreshock.db"
    if not path.is_file():
        raise ConfigError(f"{folder} holds no foreshock.db: name the data folder of a run, or a server's address")
    store = Store(f"sqlite:///{path}")

    def ask(wanted: dict[str, Any], limit: int) -> list[dict[str, Any]]:
        entity = wanted.get("entity")
        return findings(
            store.verdicts(
                None if entity is None else label_text(parse_labels(entity)),
                since_unix_nano=wanted.get("since", 0),
                until_unix_nano=wanted.get("until", (1 << 63) - 1),
                limit=limit,
                detector=wanted.get("detector"),
                newest=True,
            )
        )

    return ask


def _server(address: str, token: str | None) -> Ask:
    """Asks a running server."""
    import httpx

    from foreshock.types import rfc3339

    headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(wanted: dict[str, Any], limit: int) -> list[dict[str, Any]]:
        times = {name: rfc3339(wanted[name]) for name in ("since", "until") if name in wanted}
        parameters = wanted | times | {"limit": limit}
        try:
            answer = httpx.get(address.rstrip("/") + "/api/v1/verdicts", params=parameters, headers=headers, timeout=30)
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise RetryableError(f"{address} does not answer as Foreshock does: {error}") from error
        if answer.status_code == 400:
            raise BadInputError("refused", body["detail"])
        if answer.status_code != 200:
            raise PermanentError(f"{address}: {body.get('detail', answer.status_code)}")
        rows: list[dict[str, Any]] = body["verdicts"]
        return rows

    return ask


def _nanoseconds(text: str) -> int:
    """Nanoseconds of ISO 8601 text (UTC where it names no zone) or of Unix seconds."""
    from foreshock.adapters.times import parse_iso

    try:
        return round(float(text) * 1e9)
    except (ValueError, OverflowError):
        nanos = parse_iso(text)
    if nanos < 0:
        raise ConfigError(f"--time {text!r} is neither ISO 8601 nor Unix seconds")
    return nanos
