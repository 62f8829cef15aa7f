"""Values that are none of their type are found wherever they stand, and named."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from payments.access.v1 import access_service_pb2
from payments.billing.v1 import charge_service_pb2
from payments.contracts.v1 import contracts_service_pb2
from payments.events.v1 import events_pb2, events_service_pb2
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2
from payments.metering.v1 import metering_service_pb2
from payments.orchestration.v1 import orchestration_service_pb2
from payments.pricing.v1 import catalog_service_pb2, pricing_service_pb2
from payments.type.v1 import type_pb2

from services.runtime.edge import validation, wellformed

SOUND_MOMENTS = [(0, 0), (-62_135_596_800, 0), (253_402_300_799, 999_999_999), (-1, 999_999_999)]
ODD_MOMENTS = [
    *((0, -1), (0, 10**9), (0, -(2**31)), (0, 2**31 - 1), (2**63 - 1, 0), (-(2**63), 0)),
    *((-62_135_596_801, 0), (253_402_300_800, 0), (-62_135_596_801, 999_999_999)),
]
SOUND_SPANS = [(0, 0), (0, -1), (1, 1), (-1, -1), (315_576_000_000, 0), (0, 999_999_999)]
ODD_SPANS = [
    *((1, -1), (-1, 1), (0, 10**9), (0, -(10**9)), (315_576_000_001, 0), (-315_576_000_001, 0)),
    *((2**63 - 1, 0), (-(2**63), -1)),
]


def paths(message: Any, **options: Any) -> list[str]:
    return [fault.field for fault in wellformed.faults(message, **options)]


@pytest.mark.parametrize("value", SOUND_MOMENTS)
def test_sound_moments_have_no_fault(value: tuple[int, int]) -> None:
    moment = Timestamp(seconds=value[0], nanos=value[1])
    moment.ToDatetime()
    assert not paths(events_service_pb2.ListTimersRequest(due_before=moment))


@pytest.mark.parametrize("value", ODD_MOMENTS)
def test_odd_moments_are_named(value: tuple[int, int]) -> None:
    moment = Timestamp(seconds=value[0], nanos=value[1])
    assert paths(events_service_pb2.ListTimersRequest(due_before=moment)) == ["due_before"]
    period = type_pb2.Period(start_at=moment, end_at=Timestamp(seconds=5))
    assert paths(charge_service_pb2.CreateChargeRequest(period=period)) == ["period.start_at"]
    # As a caller is told of it, by the whole validation: the rules' own engine is not asked.
    told = validation.violations(charge_service_pb2.CreateChargeRequest(period=period))
    assert [fault.field for fault in told] == ["period.start_at"]


@pytest.mark.parametrize("value", SOUND_SPANS)
def test_sound_spans_have_no_fault(value: tuple[int, int]) -> None:
    span = Duration(seconds=value[0], nanos=value[1])
    assert not paths(access_service_pb2.CreateApiKeyRequest(lifetime=span))


@pytest.mark.parametrize("value", ODD_SPANS)
def test_odd_spans_are_named(value: tuple[int, int]) -> None:
    span = Duration(seconds=value[0], nanos=value[1])
    assert paths(access_service_pb2.CreateApiKeyRequest(lifetime=span)) == ["lifetime"]


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_whatever_has_no_fault_is_a_moment(seconds: int, nanos: int) -> None:
    moment = Timestamp(seconds=seconds, nanos=nanos)
    if not paths(events_service_pb2.ListTimersRequest(due_before=moment)):
        assert 1 <= moment.ToDatetime().year <= 9999


def test_lists_and_messages_inside_of_messages_are_looked_at() -> None:
    request = catalog_service_pb2.ApplyCatalogRequest()
    request.catalog.entitlements.add(org_id="a").effective_at.seconds = 5
    request.catalog.entitlements.add(org_id="b").effective_at.nanos = -1
    assert paths(request) == ["catalog.entitlements[1].effective_at"]
    kind = events_pb2.EventType()
    kind.versions.add().cutover_at.seconds = 2**62
    assert paths(kind) == ["versions[0].cutover_at"]


def test_nul_is_found_in_texts_lists_and_maps() -> None:
    kind = events_pb2.EventType(owner="a\0", consumers=["ok", "\0"])
    assert paths(kind) == ["owner", "consumers[1]"]
    assert not paths(kind, nul_too=False)
    transfer = ledger_pb2.Transfer(metadata={"a": "x\0"})
    assert paths(transfer) == ["metadata['a']"]


def test_what_is_judged_item_by_item_is_left_to_its_owner() -> None:
    item = ledger_pb2.Transfer(metadata={"a": "\0"}, effective_at=Timestamp(nanos=-1))
    assert not paths(ledger_service_pb2.PostTransfersRequest(transfers=[item]))
    assert set(paths(item)) == {"metadata['a']", "effective_at"}


def odd(message: Any, field: FieldDescriptor) -> bool:
    """Put something odd into one field; False for a field that holds nothing of the sort."""
    kind = field.message_type
    if kind is not None and kind.full_name in (
        "google.protobuf.Timestamp",
        "google.protobuf.Duration",
    ):
        holder = getattr(message, field.name)
        if field.is_repeated:
            holder = holder.add()
        holder.seconds, holder.nanos = 2**62, -5
        return True
    if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
        setattr(message, field.name, "\0")
        return True
    return False


def test_no_request_lets_an_odd_value_through() -> None:
    """Over all messages that a request of ours can hold, one field after the other."""
    seen: set[str] = set()
    tried = 0
    files = (
        *(access_service_pb2, catalog_service_pb2, charge_service_pb2, contracts_service_pb2),
        *(events_service_pb2, ledger_service_pb2, metering_service_pb2),
        *(orchestration_service_pb2, pricing_service_pb2),
    )
    waiting = [
        method.input_type
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    while waiting:
        kind = waiting.pop()
        if kind.full_name in seen or not kind.full_name.startswith("payments."):
            continue
        seen.add(kind.full_name)
        for field in kind.fields:
            if field.message_type is not None:
                waiting.append(field.message_type)
            message = message_factory.GetMessageClass(kind)()
            rules = field.GetOptions().SerializeToString()
            if b"IGNORE" in rules or not odd(message, field):
                continue
            tried += 1
            found = [fault.field for fault in validation.violations(message)]
            is_output = field.name in {"created_at", "updated_at"} and kind.full_name in {
                "payments.ledger.v1.Account",
                "payments.ledger.v1.BalanceMonitor",
                "payments.ledger.v1.Recipe",
            }
            assert is_output or any(path.startswith(field.name) for path in found), (
                kind.full_name,
                field.name,
            )
    assert tried > 150
