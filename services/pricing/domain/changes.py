"""What applying a declaration does to a catalogue: decided here, stored elsewhere.

Nothing is deleted: what a declaration leaves out stays. A plan's published price list never changes: a list that
differs becomes a new version (rule: `docs/decisions/0061-plan-versions.md`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise

from services.pricing.domain.catalog import (
    BusinessModel,
    Catalog,
    CommissionRate,
    Entitlement,
    Entity,
    OrgBusinessModel,
    PartnerOfRecord,
    Plan,
    PlanPrice,
    RecordStatus,
    Sku,
    Status,
    entity_id,
)
from services.pricing.domain.errors import (
    CatalogReferenceMissing,
    ModelCodeTaken,
    PartnersOverlap,
    PlanNotActive,
    PlanVersionFrozen,
)
from services.pricing.domain.values import BEGINNING
from services.runtime.errors import CurrencyMismatch, FieldViolation, InvalidField
from services.runtime.money import exponent

# Tiers in one price list: it must fit into an event and into a page.
TIERS_MAX = 2_000

# Everything known of a catalogue, by (entity, *key).
StoredEntities = Mapping[tuple[object, ...], Entity]


class ChangeKind(StrEnum):
    """What became of a declared thing."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a declared thing: its content before (None: it is new) and now."""

    before: Entity | None
    after: Entity

    @property
    def kind(self) -> ChangeKind:
        """Created, updated or unchanged."""
        if self.before is None:
            return ChangeKind.CREATED
        return ChangeKind.UNCHANGED if self.before == self.after else ChangeKind.UPDATED


def entity_key(entity: Entity) -> tuple[object, ...]:
    """Return what an entity is found by among those that are stored."""
    return (entity.entity, *entity.key)


def declared(catalog: Catalog) -> Iterator[tuple[str, Entity]]:
    """Yield every declared thing with its path, in the order in which things are applied."""
    groups: tuple[tuple[str, tuple[Entity, ...]], ...] = (
        ("skus", catalog.skus),
        ("business_models", catalog.business_models),
        ("plans", catalog.plans),
        ("org_business_models", catalog.org_business_models),
        ("entitlements", catalog.entitlements),
        ("partners", catalog.partners),
        ("partners_of_record", catalog.partners_of_record),
        ("commission_rates", catalog.commission_rates),
    )
    for name, entities in groups:
        for index, entity in enumerate(entities):
            yield f"catalog.{name}[{index}]", entity


def check(catalog: Catalog) -> None:
    """Find every fault that a declaration has by itself.

    Raises:
        InvalidField: names each fault.
        UnknownCurrency: a currency code that is not in ISO 4217.
    """
    faults = [*_repeated(catalog), *_faulty(catalog)]
    if faults:
        raise InvalidField.of(faults[:100])
    for currency_code in [item.currency_code for item in catalog.plans]:
        exponent(currency_code)
    for currency_code in [item.currency_code for item in catalog.business_models]:
        exponent(currency_code)


def decide(catalog: Catalog, stored: StoredEntities, now: datetime) -> list[Change]:
    """Decide what applying a checked declaration changes; `stored` holds all that it names.

    Raises:
        CatalogReferenceMissing, PlanVersionFrozen, PlanNotActive, PartnersOverlap, ModelCodeTaken,
        CurrencyMismatch: the declaration does not fit; nothing of it is applied.
    """
    changes = []
    for _, entity in declared(catalog):
        before = stored.get(entity_key(entity))
        changes.append(Change(before, _settled(entity, before, now)))
    merged = {**stored, **{entity_key(change.after): change.after for change in changes}}
    _refuse_missing(catalog, merged)
    _refuse_closed_plans(changes, merged)
    _refuse_foreign_currencies(merged)
    _refuse_shared_codes(merged)
    _refuse_overlaps(merged)
    return changes


def _settled(entity: Entity, before: Entity | None, now: datetime) -> Entity:
    if isinstance(entity, Plan):
        assert before is None or isinstance(before, Plan)
        return _published(entity, before, now)
    if isinstance(entity, BusinessModel) and not entity.code:
        return replace(entity, code=entity.model_id)
    return entity


def _published(plan: Plan, newest: Plan | None, now: datetime) -> Plan:
    """Give a declared plan its version and the time from when its list holds."""
    if newest is None:
        return replace(plan, version=plan.version or 1, effective_at=plan.effective_at or BEGINNING)
    same = _same_list(plan, newest)
    if same and plan.version in (0, newest.version):
        return replace(plan, version=newest.version, effective_at=newest.effective_at)
    if plan.version and plan.version <= newest.version:
        raise PlanVersionFrozen(
            f"version {plan.version} of plan {plan.plan_id} cannot be declared with this price list: versions up to "
            f"{newest.version} are published and never change; leave the version out or give one above",
            plan_id=plan.plan_id,
            version=plan.version,
            newest_version=newest.version,
        )
    version = plan.version or newest.version + 1
    return replace(plan, version=version, effective_at=plan.effective_at or now)


def _same_list(plan: Plan, newest: Plan) -> bool:
    same_time = plan.effective_at in (None, newest.effective_at)
    same_money = plan.currency_code == newest.currency_code
    return same_money and same_time and plan.prices == newest.prices


def _repeated(catalog: Catalog) -> Iterator[FieldViolation]:
    seen: set[tuple[object, ...]] = set()
    for path, entity in declared(catalog):
        key = entity_key(entity)
        if key in seen:
            yield FieldViolation(path, f"{entity.entity} {entity_id(entity)} is declared twice")
        seen.add(key)


def _faulty(catalog: Catalog) -> Iterator[FieldViolation]:
    for path, entity in declared(catalog):
        if isinstance(entity, Plan):
            yield from _faulty_prices(f"{path}.prices", entity.prices)
        if isinstance(entity, Entitlement):
            yield from _faulty_prices(f"{path}.overrides", entity.overrides)
        if isinstance(entity, PartnerOfRecord) and not entity.lasts:
            yield FieldViolation(f"{path}.end_at", "must be after start_at")


def _faulty_prices(path: str, prices: tuple[PlanPrice, ...]) -> Iterator[FieldViolation]:
    tiers = sum(item.price.tier_count for item in prices)
    if tiers > TIERS_MAX:
        yield FieldViolation(path, f"{tiers} tiers in one list; the limit is {TIERS_MAX}")
    # A list is sorted by SKU when it is read, so a price is named by its SKU, not by its place.
    seen: set[str] = set()
    for item in prices:
        if item.sku in seen:
            yield FieldViolation(f"{path}[{item.sku}]", "the SKU is priced twice")
        seen.add(item.sku)
        for where, problem in item.price.problems():
            yield FieldViolation(f"{path}[{item.sku}].price.{where}", problem)


def _references(entity: Entity) -> Iterator[tuple[str, str, str]]:
    """Yield (field, entity, id) of everything that an entity names."""
    if isinstance(entity, Plan):
        yield "model_id", BusinessModel.entity, entity.model_id
        yield from (("prices", Sku.entity, item.sku) for item in entity.prices)
    elif isinstance(entity, BusinessModel):
        yield "default_plan_id", Plan.entity, entity.default_plan_id
    elif isinstance(entity, OrgBusinessModel):
        yield "model_id", BusinessModel.entity, entity.model_id
        yield "plan_id", Plan.entity, entity.plan_id
    elif isinstance(entity, Entitlement):
        yield "plan_id", Plan.entity, entity.plan_id
        yield from (("overrides", Sku.entity, item.sku) for item in entity.overrides)
    elif isinstance(entity, PartnerOfRecord):
        yield "partner_id", "partner", entity.partner_id
    elif isinstance(entity, CommissionRate):
        yield "sku", Sku.entity, entity.sku


def named(catalog: Catalog) -> dict[str, set[str]]:
    """Return the ids that a declaration names, its own and its references, by entity."""
    ids: dict[str, set[str]] = {}
    for _, entity in declared(catalog):
        ids.setdefault(entity.entity, set()).add(entity.key[0])
        for _, other, other_id in _references(entity):
            if other_id:
                ids.setdefault(other, set()).add(other_id)
    return ids


def _refuse_missing(catalog: Catalog, merged: StoredEntities) -> None:
    missing = [
        (f"{path}.{field}", other, other_id)
        for path, entity in declared(catalog)
        for field, other, other_id in _references(entity)
        if other_id and (other, other_id) not in merged
    ]
    if missing:
        names = sorted({f"{other}:{other_id}" for _, other, other_id in missing})
        raise CatalogReferenceMissing(
            f"declare {', '.join(names[:20])} in this catalogue or in an earlier one",
            fields=[
                FieldViolation(path, f"{other} {other_id} is not declared")
                for path, other, other_id in missing[:100]
            ],
            missing=",".join(names[:20]),
        )


def _plan_taken(entity: Entity | None) -> str:
    """Return the plan that an entity puts somebody on, or ""."""
    if isinstance(entity, Entitlement | OrgBusinessModel):
        return entity.plan_id
    return entity.default_plan_id if isinstance(entity, BusinessModel) else ""


def _refuse_closed_plans(changes: list[Change], merged: StoredEntities) -> None:
    for change in changes:
        plan_id = _plan_taken(change.after)
        plan = merged.get((Plan.entity, plan_id))
        closed = isinstance(plan, Plan) and plan.status is Status.DEPRECATED
        if closed and plan_id != _plan_taken(change.before):
            raise PlanNotActive(
                f"plan {plan_id} is deprecated and cannot be assigned anew; use another for "
                f"{change.after.entity} {entity_id(change.after)}",
                plan_id=plan_id,
            )


def _refuse_foreign_currencies(merged: StoredEntities) -> None:
    for plan in merged.values():
        if not isinstance(plan, Plan) or not plan.model_id:
            continue
        model = merged.get((BusinessModel.entity, plan.model_id))
        if isinstance(model, BusinessModel) and model.currency_code != plan.currency_code:
            raise CurrencyMismatch(
                f"plan {plan.plan_id} is in {plan.currency_code}, its business model {model.model_id} in "
                f"{model.currency_code}; give both the same currency",
                left=plan.currency_code,
                right=model.currency_code,
            )


def _refuse_shared_codes(merged: StoredEntities) -> None:
    owners: dict[str, str] = {}
    for model in merged.values():
        if isinstance(model, BusinessModel):
            owner = owners.setdefault(model.code, model.model_id)
            if owner != model.model_id:
                raise ModelCodeTaken(
                    f"business models {owner} and {model.model_id} cannot both have the code {model.code}",
                    code=model.code,
                    model_id=owner,
                )


def _refuse_overlaps(merged: StoredEntities) -> None:
    active = [
        item
        for item in merged.values()
        if isinstance(item, PartnerOfRecord) and item.status is RecordStatus.ACTIVE
    ]
    active.sort(key=lambda item: (item.org_id, item.start_at))
    for earlier, later in pairwise(active):
        overlaps = earlier.end_at is None or later.start_at < earlier.end_at
        if earlier.org_id == later.org_id and overlaps:
            raise PartnersOverlap(
                f"partners {earlier.partner_id} and {later.partner_id} would both earn on {later.org_id} from "
                f"{later.start_at.isoformat()}; end one before the other starts",
                org_id=later.org_id,
                partner_id=earlier.partner_id,
                other_partner_id=later.partner_id,
            )
