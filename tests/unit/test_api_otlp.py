"""`POST /v1/metrics`: OTLP over HTTP, answered as its protocol asks."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from foreshock.adapters.decode import decode
from foreshock.adapters.mapping import MappingOptions
from foreshock.adapters.sql import Store
from foreshock.api.services import Health, Services
from foreshock.errors import RetryableError
from foreshock.runtime.views import Views
from foreshock.types.record import OTLP, OTLP_JSON
from tests.unit.api.rig import Answer, Client, FixedClock, Runtime
from tests.unit.made_otlp import gauge, number, request

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
BODY = bytes(request(gauge("cpu", number(0.5)), service_name="cart").SerializeToString())


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def services(tmp_path: Path, runtime: Runtime) -> Iterator[Services]:
    store = Store(f"sqlite:///{tmp_path}/s.db")
    yield Services(
        version="1.2.3", clock=FixedClock(), decode=lambda record: decode(record, MappingOptions()),
        submit=runtime.submit, control=runtime.control, views=Views(10, 8), store=store, status=dict, health=Health,
        reserve=runtime.reserve, max_body_bytes=100_000,
    )  # fmt: skip
    store.close()


@pytest.fixture
def client(services: Services) -> Client:
    return Client(services)


def posted(client: Client, body: bytes, headers: dict[str, str] = PROTOBUF) -> Answer:
    return client("POST", "/v1/metrics", content=body, headers=headers)


def response_of(answer: Answer) -> ExportMetricsServiceResponse:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-protobuf"
    out = ExportMetricsServiceResponse()
    out.ParseFromString(answer.content)
    return out


def test_a_request_is_taken_into_the_log_as_it_came(client: Client, runtime: Runtime) -> None:
    assert not response_of(posted(client, BODY)).HasField("partial_success")
    (record,) = runtime.records
    assert (record.content_type, record.payload, record.source) == (OTLP, BODY, "http")
    packed = posted(client, gzip.compress(BODY), PROTOBUF | {"content-encoding": "gzip"})
    assert packed.status_code == 200
    assert runtime.records[1].payload == BODY


def test_json_is_answered_in_json(client: Client, runtime: Runtime) -> None:
    text = json_format.MessageToJson(request(gauge("cpu", number(0.5)))).encode()
    answer = posted(client, text, JSON | {"content-type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {}
    assert runtime.records[0].content_type == OTLP_JSON
    refused = posted(client, b"{", JSON)
    assert refused.status_code == 400
    assert "OTLP" in refused.json()["message"]


def test_what_is_left_out_is_said(client: Client) -> None:
    body = bytes(request(gauge("cpu", number(0.5), number(1.0, time=0))).SerializeToString())
    found = response_of(posted(client, body)).partial_success
    assert (found.rejected_data_points, found.error_message) == (1, "bad_time: 1")
    text = json_format.MessageToJson(request(gauge("cpu", number(0.5), number(1.0, time=0)))).encode()
    assert posted(client, text, JSON).json() == {
        "partialSuccess": {"rejectedDataPoints": "1", "errorMessage": "bad_time: 1"}
    }


def test_an_empty_request_is_fine_and_is_no_record(client: Client, runtime: Runtime) -> None:
    response_of(posted(client, b""))
    assert not runtime.records


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff", PROTOBUF, 400),
        (bytes(request(gauge("", number(1.0))).SerializeToString()), PROTOBUF, 400),
        (BODY, {"content-type": "text/csv"}, 415),
        (BODY, {}, 415),
        (BODY, PROTOBUF | {"content-encoding": "br"}, 415),
        (b"\x00" * 200_000, PROTOBUF, 413),
        (gzip.compress(b"\x00" * 200_000), PROTOBUF | {"content-encoding": "gzip"}, 413),
    ],
)
def test_what_cannot_be_taken_is_refused_for_good(
    client: Client, runtime: Runtime, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = posted(client, body, headers)
    assert answer.status_code == status
    assert answer.content[0:1] == b"\x12"  # google.rpc.Status.message
    assert not runtime.records


def test_what_may_be_sent_again_says_when(client: Client, services: Services, runtime: Runtime) -> None:
    runtime.full = True
    full = posted(client, BODY)
    assert (full.status_code, full.headers["retry-after"]) == (429, "1")

    def gone(record: object, samples: object) -> object:
        raise RetryableError("no disk")

    runtime.full = False
    answer = posted(Client(replace(services, submit=gone)), BODY)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert b"no disk" in answer.content


def test_without_the_extra_it_says_which(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2", None)
    answer = posted(client, json.dumps({}).encode(), JSON)
    assert answer.status_code == 501
    assert "foreshock[otel]" in answer.json()["message"]
