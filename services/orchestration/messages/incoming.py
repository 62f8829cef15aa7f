"""Takes a request off the wire: bytes or a Struct become the same tree, which hides nothing.

Total: any bytes and any Struct give a tree or a finding.
"""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from google.protobuf.struct_pb2 import Struct, Value
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.domain import tree
from services.orchestration.domain.issues import Findings
from services.orchestration.domain.record import Incoming
from services.orchestration.domain.tree import Number, Object, Tree
from services.runtime.cards import holds_card_number
from services.runtime.context import current
from services.runtime.ids import request_id_of

# Doubles hold every integer up to here; beyond, the sender's digits may be gone.
_EXACT_INTEGER_MAX = 2**53 - 1


def read(
    request: service_pb.CreatePaymentRequest | service_pb.PlanPaymentRequest, key: str = ""
) -> Incoming:
    """Read a request; `key` is its request_id, which the header Idempotency-Key may have filled."""
    findings = Findings()
    if request.WhichOneof("request") == "external_request":
        struct = request.external_request
        size = struct.ByteSize()
        # What is refused for its size is not written anew just to be compared by.
        text = struct.SerializeToString(deterministic=True) if size <= tree.BYTES_MAX else b""
        body = b"struct:" + (text or str(size).encode())
        root = _struct_tree(struct, size, findings)
    else:
        body = b"raw:" + request.raw_request
        root = tree.read(request.raw_request, findings)
    spelled = current().idempotency_key or key
    if holds_card_number(spelled):
        return Incoming(body, root, findings, card_key=True)
    return Incoming(body, root, findings, request_id_of(key) if key else "", _is_odd(spelled))


def _is_odd(key: str) -> bool:
    try:
        UUID(key)
    except ValueError:
        return bool(key)
    return False


def _struct_tree(struct: Struct, size: int, findings: Findings) -> Object | None:
    if size > tree.BYTES_MAX:
        findings.refuse(
            "",
            "REQUEST_TOO_LARGE",
            f"the request has {size} bytes; the limit is {tree.BYTES_MAX}",
        )
        return None
    try:
        return _object(struct, tree.DEPTH_MAX)
    except RecursionError:
        findings.refuse(
            "", "NESTED_TOO_DEEP", f"the request is nested deeper than {tree.DEPTH_MAX}"
        )
        return None


def _object(struct: Struct, depth_left: int) -> Object:
    if depth_left == 0:
        raise RecursionError
    # A map has no order of its own; sorted names give the same findings for the same content.
    pairs = sorted(struct.fields.items())
    return Object(tuple((name, _tree(value, depth_left - 1)) for name, value in pairs))


def _tree(value: Value, depth_left: int) -> Tree:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _object(value.struct_value, depth_left)
        case "list_value":
            if depth_left == 0:
                raise RecursionError
            return [_tree(item, depth_left - 1) for item in value.list_value.values]
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value":
            return _number(value.number_value)
        case _:
            return None


def _number(value: float) -> Number:
    """Return a double by the shortest text that names it; a Struct has no integers, so 12 is 12.

    A whole number whose last digits may be gone gets an exponent, so that no id or amount is made of it.
    """
    if not value.is_integer():
        return Number(repr(value), written=False)
    if abs(value) <= _EXACT_INTEGER_MAX:
        return Number(str(int(value)), written=False)
    return Number(f"{Decimal(repr(value)).normalize():E}", written=False, rounded=True)
