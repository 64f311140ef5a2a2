"""OTLP over HTTP: metrics as OpenTelemetry's SDKs and collectors send them, answered as its protocol asks."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from foreshock.adapters.http import OTLP_TYPES
from foreshock.adapters.otlp import answers
from foreshock.api.ingest import receive
from foreshock.api.services import error_answer, services_of
from foreshock.errors import BadInputError, RetryableError

PROTOBUF, JSON = OTLP_TYPES


async def post_metrics(request: Request) -> Response:
    """`POST /v1/metrics`: an `ExportMetricsServiceRequest`, protobuf or JSON; the answer is in the same encoding."""
    as_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON
    media_type = JSON if as_json else PROTOBUF
    try:
        samples = await receive(request, services_of(request).source, OTLP_TYPES)
    except (BadInputError, RetryableError) as error:
        refused = error_answer(error)
        kept = {name: refused.headers[name] for name in ("retry-after", "connection") if name in refused.headers}
        return Response(answers.status(str(error), as_json), refused.status_code, kept, media_type)
    left_out = ", ".join(f"{reason}: {count}" for reason, count in sorted(samples.dropped.items()))
    body = answers.success(sum(samples.dropped.values()), left_out, as_json)
    return Response(body, 200, media_type=media_type)
