from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from foreshock.adapters import calls as module
from foreshock.adapters.assemble import MAX_NAME
from foreshock.adapters.calls import MAX_SECONDS, decode_calls, encode_calls
from foreshock.adapters.decode import decode
from foreshock.adapters.mapping import MappingOptions
from foreshock.errors import BadInputError
from foreshock.types import CALL, Calls, Record
from foreshock.types.record import CALLS

S = 1_000_000_000
NOW = 1_700_000_000 * S
CHARGE = {"source": "checkout", "target": "payment", "method": "POST", "endpoint": "/charge", "status": 200,
          "duration": 0.012}  # fmt: skip
Told = tuple[str, str, str, str, int, float | None, int]


def read(body: Any) -> Calls:
    return decode_calls(body if isinstance(body, bytes) else json.dumps(body).encode(), NOW)


def told(calls: Calls) -> list[Told]:
    """Each call in words: source, target, method, endpoint, status, seconds, Unix ns."""
    names = calls.names
    return [
        (names[source], names[target], names[method], names[endpoint], status, None if np.isnan(took) else took, time)
        for time, took, source, target, method, endpoint, status in calls.rows.tolist()
    ]


def refused(body: Any) -> str:
    with pytest.raises(BadInputError) as caught:
        read(body)
    return caught.value.reason


# -- what is taken -----------------------------------------------------------------------------------------------


def test_a_call() -> None:
    calls = read(CHARGE)
    assert told(calls) == [("checkout", "payment", "POST", "/charge", 200, 0.012, NOW)]
    assert calls.rows.dtype == CALL
    assert calls.dropped == {}
    assert calls.notes == ("time = when it was received",)


@pytest.mark.parametrize(
    "body",
    [
        [CHARGE, CHARGE],
        {"calls": [CHARGE, CHARGE]},
        (json.dumps(CHARGE) + "\n\n" + json.dumps(CHARGE) + "\r\n").encode(),
        b"\xef\xbb\xbf" + json.dumps([CHARGE, CHARGE], indent=2).encode(),
        b" \n" + json.dumps(CHARGE).encode() + b"\n" + json.dumps(CHARGE).encode(),
    ],
)
def test_bodies_of_every_form(body: Any) -> None:
    calls = read(body)
    assert told(calls) == told(read(CHARGE)) * 2
    assert calls.dropped == {}


def test_one_pretty_object() -> None:
    assert told(read(json.dumps(CHARGE, indent=2).encode())) == told(read(CHARGE))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"client": "a", "server": "b"}, ("a", "b")),
        ({"caller": "a", "callee": "b"}, ("a", "b")),
        ({"from": "a", "to": "b"}, ("a", "b")),
        ({"client": "a", "service": "b"}, ("a", "b")),
        ({"source": "a", "client": "x", "target": "b", "service": "y"}, ("a", "b")),
        ({"target": " b "}, ("", "b")),
        ({"source": None, "target": 7}, ("", "7")),
    ],
)
def test_who_calls_whom_under_many_names(row: dict[str, Any], expected: tuple[str, str]) -> None:
    assert told(read(row))[0][:2] == expected


def test_names_of_fields_may_change_from_row_to_row() -> None:
    rows = [{"source": "a", "target": "b"}, {"client": "c", "server": "d"}, {"from": "e", "service": "f"}]
    assert [one[:2] for one in told(read(rows))] == [("a", "b"), ("c", "d"), ("e", "f")]


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ({"endpoint": "/charge?card=1#x"}, "/charge"),
        ({"path": "/charge"}, "/charge"),
        ({"url": "https://pay.example:8443/charge/7?a=/b"}, "/charge/7"),
        ({"url": "http://pay.example?to=http://b/c"}, "/"),
        ({"url": "http://pay.example"}, "/"),
        ({"endpoint": "shop.Cart/Add"}, "shop.Cart/Add"),
        ({"endpoint": "?q=1"}, "/"),
        ({"endpoint": ""}, ""),
        ({}, ""),
        ({"endpoint": {"deep": 1}}, ""),
    ],
)
def test_endpoints_without_host_and_query(given: dict[str, Any], endpoint: str) -> None:
    assert told(read({"target": "b", **given}))[0][3] == endpoint


def test_methods_in_upper_case() -> None:
    assert [one[2] for one in told(read([{"target": "b", "method": m} for m in ("get", "GET", " Post ")]))] == [
        "GET", "GET", "POST",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "number"),
    [(200, 200), ("503", 503), (404.0, 404), (0, 0), ("", 0), (None, 0), ("timeout", 0), ("Timeout ", 0), ("0", 0)],
)
def test_statuses(status: Any, number: int) -> None:
    assert told(read([CHARGE, CHARGE | {"status": status}]))[1][4] == number
    assert told(read({"target": "b", "status_code": status}))[0][4] == number
    assert told(read({"target": "b"}))[0][4] == 0


@pytest.mark.parametrize("status", [1, 14, 99, 1000, -1, 2**40, 2**70, "OK", "2xx", "20", 200.5, True, [], {}, "²00"])
def test_statuses_that_are_none(status: Any) -> None:
    assert refused(CHARGE | {"status": status}) == "bad_status"
    assert read([CHARGE, CHARGE | {"status": status}]).dropped == {"bad_status": 1}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"duration": 2}, 2.0),
        ({"duration_seconds": 0.25}, 0.25),
        ({"duration_ms": 250}, 0.25),
        ({"latency_ms": 0.5}, 0.0005),
        ({"duration": 1, "duration_ms": 7}, 1.0),
        ({"duration": None, "duration_ms": 7}, 0.007),
        ({"duration": 0}, 0.0),
        ({"duration": MAX_SECONDS}, MAX_SECONDS),
        ({"duration": None}, None),
        ({}, None),
    ],
)
def test_durations(given: dict[str, Any], seconds: float | None) -> None:
    assert told(read({"target": "b", **given}))[0][5] == seconds


def test_units_may_change_from_row_to_row() -> None:
    rows = [{"target": "b", "duration": 1}, {"target": "b", "latency_ms": 500}, {"target": "b"}]
    assert [one[5] for one in told(read(rows))] == [1.0, 0.5, None]


@pytest.mark.parametrize("seconds", [-1e-9, -5, MAX_SECONDS * 1.01, 1e300, 10**400, "0.1", True, [1]])
def test_durations_that_are_none(seconds: Any) -> None:
    assert refused(CHARGE | {"duration": seconds}) == "bad_duration"
    assert read([CHARGE, CHARGE | {"duration": seconds}]).dropped == {"bad_duration": 1}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have(text: str) -> None:
    row = json.dumps(CHARGE).replace("0.012", text)
    assert refused(row.encode()) == "bad_json"
    assert read(f"{json.dumps(CHARGE)}\n{row}".encode()).dropped == {"bad_json": 1}


@pytest.mark.parametrize(
    ("given", "time"),
    [
        ({"time": 1_640_000_000}, 1_640_000_000 * S),
        ({"timestamp": 1_640_000_000.25}, 1_640_000_000 * S + S // 4),
        ({"time": 1_640_000_000_123}, 1_640_000_000_123_000_000),
        ({"time": "2021-12-20T11:33:20Z"}, 1_640_000_000 * S),
        ({"time_unix_nano": 5}, 5),
        ({"time": None}, NOW),
        ({"time": None, "time_unix_nano": 5}, 5),
        ({}, NOW),
    ],
)
def test_times(given: dict[str, Any], time: int) -> None:
    assert told(read({"target": "b", **given}))[0][6] == time


def test_kinds_of_times_may_change_from_row_to_row() -> None:
    times: list[dict[str, Any]] = [{"time": 1_640_000_000}, {}, {"time_unix_nano": 7}, {"time": "2021-12-20T11:33:20Z"}]
    assert [one[6] for one in told(read([{"target": "b", **time} for time in times]))] == [
        1_640_000_000 * S, NOW, 7, 1_640_000_000 * S,
    ]  # fmt: skip


@pytest.mark.parametrize("time", ["soon", "", -1, 2**70, 1e300, True, {}, "1640000000"])
def test_times_that_are_none(time: Any) -> None:
    assert refused(CHARGE | {"time": time}) == "bad_time"
    assert read([CHARGE, CHARGE | {"time": time}]).dropped == {"bad_time": 1}


def test_what_was_read_and_what_was_not_is_noted() -> None:
    row = {"from": "a", "service": "b", "latency_ms": 3, "url": "/x", "trace_id": "7", "pod": "p"}
    assert read([row]).notes == (
        "source = from", "target = service", "endpoint = url", "duration = latency_ms", "time = when it was received",
        "not used = trace_id, pod",
    )  # fmt: skip
    many = {f"field{at}" * 20: 1 for at in range(20)}
    [note] = [note for note in read([CHARGE | many]).notes if note.startswith("not used")]
    assert len(note) < 1000


# -- what is not -------------------------------------------------------------------------------------------------


def test_a_call_without_target_is_dropped() -> None:
    targets: list[Any] = [None, "", "  ", [], {"name": "b"}]
    for target in targets:
        assert read([CHARGE, CHARGE | {"target": target}]).dropped == {"no_target": 1}
    assert refused({"source": "a", "status": 200}) == "no_target"
    assert refused({}) == "no_target"


def test_lines_are_broken_one_by_one() -> None:
    good = json.dumps(CHARGE).encode()
    calls = read(b"\n".join([good, b"{oops", good, b"[1]", b"7", b'{"target": "\xff"}', b"null", good]))
    assert len(calls) == 3
    assert calls.dropped == {"bad_json": 1, "not_an_object": 3, "not_utf8": 1}
    assert "bad_json: 1 dropped, first at row 2" in calls.notes


def test_what_is_no_object_in_an_array_is_dropped() -> None:
    calls = read([CHARGE, 7, None, "x", [CHARGE], CHARGE])
    assert len(calls) == 2
    assert calls.dropped == {"not_an_object": 4}
    assert "not_an_object: 4 dropped, first at row 2" in calls.notes


def test_a_row_is_dropped_once_for_its_first_reason() -> None:
    calls = read([CHARGE, {"target": "", "status": "?", "duration": -1, "time": "?"}])
    assert calls.dropped == {"no_target": 1}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"[]", "empty"),
        (b'{"calls": []}', "empty"),
        (b"{", "bad_json"),
        (b"garbage", "bad_json"),
        (b"[{]", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b'{"target": ' + b"[" * 100_000, "bad_json"),
        (b"\x00\xff" * 100, "bad_json"),
        (b'{"target": "\xff"}', "not_utf8"),
        (b"7", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"[1, 2]", "not_an_object"),
    ],
)
def test_bodies_of_which_nothing_can_be_used(body: bytes, reason: str) -> None:
    assert refused(body) == reason


@pytest.mark.parametrize("field", ["source", "target", "method", "endpoint"])
def test_names_beyond_the_bound(field: str) -> None:
    assert len(read(CHARGE | {field: "x" * MAX_NAME})) == 1
    calls = read([CHARGE, CHARGE | {field: "x" * (MAX_NAME + 1)}])
    assert (len(calls), calls.dropped) == (1, {"name_too_long": 1})
    assert max(map(len, calls.names)) <= MAX_NAME


def test_a_long_query_is_no_long_name() -> None:
    assert told(read(CHARGE | {"endpoint": "/charge?" + "x" * 5000}))[0][3] == "/charge"


def test_too_many_names_in_one_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 10)
    rows = [CHARGE | {"endpoint": f"/{at}"} for at in range(20)]
    calls = read(rows)
    assert len(calls.names) == 10
    assert (len(calls), calls.dropped) == (7, {"too_many_names": 13})
    assert len(read([*rows, *rows[:7]])) == 14, "known names go on counting"
    assert refused({"names": [str(at) for at in range(11)], "target": [0]}) == "too_many_names"


def test_too_many_calls_in_one_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CALLS", 10)
    assert len(read([CHARGE] * 10)) == 10
    assert refused([CHARGE] * 11) == "too_many_calls"
    assert refused(b"\n".join([json.dumps(CHARGE).encode()] * 11)) == "too_many_calls"
    assert refused({"names": ["a"], "target": [0] * 11}) == "too_many_calls"


def test_what_is_mostly_broken_is_not_read_to_the_end() -> None:
    good = json.dumps(CHARGE).encode() + b"\n"
    with pytest.raises(BadInputError, match="bad_json: 1001 dropped"):
        read(b"x\n" * 1_000_000)
    assert len(read(good * 1500 + b"x\n" * 1400)) == 1500
    assert refused(good * 1500 + b"x\n" * 1600) == "bad_json"


# -- columns -----------------------------------------------------------------------------------------------------


def random_calls(n: int) -> Calls:
    rng = np.random.default_rng(5)
    names = ["", "checkout", "payment", "cart", "GET", "POST", *(f"/item/{at}" for at in range(50))]
    rows = np.zeros(n, CALL)
    rows["time_unix_nano"] = NOW + rng.integers(0, 60 * S, n)
    rows["duration_seconds"] = np.where(rng.random(n) < 0.1, np.nan, rng.gamma(2.0, 0.05, n))
    rows["source"], rows["target"] = rng.integers(0, 4, n), rng.integers(1, 4, n)
    rows["method"], rows["endpoint"] = rng.integers(4, 6, n), rng.integers(6, len(names), n)
    rows["status"] = rng.choice([0, 200, 404, 503], n)
    return Calls(names, rows, {"bad_time": 3}, ("note",))


def test_what_is_encoded_is_decoded_exactly() -> None:
    calls = random_calls(500)
    again = decode_calls(encode_calls(calls), 1)
    assert list(again.names) == list(calls.names)
    assert again.rows.tobytes() == calls.rows.tobytes()
    assert (again.dropped, again.notes) == ({}, ())


def test_rows_and_columns_say_the_same() -> None:
    calls = random_calls(200)
    rows = [
        {"source": source, "target": target, "method": method, "endpoint": endpoint, "status": status,
         "duration": seconds, "time": time}
        for source, target, method, endpoint, status, seconds, time in told(calls)
    ]  # fmt: skip
    assert told(read(rows)) == told(calls) == told(read(encode_calls(calls)))


def test_columns_from_outside() -> None:
    columns = {
        "names": ["a", "b", "get", "http://b/x?y=1", "b"], "from": [0, 0], "service": [1, 4], "method": [2, 2],
        "url": [3, 3], "status_code": ["200", None], "latency_ms": [5, None], "time": [1_640_000_000, "soon"],
    }  # fmt: skip
    calls = read(columns)
    assert told(calls) == [("a", "b", "GET", "/x", 200, 0.005, 1_640_000_000 * S)]
    assert calls.dropped == {"bad_time": 1}
    assert told(read({"names": ["b"], "target": [0, 0]})) == [("", "b", "", "", 0, None, NOW)] * 2


@pytest.mark.parametrize(
    "columns",
    [
        {"names": []},
        {"names": {}},
        {"names": [1], "target": [0]},
        {"names": ["a"], "target": [1]},
        {"names": ["a"], "target": [-1]},
        {"names": ["a"], "target": [2**70]},
        {"names": ["a"], "target": ["a"]},
        {"names": ["a"], "target": [0.0]},
        {"names": ["a"], "target": [True]},
        {"names": ["a"], "target": "a"},
        {"names": ["a"], "target": [0], "status": [200, 200]},
        {"names": ["a"], "target": [0], "status": 200},
        {"names": ["a"], "target": [0], "time": {}},
    ],
)
def test_columns_that_do_not_fit(columns: dict[str, Any]) -> None:
    assert refused(columns) == "bad_columns"


def test_empty_columns() -> None:
    assert refused({"names": [], "target": []}) == "empty"
    assert refused({"names": ["", "a"], "source": [1], "target": [0]}) == "no_target"
    assert refused({"names": ["a"], "source": [0]}) == "no_target"


# -- in the log --------------------------------------------------------------------------------------------------


def test_a_record_is_decoded_the_same_whenever() -> None:
    record = Record("default", "calls", CALLS, NOW, json.dumps([CHARGE, {"target": "b"}]).encode())
    first, again = (decode(record, MappingOptions()) for _ in range(2))
    assert isinstance(first, Calls)
    assert isinstance(again, Calls)
    assert told(first) == told(again)
    assert first.time_unix_nano.tolist() == [NOW, NOW]


def test_a_body_of_10_mb_with_an_endpoint_a_row() -> None:
    row = b'{"source": "a", "target": "b", "method": "GET", "endpoint": "/item/%d?x=1", "status": 200, "duration": 0.1}'
    body = b"\n".join(row % at for at in range(100_000))
    assert len(body) > 10_000_000
    calls = read(body)
    assert len(calls) + calls.dropped.get("too_many_names", 0) == 100_000
    assert len(calls.names) == module.MAX_NAMES
