"""Makes the catalogue contain a declaration."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime

from services.pricing import facts, store
from services.pricing.domain import changes as deciding
from services.pricing.domain import moves as moving
from services.pricing.domain.catalog import (
    Catalog,
    OrgBusinessModel,
    Plan,
    Status,
    entity_id,
)
from services.pricing.domain.changes import Change
from services.pricing.domain.errors import PlanInUse, PlanNotActive
from services.pricing.domain.moves import Leaving, Migration, Moves
from services.runtime.access import SCOPE_ALL
from services.runtime.context import current
from services.runtime.database import UnitOfWork
from services.runtime.errors import CurrencyMismatch, NotFound, ScopeMissing, UnfitNow
from services.runtime.turns import in_slices

# What it takes to put an organisation on a business model.
ASSIGN_SCOPE = "pricing:admin"
_APPLY_METHOD = "/payments.pricing.v1.CatalogService/ApplyCatalog"
MOVES_DEFAULT = 100


@dataclass(frozen=True, slots=True)
class Publish:
    """Which draft is to be published, and from when its list holds; None: as it says itself."""

    plan_id: str
    effective_at: datetime | None


async def apply_catalog(catalog: Catalog, work: UnitOfWork) -> list[Change]:
    """Make the catalogue contain a declaration; audit entries and events commit with it.

    Raises:
        DomainError: the declaration cannot be applied; nothing of it is (see `domain.changes`).
    """
    # A large catalogue takes so long that others should have their turns.
    await asyncio.to_thread(deciding.check, catalog)
    await store.lock_catalog(work)
    stored = await store.load_stored(work, catalog)
    moved = deciding.reaggregated(catalog, stored)
    elsewhere = await store.prices_of(work, moved) if moved else []
    actor = current().principal_id
    decided = await asyncio.to_thread(deciding.decide, catalog, stored, work.now, elsewhere, actor)
    _refuse_assignment(decided)
    await _keep(work, decided)
    for change in decided:
        if _archives(change):
            await _refuse_in_use(work, entity_id(change.after))
    return decided


async def publish_plan(command: Publish, work: UnitOfWork) -> Plan:
    """Make the list of a draft version 1 of its plan.

    Raises:
        NotFound: no such plan.
        PlanNotActive: it is archived.
    """
    await store.lock_catalog(work)
    plan = await _plan(work, command.plan_id)
    if plan.status is Status.ARCHIVED:
        raise PlanNotActive(
            f"plan {plan.plan_id} is archived; declare it with another status first",
            plan_id=plan.plan_id,
        )
    if plan.version:
        return plan
    effective_at = command.effective_at or plan.effective_at
    return await _declared(work, replace(plan, status=Status.ACTIVE, effective_at=effective_at))


async def archive_plan(plan_id: str, work: UnitOfWork) -> Plan:
    """End a plan that nobody is on.

    Raises:
        NotFound: no such plan.
        PlanInUse: somebody is on it, or will be.
    """
    await store.lock_catalog(work)
    plan = await _plan(work, plan_id)
    return await _declared(work, replace(plan, status=Status.ARCHIVED))


async def assign_business_model(assigned: OrgBusinessModel, work: UnitOfWork) -> OrgBusinessModel:
    """Put an organisation on a business model, or elsewhere in one.

    Raises:
        DomainError: as for a declaration of it.
    """
    (change,) = await apply_catalog(Catalog(org_business_models=(assigned,)), work)
    assert isinstance(change.after, OrgBusinessModel)
    return change.after


async def migrate_plan(migration: Migration, work: UnitOfWork) -> Moves:
    """Move some of those who are on a plan at an instant, or come onto it later, to another.

    Raises:
        NotFound: no such plan, or no such version of it.
        PlanNotActive: the other plan takes nobody new.
        CurrencyMismatch: the plans are in different currencies.
        UnfitNow: the other plan has no list in effect at the instant.
    """
    await store.lock_catalog(work)
    await _check_target(work, migration)
    in_force = await store.version_in_force(work, migration.plan_id, migration.effective_at)
    leaving = Leaving(migration, unpinned=migration.version in (0, in_force))
    found, total = await store.subscribers(work, leaving, migration.limit or MOVES_DEFAULT)
    held = await store.entitlements_of(work, [org_id for org_id, _ in found]) if found else {}
    moves = moving.batch(leaving, [(org_id, held[org_id], by_model) for org_id, by_model in found])
    await _keep(work, [change for move in moves for change in move.changes])
    return Moves(moves, total - len(moves))


async def _check_target(work: UnitOfWork, migration: Migration) -> None:
    source = await _plan(work, migration.plan_id, migration.version)
    target = await _plan(work, migration.to_plan_id, migration.to_version)
    if target.status is not Status.ACTIVE:
        raise PlanNotActive(
            f"plan {target.plan_id} takes nobody new; migrate to another", plan_id=target.plan_id
        )
    if target.currency_code != source.currency_code:
        raise CurrencyMismatch(
            f"plan {target.plan_id} is in {target.currency_code}, {source.plan_id} in {source.currency_code}; "
            "an organisation changes its currency by an entitlement of its own",
            left=source.currency_code,
            right=target.currency_code,
        )
    at = migration.effective_at
    if not migration.to_version and not await store.version_in_force(work, target.plan_id, at):
        raise UnfitNow.one(
            "effective_at", f"plan {target.plan_id} has no price list in effect then"
        )


async def _plan(work: UnitOfWork, plan_id: str, version: int = 0) -> Plan:
    found = await store.plan(work, plan_id, version)
    if found is None:
        raise NotFound("plan", f"{plan_id} version {version}" if version else plan_id)
    return found


async def _declared(work: UnitOfWork, plan: Plan) -> Plan:
    (change,) = await apply_catalog(Catalog(plans=(plan,)), work)
    assert isinstance(change.after, Plan)
    return change.after


def _refuse_assignment(changes: list[Change]) -> None:
    scopes = current().scopes
    if ASSIGN_SCOPE in scopes or SCOPE_ALL in scopes:
        return
    for change in changes:
        if isinstance(change.after, OrgBusinessModel) and change.before != change.after:
            raise ScopeMissing(
                f"to put {change.after.org_id} on a business model needs scope {ASSIGN_SCOPE}; "
                "use a key that has it, or create one with `tollmesh keys create --scope`",
                scope=ASSIGN_SCOPE,
                method=_APPLY_METHOD,
            )


def _archives(change: Change) -> bool:
    plan, before = change.after, change.before
    if not isinstance(plan, Plan) or plan.status is not Status.ARCHIVED:
        return False
    return not isinstance(before, Plan) or before.status is not Status.ARCHIVED


async def _refuse_in_use(work: UnitOfWork, plan_id: str) -> None:
    everybody = Migration(plan_id, 0, "", 0, work.now, drop_overrides=False, limit=1)
    found, total = await store.subscribers(work, Leaving(everybody, unpinned=True), 1)
    model_id = await store.model_with_default(work, plan_id)
    if not found and model_id is None:
        return
    user = found[0][0] if found else f"business model {model_id}"
    others = f" and {total - 1} others" if total > 1 else ""
    raise PlanInUse(
        f"plan {plan_id} is in use by {user}{others}; move who is on it, or give the business model another default, "
        "before it is archived",
        plan_id=plan_id,
        user=user,
    )


async def _keep(work: UnitOfWork, changes: list[Change]) -> None:
    """Store what changed, with its audit entries and events."""
    await store.save(work, changes)
    async for change in in_slices(changes, 20):
        if change.before != change.after:
            await _tell(work, change)


async def _tell(work: UnitOfWork, change: Change) -> None:
    before, after, events = await asyncio.to_thread(facts.of_change, change)
    work.audit(change.after.entity, entity_id(change.after), before, after)
    for event in events:
        work.publish(event)
