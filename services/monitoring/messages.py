"""Contracts and violations, as messages and back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from payments.contracts.v1 import contracts_pb2 as pb
from payments.contracts.v1 import contracts_service_pb2 as service_pb
from payments.type.v1 import type_pb2

from services.monitoring.domain import (
    Contract,
    ContractKind,
    Recorded,
    Registration,
    Violation,
    ViolationFilter,
    severity_fault,
)
from services.runtime.edge.values import Names, moment_of, moment_or_none
from services.runtime.errors import FieldViolation, InvalidField
from services.runtime.texts import storable

_KINDS = Names(ContractKind, pb.ContractKind, "CONTRACT_KIND_")


def contract_of(message: pb.Contract) -> Contract:
    """Read a contract."""
    return Contract(
        contract_id=message.contract_id,
        title=storable(message.title),
        description=storable(message.description),
        owner=storable(message.owner),
        severity=message.severity.upper(),
        kind=_KINDS.read(message.kind) or ContractKind.UNSPECIFIED,
        runbook=storable(message.runbook),
    )


def contract(held: Contract) -> pb.Contract:
    """Write a held."""
    message = pb.Contract(
        contract_id=held.contract_id,
        title=held.title,
        description=held.description,
        owner=held.owner,
        severity=held.severity,
        kind=_KINDS.write(held.kind),
        runbook=held.runbook,
        version=held.version,
        built_in=held.built_in,
    )
    if held.registered_at is not None:
        message.registered_at.FromDatetime(held.registered_at)
    return message


def registration(index: int, done: Registration) -> service_pb.RegisterContractResult:
    """Return the result message of a registered contract."""
    return service_pb.RegisterContractResult(
        index=index,
        contract_id=done.contract.contract_id,
        outcome=type_pb2.OUTCOME_ACCEPTED if done.changed else type_pb2.OUTCOME_DUPLICATE,
        version=done.contract.version,
    )


def refused_contract(
    index: int, contract_id: str, faults: Sequence[FieldViolation]
) -> service_pb.RegisterContractResult:
    """Write why a contract is refused."""
    error = InvalidField.of(faults)
    return service_pb.RegisterContractResult(
        index=index,
        contract_id=contract_id,
        outcome=type_pb2.OUTCOME_REJECTED,
        reason=error.reason,
        message=error.message,
    )


def refused_violation(index: int, faults: Sequence[FieldViolation]) -> service_pb.ViolationProblem:
    """Write why a violation is refused."""
    error = InvalidField.of(faults)
    return service_pb.ViolationProblem(
        index=index,
        outcome=type_pb2.OUTCOME_REJECTED,
        reason=error.reason,
        message=error.message,
    )


def severity_faults(message: pb.Contract | pb.ContractViolation) -> list[FieldViolation]:
    """Say what is wrong with a severity."""
    fault = severity_fault(message.severity)
    return [FieldViolation("severity", fault)] if fault else []


def violation_of(message: pb.ContractViolation, now: datetime) -> Violation:
    """Read a violation; one without a time happened now."""
    return Violation(
        contract_id=message.contract_id,
        request_id=storable(message.request_id),
        severity=message.severity.upper(),
        message=storable(message.message),
        service=storable(message.service),
        subject_id=storable(message.subject_id),
        occurred_at=moment_or_none(message, "occurred_at") or now,
    )


def recorded(held: Recorded) -> pb.ContractViolation:
    """Write a violation that was held."""
    violation = held.violation
    message = pb.ContractViolation(
        contract_id=violation.contract_id,
        request_id=violation.request_id,
        severity=violation.severity,
        message=violation.message,
        service=violation.service,
        subject_id=violation.subject_id,
        violation_id=violation.violation_id,
        fingerprint=held.fingerprint.hex(),
        contract_registered=held.contract_registered,
    )
    message.occurred_at.FromDatetime(violation.occurred_at)
    message.recorded_at.FromDatetime(held.recorded_at)
    return message


def filter_of(request: service_pb.ListViolationsRequest) -> ViolationFilter:
    """Read which violations are asked for."""
    period = request.period if request.HasField("period") else None
    return ViolationFilter(
        contract_id=storable(request.contract_id),
        severity=storable(request.severity),
        request_id=storable(request.request_id),
        fingerprint=bytes.fromhex(request.fingerprint),
        start_at=moment_of(period.start_at) if period else None,
        end_at=moment_of(period.end_at) if period else None,
    )
