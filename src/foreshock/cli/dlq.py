"""`foreshock dlq`: dead letters of a topic: what they are, and bringing them back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreshock.cli.output import counted, emit_json, errors, lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from foreshock.adapters.kafka.letters import Letter, Letters

app = typer.Typer(help="Messages that could not be used: look at them, and bring them back.", no_args_is_help=True)

MOST_SHOWN = 200
"""Characters of a value in a list."""

Topic = Annotated[str, typer.Argument(help="The topic that they came from, or its topic of letters (`….dlq`).")]
Brokers = Annotated[
    str | None, typer.Option("--brokers", help="host:port, several with commas (default: kafka.brokers).")
]
ConfigFile = Annotated[
    list[Path] | None, typer.Option("--config", help="Config file, folder or preset; may be given again.")
]
Reason = Annotated[str | None, typer.Option("--reason", help="Only letters with this reason.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_letters(
    topic: Topic,
    reason: Reason = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many to show, the last ones.")] = 20,
    config: ConfigFile = None,
    brokers: Brokers = None,
    as_json: AsJson = False,
) -> None:
    """Count the letters that wait, by reason, and show the last ones."""
    letters = [one for one in _letters(topic, config, brokers).read() if reason in (None, one.reason)]
    reasons = Counter(one.reason for one in letters)
    last = letters[len(letters) - min(limit, len(letters)) :]
    if as_json:
        emit_json({"letters": len(letters), "reasons": dict(reasons), "last": [as_data(one) for one in last]})
        return
    lines(f"{counted(len(letters), 'letter')} of {topic.removesuffix('.dlq')} not redriven")
    lines(*(f"  {name}: {count}" for name, count in reasons.most_common()))
    lines(*(f"{one.place}  from {one.from_partition}:{one.from_offset}  {one.reason}  {_short(one)}" for one in last))


@app.command()
def show(
    topic: Topic,
    place: Annotated[str, typer.Argument(help="Which one: `partition:offset`, as `list` shows it.")],
    config: ConfigFile = None,
    brokers: Brokers = None,
    as_json: AsJson = False,
) -> None:
    """Show one letter in full: where it came from, why it died, its headers and value."""
    from foreshock.errors import BadInputError

    found = next((one for one in _letters(topic, config, brokers).read() if one.place == place), None)
    if found is None:
        raise BadInputError("no_letter", f"there is no letter {place} of {topic}, or it has been redriven")
    if as_json:
        emit_json(as_data(found))
        return
    lines(
        f"{found.dlq} {found.place}",
        f"from {found.topic} {found.from_partition}:{found.from_offset}",
        f"{found.reason}: {found.error}",
        f"key: {_text(found.key)}",
        *(f"header {name}: {_text(value)}" for name, value in found.headers),
        *([f"cut: the value had {found.cut:,} bytes"] if found.cut else []),
        _text(found.value),
    )


@app.command()
def redrive(
    topic: Topic,
    places: Annotated[
        list[str] | None, typer.Argument(help="Which ones: `partition:offset` each (default: all).")
    ] = None,
    reason: Reason = None,
    config: ConfigFile = None,
    brokers: Brokers = None,
    as_json: AsJson = False,
) -> None:
    """Bring letters back to the topic that they came from, each once, whatever happens on the way."""
    asked = set(places or ())
    chosen: Callable[[Letter], bool] = lambda one: (  # noqa: E731
        reason in (None, one.reason) and (not asked or one.place in asked)
    )
    done = _letters(topic, config, brokers).redrive(
        chosen, lambda count: errors().print(f"{count:,} redriven", markup=False)
    )
    if as_json:
        emit_json({"redriven": done.letters, "cut": done.cut})
        return
    lines(f"{counted(done.letters, 'letter')} redriven")
    if done.cut:
        lines(f"{counted(done.cut, 'letter')} had been cut when they died and cannot be redriven")


def as_data(letter: Letter) -> dict[str, Any]:
    """A letter as plain data; bytes that are no text as hex, under `…_hex`."""
    out: dict[str, Any] = {
        "place": letter.place, "dlq": letter.dlq, "topic": letter.topic, "partition": letter.from_partition,
        "offset": letter.from_offset, "time_unix_ms": letter.time_unix_ms, "reason": letter.reason,
        "error": letter.error, "cut_bytes": letter.cut,
        "headers": {name: _text(value) for name, value in letter.headers},
    }  # fmt: skip
    for name, value in (("key", letter.key), ("value", letter.value)):
        try:
            out[name] = None if value is None else value.decode()
        except UnicodeDecodeError:
            out[f"{name}_hex"] = bytes(value or b"").hex()
    return out


def _letters(topic: str, config: list[Path] | None, brokers: str | None) -> Letters:
    from foreshock.adapters.kafka.letters import Letters
    from foreshock.cli.agent import kafka_options
    from foreshock.config import load

    return Letters(kafka_options(load(config or []), brokers), topic)


def _text(value: bytes | None) -> str:
    if value is None:
        return "(none)"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"(hex) {value.hex()}"
    # What a stranger sent must not move the cursor of whoever looks at it.
    return "".join(one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in text)


def _short(letter: Letter) -> str:
    text = _text(letter.value).replace("\n", " ")
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
