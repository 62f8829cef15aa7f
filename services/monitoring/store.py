"""Every statement of the contract monitor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, exists, select, tuple_

from services.monitoring.domain import (
    FINGERPRINT_ALGORITHM,
    Contract,
    ContractKind,
    Position,
    Recorded,
    Violation,
    ViolationFilter,
)
from services.monitoring.tables import contract, violation
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.monitoring", "queries.sql")


async def lock_contracts(work: UnitOfWork) -> None:
    """Wait until no other transaction registers contracts of this tenant."""
    await work.execute(_SQL["lock_contracts"], {"tenant_id": work.tenant_id})


async def read_contracts(work: UnitOfWork, contract_ids: Collection[str]) -> dict[str, Contract]:
    """Read the registered contracts among these ids."""
    terms = {"tenant_id": work.tenant_id, "contract_ids": sorted(contract_ids)}
    rows = await work.execute(_SQL["read_contracts"], terms)
    return {row.contract_id: _contract(row) for row in rows}


async def list_contracts(work: UnitOfWork, after: str, limit: int) -> list[Contract]:
    """List the registered contracts behind `after`, by id."""
    terms = {"tenant_id": work.tenant_id, "after": after, "limit": limit}
    return [_contract(row) for row in await work.execute(_SQL["list_contracts"], terms)]


async def put_contract(work: UnitOfWork, item: Contract) -> None:
    """Insert a contract, or replace the version before it."""
    terms = {
        "tenant_id": work.tenant_id,
        "contract_id": item.contract_id,
        "title": item.title,
        "description": item.description,
        "owner": item.owner,
        "severity": item.severity,
        "kind": item.kind.value,
        "runbook": item.runbook,
        "version": item.version,
        "registered_at": item.registered_at,
    }
    await work.execute(_SQL["put_contract"], terms)


async def insert_violations(
    work: UnitOfWork, items: Mapping[str, tuple[Violation, int, bytes]]
) -> set[str]:
    """Insert violations by id, each with its contract's version and its fingerprint; return the new ids."""
    values = [item for item, _version, _fingerprint in items.values()]
    rows = await work.execute(
        _SQL["insert_violations"],
        {
            "tenant_id": work.tenant_id,
            "recorded_at": work.now,
            "fingerprint_algorithm": FINGERPRINT_ALGORITHM,
            "violation_ids": list(items),
            "contract_ids": [item.contract_id for item in values],
            "contract_versions": [version for _item, version, _fingerprint in items.values()],
            "request_ids": [item.request_id for item in values],
            "severities": [item.severity for item in values],
            "messages": [item.message for item in values],
            "services": [item.service for item in values],
            "subject_ids": [item.subject_id for item in values],
            "occurred_at": [item.occurred_at for item in values],
            "fingerprints": [group for _item, _version, group in items.values()],
        },
    )
    return {row.violation_id for row in rows}


async def list_violations(
    work: UnitOfWork, wanted: ViolationFilter, after: Position | None, limit: int
) -> list[Recorded]:
    """List violations behind a position, the last recorded first."""
    registered = exists().where(
        contract.c.tenant_id == violation.c.tenant_id,
        contract.c.contract_id == violation.c.contract_id,
    )
    statement = (
        select(violation, registered.label("registered"))
        .where(violation.c.tenant_id == work.tenant_id, *_conditions(wanted))
        .order_by(violation.c.recorded_at.desc(), violation.c.violation_id.desc())
        .limit(limit)
    )
    if after is not None:
        place = tuple_(violation.c.recorded_at, violation.c.violation_id)
        statement = statement.where(place < tuple_(after.recorded_at, after.violation_id))
    return [_recorded(row) for row in await work.execute(statement)]


def _conditions(wanted: ViolationFilter) -> list[ColumnElement[bool]]:
    columns = violation.c
    equal = {
        columns.contract_id: wanted.contract_id,
        columns.request_id: wanted.request_id,
        columns.fingerprint: wanted.fingerprint,
    }
    conditions = [column == value for column, value in equal.items() if value]
    if wanted.severity:
        # Before severities were read in any case, they were kept as they came.
        spellings = {wanted.severity, wanted.severity.upper(), wanted.severity.lower()}
        conditions.append(columns.severity.in_(sorted(spellings)))
    if wanted.start_at is not None:
        conditions.append(columns.occurred_at >= wanted.start_at)
    if wanted.end_at is not None:
        conditions.append(columns.occurred_at < wanted.end_at)
    return conditions


def _contract(row: Row[Any]) -> Contract:
    return Contract(
        contract_id=row.contract_id,
        title=row.title,
        description=row.description,
        owner=row.owner,
        severity=row.severity,
        kind=ContractKind(row.kind),
        runbook=row.runbook,
        version=row.version,
        registered_at=row.registered_at,
    )


def _recorded(row: Row[Any]) -> Recorded:
    return Recorded(
        violation=Violation(
            contract_id=row.contract_id,
            request_id=row.request_id,
            severity=row.severity,
            message=row.message,
            service=row.service,
            subject_id=row.subject_id,
            occurred_at=row.occurred_at,
        ),
        recorded_at=row.recorded_at,
        fingerprint=bytes(row.fingerprint),
        contract_registered=row.registered,
    )
