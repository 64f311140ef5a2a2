from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from foreshock.adapters.sql import Store
from foreshock.api.services import Health, Services
from foreshock.runtime.views import Views
from tests.unit.api.rig import Client, FixedClock, Runtime


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def services(tmp_path: Path, runtime: Runtime) -> Iterator[Services]:
    store = Store(f"sqlite:///{tmp_path}/s.db")
    yield Services(
        version="1.2.3",
        clock=FixedClock(),
        decode=runtime.decode,
        submit=runtime.submit,
        control=runtime.control,
        views=Views(10, 8),
        store=store,
        status=lambda: {"position": 7},
        health=Health,
        reserve=runtime.reserve,
        max_body_bytes=200_000,
    )
    store.close()


@pytest.fixture
def client(services: Services) -> Client:
    return Client(services)
