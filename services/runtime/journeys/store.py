"""Rows of journeys and their steps, in the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb

from services.runtime.database import UnitOfWork
from services.runtime.journeys.machine import Journey, Status, Step, StepKind
from services.runtime.postgres import sql

DATA_BYTES_MAX = 64 * 1024

# Sorts behind every name: the last code point that Postgres stores.
_LAST = "\U0010ffff"
_SQL = sql.load("services.runtime.journeys", "queries.sql")


async def lock(work: UnitOfWork, journey_type: str, journey_id: str) -> Journey | None:
    """Return a journey and keep it from others until the transaction ends; None when there is none."""
    return await _one(work, "lock_journey", journey_type, journey_id)


async def find(work: UnitOfWork, journey_type: str, journey_id: str) -> Journey | None:
    """Return a journey, or None."""
    return await _one(work, "get_journey", journey_type, journey_id)


async def claim(work: UnitOfWork, journey: Journey) -> bool:
    """Make the row of a journey that is to begin; False when there is one."""
    asked = {
        **_name(work, journey.journey_type, journey.journey_id),
        "version": journey.version,
        "correlation_id": journey.correlation_id,
        "now": journey.started_at,
    }
    return (await work.execute(_SQL["claim_journey"], asked)).first() is not None


async def save(work: UnitOfWork, journey: Journey) -> None:
    """Store a journey. Raises ValueError when its data is too large."""
    data = json.dumps(journey.data, ensure_ascii=False, allow_nan=False)
    if len(data.encode()) > DATA_BYTES_MAX:
        raise ValueError(
            f"journey {journey.journey_type} {journey.journey_id} may keep {DATA_BYTES_MAX} bytes: store a reference"
        )
    await work.execute(
        _SQL["move_journey"],
        {
            **_name(work, journey.journey_type, journey.journey_id),
            "state": journey.state,
            "status": journey.status,
            "data": data,
            "timers": Jsonb(dict(journey.timers)),
            "done": list(journey.done),
            "undoing": journey.undoing,
            "ending": journey.ending,
            "reason": journey.reason,
            "deadline_at": journey.deadline_at,
            "step_count": journey.step_count,
            "updated_at": journey.updated_at,
            "ended_at": journey.ended_at,
        },
    )


async def add_step(work: UnitOfWork, journey_type: str, journey_id: str, step: Step) -> None:
    """Leave a step behind."""
    await work.execute(
        _SQL["add_step"],
        {
            **_name(work, journey_type, journey_id),
            "kind": step.kind,
            "from_state": step.from_state,
            "to_state": step.to_state,
            "cause": step.cause,
            "cause_id": step.cause_id,
            "commands": json.dumps(step.commands),
            "at": step.at,
        },
    )


async def steps(work: UnitOfWork, journey_type: str, journey_id: str, limit: int) -> list[Step]:
    """Return the last steps of a journey, oldest first."""
    asked = {**_name(work, journey_type, journey_id), "limit": limit}
    rows = (await work.execute(_SQL["last_steps"], asked)).mappings()
    return [_step(row) for row in reversed(rows)]


async def page(
    work: UnitOfWork,
    journey_type: str,
    state: str,
    status: Status | None,
    after: tuple[str, str],
    limit: int,
) -> list[Journey]:
    """Return the first journeys behind a kind and id; empty filters leave none out."""
    asked = {
        "tenant_id": work.tenant_id,
        "first": journey_type,
        "last": journey_type or _LAST,
        "state": state,
        "after_type": after[0],
        "after_id": after[1],
        "limit": limit,
        **({"status": status} if status else {}),
    }
    query = _SQL["list_journeys_of_status" if status else "list_journeys"]
    return [_journey(row) for row in (await work.execute(query, asked)).mappings()]


async def _one(work: UnitOfWork, name: str, journey_type: str, journey_id: str) -> Journey | None:
    asked = _name(work, journey_type, journey_id)
    row = (await work.execute(_SQL[name], asked)).mapping()
    return _journey(row) if row else None


def _name(work: UnitOfWork, journey_type: str, journey_id: str) -> dict[str, Any]:
    return {
        "tenant_id": work.tenant_id,
        "journey_type": journey_type,
        "journey_id": journey_id,
    }


def _journey(row: Mapping[Any, Any]) -> Journey:
    values = {str(name): value for name, value in row.items()}
    values |= {
        "status": Status(values["status"]),
        "data": json.loads(values["data"]),
        "done": tuple(values["done"]),
    }
    return Journey(**values)


def _step(row: Mapping[Any, Any]) -> Step:
    values = {str(name): value for name, value in row.items()}
    values |= {"kind": StepKind(values["kind"]), "commands": json.loads(values["commands"])}
    return Step(**values)
