"""Quix Streams: BROKERS GROUP TOPIC OUT FOLDER; runs in an environment of its own."""

from __future__ import annotations

import logging
import sys
from typing import Any

from quixstreams import Application


def judge(value: dict[str, Any], state: Any) -> dict[str, Any]:
    """Score against mean and deviation so far, then learn (Welford 1962)."""
    count, mean, squares = state.get("s") or (0, 0.0, 0.0)
    x = value["value"]
    deviation = (squares / count) ** 0.5 if count else 0.0
    score = abs(x - mean) / deviation if deviation > 0 else 0.0
    count += 1
    step = x - mean
    mean += step / count
    state.set("s", (count, mean, squares + step * (x - mean)))
    return {"eventId": value["eventId"], "score": score}


def main(brokers: str, group: str, topic: str, out: str, folder: str) -> None:
    logging.basicConfig(level=logging.WARNING)
    app = Application(
        broker_address=brokers, consumer_group=group, auto_offset_reset="earliest", state_dir=folder,
        processing_guarantee="exactly-once", commit_interval=0.1, loglevel="WARNING",
    )  # fmt: skip
    found = app.dataframe(app.topic(topic, key_deserializer="str", value_deserializer="json"))
    found = found.apply(judge, stateful=True)
    found = found.filter(lambda value: value["score"] > 6.0)
    found.to_topic(app.topic(out, value_serializer="json"))
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
