"""ContractMonitorService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from payments.contracts.v1 import contracts_pb2 as pb
from payments.contracts.v1 import contracts_service_pb2 as service_pb
from payments.contracts.v1 import contracts_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.monitoring.app import Monitor, Registration
from services.monitoring.domain import (
    Contract,
    ContractKind,
    Recorded,
    Violation,
    severity_fault,
)
from services.monitoring.store import Position, ViolationFilter
from services.runtime.clock import Clock
from services.runtime.edge import validation
from services.runtime.edge.paging import clamp_page_size, decode_token, encode_token
from services.runtime.errors import FieldViolation, InvalidField
from services.runtime.texts import storable
from services.runtime.turns import in_slices

BATCH_ITEMS_MAX = 1000
# Between two looks at what else is to be done.
SLICE_ITEMS = 100

_Context = grpc.aio.ServicerContext[Any, Any]
_KIND_PREFIX = "CONTRACT_KIND_"


class ContractMonitorServicer(contracts_service_pb2_grpc.ContractMonitorServiceServicer):
    """Answers the RPCs of ContractMonitorService."""

    def __init__(self, monitor: Monitor, clock: Clock) -> None:
        self._monitor = monitor
        self._clock = clock

    async def RegisterContracts(
        self, request: service_pb.RegisterContractsRequest, context: _Context
    ) -> service_pb.RegisterContractsResponse:
        """Register contracts, each judged by itself."""
        validation.check_batch(request.contracts, BATCH_ITEMS_MAX)
        faults = [
            [*validation.violations(item, nul_too=False), *_severity_faults(item)]
            for item in request.contracts
        ]
        sound = [item for item, fault in zip(request.contracts, faults, strict=True) if not fault]
        done = iter(await self._monitor.register([_contract(item) for item in sound]))
        response = service_pb.RegisterContractsResponse()
        for index, (item, fault) in enumerate(zip(request.contracts, faults, strict=True)):
            if fault:
                response.results.append(_refused_contract(index, item.contract_id, fault))
            else:
                response.results.append(_registration(index, next(done)))
        return response

    async def ListContracts(
        self, request: service_pb.ListContractsRequest, context: _Context
    ) -> service_pb.ListContractsResponse:
        """List contracts by id."""
        scope = "monitoring.contracts"
        position = decode_token(request.page_token, scope, {"contract_id": str})
        limit = clamp_page_size(request.page_size)
        found = await self._monitor.list_contracts(position.get("contract_id", ""), limit + 1)
        response = service_pb.ListContractsResponse(
            contracts=[_contract_message(item) for item in found[:limit]]
        )
        if len(found) > limit:
            last = found[limit - 1].contract_id
            response.next_page_token = encode_token({"contract_id": last}, scope)
        return response

    async def RecordViolations(
        self, request: service_pb.RecordViolationsRequest, context: _Context
    ) -> service_pb.RecordViolationsResponse:
        """Record violations, each judged by itself."""
        validation.check_batch(request.violations, BATCH_ITEMS_MAX)
        response = service_pb.RecordViolationsResponse()
        sound: list[tuple[int, Violation]] = []
        now = self._clock.now()
        async for index, item in in_slices(enumerate(request.violations), SLICE_ITEMS):
            fault = [*validation.violations(item, nul_too=False), *_severity_faults(item)]
            if fault:
                response.problems.append(_refused_violation(index, fault))
            else:
                sound.append((index, _violation(item, now)))
        new = await self._monitor.record([violation for _index, violation in sound])
        for (index, _), is_new in zip(sound, new, strict=True):
            if not is_new:
                response.problems.add(index=index, outcome=type_pb2.OUTCOME_DUPLICATE)
        response.problems.sort(key=lambda problem: problem.index)
        response.rejected = len(request.violations) - len(sound)
        response.accepted = sum(new)
        response.duplicate = len(sound) - response.accepted
        return response

    async def ListViolations(
        self, request: service_pb.ListViolationsRequest, context: _Context
    ) -> service_pb.ListViolationsResponse:
        """List violations, the last recorded first."""
        wanted = _filter(request)
        scope = f"monitoring.violations|{wanted!r}"
        after = _position(request.page_token, scope)
        limit = clamp_page_size(request.page_size)
        found = await self._monitor.list_violations(wanted, after, limit + 1)
        response = service_pb.ListViolationsResponse(
            violations=[_recorded_message(item) for item in found[:limit]]
        )
        if len(found) > limit:
            last = found[limit - 1]
            position = {
                "recorded_at": last.recorded_at.isoformat(),
                "violation_id": last.violation.violation_id,
            }
            response.next_page_token = encode_token(position, scope)
        return response


def _contract(message: pb.Contract) -> Contract:
    return Contract(
        contract_id=message.contract_id,
        title=storable(message.title),
        description=storable(message.description),
        owner=storable(message.owner),
        severity=message.severity.upper(),
        kind=ContractKind(pb.ContractKind.Name(message.kind).removeprefix(_KIND_PREFIX)),
        runbook=storable(message.runbook),
    )


def _contract_message(contract: Contract) -> pb.Contract:
    message = pb.Contract(
        contract_id=contract.contract_id,
        title=contract.title,
        description=contract.description,
        owner=contract.owner,
        severity=contract.severity,
        kind=pb.ContractKind.Value(_KIND_PREFIX + contract.kind),
        runbook=contract.runbook,
        version=contract.version,
        built_in=contract.built_in,
    )
    if contract.registered_at is not None:
        message.registered_at.FromDatetime(contract.registered_at)
    return message


def _registration(index: int, done: Registration) -> service_pb.RegisterContractResult:
    return service_pb.RegisterContractResult(
        index=index,
        contract_id=done.contract.contract_id,
        outcome=type_pb2.OUTCOME_ACCEPTED if done.changed else type_pb2.OUTCOME_DUPLICATE,
        version=done.contract.version,
    )


def _refused_contract(
    index: int, contract_id: str, faults: Sequence[FieldViolation]
) -> service_pb.RegisterContractResult:
    error = InvalidField.of(faults)
    return service_pb.RegisterContractResult(
        index=index,
        contract_id=contract_id,
        outcome=type_pb2.OUTCOME_REJECTED,
        reason=error.reason,
        message=error.message,
    )


def _refused_violation(index: int, faults: Sequence[FieldViolation]) -> service_pb.ViolationProblem:
    error = InvalidField.of(faults)
    return service_pb.ViolationProblem(
        index=index,
        outcome=type_pb2.OUTCOME_REJECTED,
        reason=error.reason,
        message=error.message,
    )


def _severity_faults(message: pb.Contract | pb.ContractViolation) -> list[FieldViolation]:
    fault = severity_fault(message.severity)
    return [FieldViolation("severity", fault)] if fault else []


def _violation(message: pb.ContractViolation, now: datetime) -> Violation:
    return Violation(
        contract_id=message.contract_id,
        request_id=storable(message.request_id),
        severity=message.severity.upper(),
        message=storable(message.message),
        service=storable(message.service),
        subject_id=storable(message.subject_id),
        occurred_at=_datetime(message.occurred_at) if message.HasField("occurred_at") else now,
    )


def _recorded_message(recorded: Recorded) -> pb.ContractViolation:
    violation = recorded.violation
    message = pb.ContractViolation(
        contract_id=violation.contract_id,
        request_id=violation.request_id,
        severity=violation.severity,
        message=violation.message,
        service=violation.service,
        subject_id=violation.subject_id,
        violation_id=violation.violation_id,
        fingerprint=recorded.fingerprint.hex(),
        contract_registered=recorded.contract_registered,
    )
    message.occurred_at.FromDatetime(violation.occurred_at)
    message.recorded_at.FromDatetime(recorded.recorded_at)
    return message


def _filter(request: service_pb.ListViolationsRequest) -> ViolationFilter:
    period = request.period if request.HasField("period") else None
    return ViolationFilter(
        contract_id=storable(request.contract_id),
        severity=storable(request.severity),
        request_id=storable(request.request_id),
        fingerprint=bytes.fromhex(request.fingerprint),
        start_at=_datetime(period.start_at) if period else None,
        end_at=_datetime(period.end_at) if period else None,
    )


def _position(page_token: str, scope: str) -> Position | None:
    position = decode_token(page_token, scope, {"recorded_at": datetime, "violation_id": str})
    return Position(position["recorded_at"], position["violation_id"]) if position else None


def _datetime(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)
