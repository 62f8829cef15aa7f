"""What a call is made of, whether it blocks or is awaited."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar
from uuid import uuid4

import grpc
from payments_sdk.rpc import Method, RequestT, ResponseT

from tollmesh_client.errors import CallError, MessageTooLarge, call_error
from tollmesh_client.settings import MESSAGE_BYTES_MAX

ErrorT = TypeVar("ErrorT", bound=CallError)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A request, encoded once for all tries.

    Attributes:
        payload: the encoded message.
        request_id: its idempotency key; empty when it has none.
    """

    payload: bytes
    request_id: str

    def told(self, error: ErrorT) -> ErrorT:
        """Return the error with the key of the request."""
        error.request_id = self.request_id
        return error


def prepare(method: Method[RequestT, ResponseT], request: RequestT) -> Prepared:
    """Encode a request, with a request_id of its own if it needs one and has none.

    The message of the caller stays as it is: used for another call, it means another call.

    Raises:
        TypeError: it is a message of another RPC.
        FieldMisfit: a value does not fit its field.
        MessageTooLarge: it is.
    """
    if not isinstance(request, method.request):
        raise TypeError(
            f"{method.path} takes {method.request.__name__}, not {type(request).__name__}"
        )
    request_id = ""
    if method.has_request_id:
        request_id = getattr(request, "request_id", "")
        if not request_id:
            request_id = str(uuid4())
            given: Any = request
            request = dataclasses.replace(given, request_id=request_id)
    return Prepared(checked(method.path, bytes(request)), request_id)


def checked(path: str, payload: bytes) -> bytes:
    """Return an encoded request. Raises MessageTooLarge."""
    if len(payload) > MESSAGE_BYTES_MAX:
        raise MessageTooLarge(
            f"{path}: the request has {len(payload):,} bytes, a mesh takes {MESSAGE_BYTES_MAX:,}: split it"
        )
    return payload


def explained(error: grpc.RpcError, path: str) -> CallError:
    """Return our error for one of gRPC."""
    failed: Any = error
    code: grpc.StatusCode = failed.code()
    trailers: Iterable[tuple[str, str | bytes]] = tuple(failed.trailing_metadata() or ())
    return call_error(code.name, str(failed.details() or ""), trailers, path)
