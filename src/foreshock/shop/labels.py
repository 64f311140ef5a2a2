"""What is broken in the shop as labels in its data: control records, by which detectors are counted right or wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from foreshock.shop.faults import Truth
from foreshock.shop.judge import NANO, RECOVERY_SECONDS, touched
from foreshock.shop.topology import SHOP
from foreshock.types import Control, ControlKind, digest


def all_well(since_unix_nano: int, environment: str) -> Iterator[Control]:
    """From now on all is well with the shop, unless another label says that it is not."""
    yield from _about(SHOP.names, since_unix_nano, 0, environment, "false")


def broken(truth: Truth, environment: str) -> Iterator[Control]:
    """Something is wrong with all that a fault reaches, until the shop is like itself again."""
    until = truth.until_unix_nano + round(RECOVERY_SECONDS * NANO)
    yield from _about(sorted(touched(truth)), truth.since_unix_nano, until, environment, "true")


def _about(services: Iterable[str], since: int, until: int, environment: str, label: str) -> Iterator[Control]:
    """A label of each service, of the calls from and to it, and of the shop as a whole."""
    names = [(name, service) for service in services for name in ("service.name", "client", "server")]
    for name, value in [*names, ("deployment.environment.name", environment)]:
        key = digest("shop", label, name, value, str(since))
        yield Control(ControlKind.LABEL, key, since, until, {name: value}, label=label, author="shop")
