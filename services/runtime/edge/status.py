"""Errors on the wire: DomainError to google.rpc.Status and back."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from services.runtime.errors import (
    Code,
    DeadlineExceeded,
    DependencyUnavailable,
    DomainError,
    FieldViolation,
)

ERROR_DOMAIN = "tollmesh.dev"
DETAILS_KEY = "grpc-status-details-bin"
# Trailers travel in HTTP/2 headers; clients refuse more than 8 KiB of them.
DETAILS_BYTES_MAX = 5_000
METADATA_VALUE_MAX = 256
MESSAGE_MAX = 1_000


class RemoteError(DomainError):
    """An error that another service answered with; it passes on as it came."""

    # What it depends on is with the other service, where this one cannot see it.
    state_dependent = True

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError, service: str) -> DomainError:
        """Read the error of a downstream call; one without our ErrorInfo is late or counts as unavailable."""
        for key, value in error.trailing_metadata() or ():
            if key == DETAILS_KEY and isinstance(value, bytes):
                found = from_status(status_pb2.Status.FromString(value))
                if found is not None:
                    return _as_ours(found, service)
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded(
                f"service {service} did not answer in time; the same request can be repeated safely",
                service=service,
            )
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return DependencyUnavailable(
                f"service {service} failed ({error.code().name}); repeat the same request: nothing is done twice",
                retry_after_ms=1000,
                service=service,
            )
        return DependencyUnavailable(
            f"service {service} is unavailable; repeat the same request: nothing is done twice",
            retry_after_ms=1000,
            service=service,
        )


def _as_ours(error: DomainError, service: str) -> DomainError:
    """What the caller may hear: that two services do not trust each other is no answer to its request."""
    if error.code is not Code.UNAUTHENTICATED:
        return error
    return DependencyUnavailable(
        f"service {service} rejects the token of this mesh; "
        "operator: use the same mesh secret and synchronised clocks everywhere",
        retry_after_ms=1000,
        service=service,
    )


def to_status(error: DomainError) -> status_pb2.Status:
    """Render an error with ErrorInfo always, BadRequest for fields, RetryInfo where a retry helps."""
    status = status_pb2.Status(
        code=grpc_code(error.code).value[0], message=error.message[:MESSAGE_MAX]
    )
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN)
    for key, value in error.metadata.items():
        info.metadata[key] = value[:METADATA_VALUE_MAX]
    _add(status, info)
    if error.retry_after_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(error.retry_after_ms)
        _add(status, retry)
    if error.fields:
        _add(status, _bad_request(error, DETAILS_BYTES_MAX - status.ByteSize()))
    return status


def from_status(status: status_pb2.Status) -> DomainError | None:
    """Read an error back; None when it carries no ErrorInfo of ours."""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry_after_ms: int | None = None
    for detail in status.details:
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            retry_after_ms = retry.retry_delay.ToMilliseconds()
        detail.Unpack(info)
        detail.Unpack(bad_request)
    if info.domain != ERROR_DOMAIN:
        return None
    fields = [FieldViolation(v.field, v.description) for v in bad_request.field_violations]
    error = RemoteError(status.message, fields=fields, retry_after_ms=retry_after_ms)
    error.code = _code_of(status.code)
    error.reason = info.reason
    error.metadata = dict(info.metadata)
    return error


def trailers(status: status_pb2.Status) -> tuple[tuple[str, Any], ...]:
    """Return the trailing metadata that carries the status."""
    return ((DETAILS_KEY, status.SerializeToString()),)


def grpc_code(code: Code) -> grpc.StatusCode:
    """Return gRPC's own constant."""
    return grpc.StatusCode[code.value]


def _code_of(number: int) -> Code:
    for code in Code:
        if grpc_code(code).value[0] == number:
            return code
    return Code.INTERNAL


def _bad_request(error: DomainError, bytes_max: int) -> error_details_pb2.BadRequest:
    bad_request = error_details_pb2.BadRequest()
    for violation in error.fields:
        bad_request.field_violations.add(
            field=violation.field[:200], description=violation.description[:300]
        )
        if bad_request.ByteSize() > bytes_max:
            del bad_request.field_violations[-1]
            break
    return bad_request


def _add(status: status_pb2.Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)
