"""The OpenAPI document against the application that it describes: what Schemathesis makes up is answered as it says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.applications import Starlette

from foreshock.adapters.decode import decode
from foreshock.adapters.mapping import MappingOptions
from foreshock.api.openapi import document
from foreshock.api.routes import ROUTES
from foreshock.api.server import create_app
from foreshock.types import Decoded, Record
from tests.unit.api.rig import Runtime
from tests.unit.test_api_page import StandInShop, alert_of, services_of

EXAMPLES = 15
"""Made-up requests of each route, in order and against it; the same at each run."""

IN_WORDS = {"/api/v1/events", "/collect", "/api/v1/collect", "/api/v1/control", "/api/v1/demo/faults"}
"""Bodies of which more is asked than a schema can say: what a sample or a call is, which fields belong together, what
can break where. And a cursor is what the service gave."""


described = schemathesis.openapi.from_dict(document(ROUTES, "1.2.3"))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starlette]:
    """An application in which something is to be found."""
    for services in services_of(tmp_path_factory.mktemp("document"), Runtime(), StandInShop()):
        alert_of(services)
        yield create_app(replace(services, decode=decoded, hosts=frozenset({"testserver"}), requests_per_second=1e6))


def decoded(record: Record) -> Decoded:
    """As the runtime decodes it."""
    return decode(record, MappingOptions())


@described.parametrize()
@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
def test_what_is_made_up_is_answered_as_the_document_says(case: Case[Any], app: Starlette) -> None:
    in_words = (case.method == "POST" and case.path in IN_WORDS) or "cursor" in (case.query or {})
    case.call_and_validate(app=app, excluded_checks=[positive_data_acceptance] if in_words else [])
