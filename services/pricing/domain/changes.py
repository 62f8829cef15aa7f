"""What applying a declaration does to a catalogue: decided here, stored elsewhere.

Nothing is deleted: what a declaration leaves out stays. A plan's published price list never changes: a list that
differs becomes a new version (rule: `docs/decisions/0061-plan-versions.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

from services.pricing.domain.catalog import (
    AccountPartnerStatus,
    Aggregation,
    BillingAccountOrg,
    BillingAccountPartner,
    BusinessModel,
    Catalog,
    CommissionRate,
    Dispute,
    Entitlement,
    Entity,
    OrgBusinessModel,
    PartnerOfRecord,
    Plan,
    PlanPrice,
    PlanVersion,
    RecordStatus,
    Sku,
    Status,
    entity_id,
)
from services.pricing.domain.errors import (
    AccountPartnersOverlap,
    BillingAccountsOverlap,
    CatalogReferenceMissing,
    DisputeConflict,
    ModelCodeTaken,
    PartnersOverlap,
    PlanNotActive,
    PlanVersionFrozen,
    TaxesTooMany,
)
from services.pricing.domain.pairs import check_pair
from services.pricing.domain.prices import Price
from services.pricing.domain.tax_table import TaxProfile, TaxRate
from services.pricing.domain.values import BEGINNING
from services.runtime.errors import CurrencyMismatch, FieldViolation, InvalidField
from services.runtime.money import exponent

# Tiers in one price list: it must fit into an event and into a page.
TIERS_MAX = 2_000
# Taxes of one jurisdiction: a line bears those of a country and of a region, each with a posting of its own.
TAXES_MAX = 4

# Everything known of a catalogue, by (entity, *key).
StoredEntities = Mapping[tuple[object, ...], Entity | PlanVersion]
# A plan with one of these takes nobody new.
_CLOSED = {Status.DEPRECATED: "deprecated", Status.ARCHIVED: "archived", Status.DRAFT: "a draft"}


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


@dataclass(frozen=True, slots=True)
class PricedAt:
    """A price of a SKU somewhere in the catalogue.

    Attributes:
        where: names its place for people, e.g. `plan standard version 2`.
    """

    where: str
    sku: str
    price: Price


def entity_key(entity: Entity | PlanVersion) -> tuple[object, ...]:
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
        ("tax_rates", catalog.tax_rates),
        ("tax_profiles", catalog.tax_profiles),
        ("tax_policies", catalog.tax_policies),
        ("billing_account_orgs", catalog.billing_account_orgs),
        ("billing_account_partners", catalog.billing_account_partners),
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


def reaggregated(catalog: Catalog, stored: StoredEntities) -> set[str]:
    """Return the stored SKUs whose aggregation a declaration changes: prices that it does not name must still fit."""
    found = set()
    for sku in catalog.skus:
        before = stored.get(entity_key(sku))
        if isinstance(before, Sku) and before.aggregation is not sku.aggregation:
            found.add(sku.sku)
    return found


def decide(
    catalog: Catalog,
    stored: StoredEntities,
    now: datetime,
    elsewhere: Iterable[PricedAt] = (),
    actor: str = "",
) -> list[Change]:
    """Decide what applying a checked declaration changes; `stored` holds all that it names.

    `elsewhere` are the stored prices of the SKUs that it aggregates in another way, `actor` is who declares it.

    Raises:
        CatalogReferenceMissing, PlanVersionFrozen, PlanNotActive, PartnersOverlap,
        BillingAccountsOverlap, AccountPartnersOverlap, ModelCodeTaken, DisputeConflict,
        TaxesTooMany, CurrencyMismatch, AggregationNotPriceable: the declaration does not fit; nothing of it is applied.
    """
    changes = []
    for _, entity in declared(catalog):
        before = stored.get(entity_key(entity))
        assert not isinstance(before, PlanVersion)
        changes.append(Change(before, _settled(entity, before, now, actor)))
    merged = {**stored, **{entity_key(change.after): change.after for change in changes}}
    for change in changes:
        if isinstance(change.after, Plan) and change.after.version:
            published = PlanVersion(change.after.plan_id, change.after.version)
            merged[entity_key(published)] = published
    _refuse_missing(catalog, merged)
    _refuse_closed_plans(changes, merged)
    _refuse_foreign_currencies(merged)
    _refuse_shared_codes(merged)
    _refuse_overlaps(merged)
    _refuse_overlapping_accounts(merged)
    _refuse_shared_disputes(merged)
    _refuse_reopened(changes)
    _refuse_many_taxes(merged)
    _refuse_pairs(catalog, merged, elsewhere)
    return changes


def _settled(entity: Entity, before: Entity | None, now: datetime, actor: str) -> Entity:
    if isinstance(entity, Plan):
        assert before is None or isinstance(before, Plan)
        return _published(entity, before, now)
    if isinstance(entity, BusinessModel) and not entity.code:
        return replace(entity, code=entity.model_id)
    if isinstance(entity, OrgBusinessModel):
        assert before is None or isinstance(before, OrgBusinessModel)
        return _assigned(entity, before, now, actor)
    return entity


def _assigned(
    entity: OrgBusinessModel, before: OrgBusinessModel | None, now: datetime, actor: str
) -> OrgBusinessModel:
    """Fill in who put an organisation on a model and when, where the declaration leaves it out."""
    by: str = actor
    at: datetime | None = now
    if before is not None and (before.model_id, before.plan_id) == (
        entity.model_id,
        entity.plan_id,
    ):
        by, at = before.assigned_by, before.assigned_at
    return replace(
        entity, assigned_by=entity.assigned_by or by, assigned_at=entity.assigned_at or at
    )


def _published(plan: Plan, newest: Plan | None, now: datetime) -> Plan:
    """Give a declared plan its version and the time from when its list holds."""
    if newest is None or newest.version == 0:
        if plan.status is Status.DRAFT or (newest and plan.status is Status.ARCHIVED):
            return plan
        return replace(plan, version=plan.version or 1, effective_at=plan.effective_at or BEGINNING)
    if plan.status is Status.DRAFT:
        raise PlanVersionFrozen(
            f"plan {plan.plan_id} is published and never is a draft again; declare what is to come as a list with a "
            "later effective_at, or as another plan",
            plan_id=plan.plan_id,
            version=plan.version,
            newest_version=newest.version,
        )
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
    if plan.status is Status.ARCHIVED:
        raise PlanNotActive(
            f"plan {plan.plan_id} is to be archived and given another list; an archived plan takes none",
            plan_id=plan.plan_id,
        )
    version = plan.version or newest.version + 1
    return replace(plan, version=version, effective_at=plan.effective_at or now)


def _same_list(plan: Plan, newest: Plan) -> bool:
    same_time = plan.effective_at in (None, newest.effective_at)
    same_money = plan.currency_code == newest.currency_code
    same_prices = (plan.prices, plan.proration) == (newest.prices, newest.proration)
    return same_money and same_time and same_prices


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
            if entity.status is Status.DRAFT and entity.version:
                yield FieldViolation(f"{path}.version", "a draft has no version")
            yield from _faulty_prices(f"{path}.prices", entity.prices)
        if isinstance(entity, Entitlement):
            yield from _faulty_prices(f"{path}.overrides", entity.overrides)
        if isinstance(entity, PartnerOfRecord):
            yield from _faulty_record(path, entity)
        if isinstance(entity, TaxRate | TaxProfile):
            for field, problem in entity.faults():
                yield FieldViolation(f"{path}.{field}", problem)
        if isinstance(entity, BillingAccountOrg | BillingAccountPartner) and not entity.lasts:
            yield FieldViolation(f"{path}.end_at", "must be after start_at")


def _faulty_record(path: str, record: PartnerOfRecord) -> Iterator[FieldViolation]:
    if not record.lasts:
        yield FieldViolation(f"{path}.end_at", "must be after start_at")
    dispute = record.dispute
    if dispute is None:
        return
    if record.status is RecordStatus.ACTIVE:
        yield FieldViolation(
            f"{path}.dispute", "must be left out of an active record; make it STATUS_DISPUTED"
        )
    if dispute.resolution and dispute.resolution.resolved_at < dispute.opened_at:
        yield FieldViolation(
            f"{path}.dispute.resolution.resolved_at", "must not be before opened_at"
        )


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
        if entity.dispute and entity.dispute.resolution:
            found = entity.dispute.resolution.partner_id
            yield "dispute.resolution.partner_id", "partner", found
    elif isinstance(entity, BillingAccountPartner):
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


def disputes(catalog: Catalog) -> set[str]:
    """Return the ids of disputes that a declaration names."""
    return {item.dispute.dispute_id for item in catalog.partners_of_record if item.dispute}


def pinned(catalog: Catalog) -> set[tuple[str, int]]:
    """Return the versions of plans that a declaration holds organisations to."""
    return {(held.plan_id, held.plan_version) for held in catalog.entitlements if held.plan_version}


def _refuse_missing(catalog: Catalog, merged: StoredEntities) -> None:
    missing = [
        (f"{path}.{field}", other, other_id)
        for path, entity in declared(catalog)
        for field, other, other_id in _references(entity)
        if other_id and (other, other_id) not in merged
    ]
    missing += [
        (f"{path}.plan_version", PlanVersion.entity, f"{entity.plan_id}/{entity.plan_version}")
        for path, entity in declared(catalog)
        if isinstance(entity, Entitlement)
        and entity.plan_version
        and (PlanVersion.entity, entity.plan_id, entity.plan_version) not in merged
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
        if not isinstance(plan, Plan) or plan.status not in _CLOSED:
            continue
        if plan_id != _plan_taken(change.before):
            raise PlanNotActive(
                f"plan {plan_id} is {_CLOSED[plan.status]} and cannot be assigned anew; use another for "
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


def _refuse_pairs(catalog: Catalog, merged: StoredEntities, elsewhere: Iterable[PricedAt]) -> None:
    for item in (*_declared_prices(catalog), *elsewhere):
        sku = merged.get((Sku.entity, item.sku))
        aggregation = sku.aggregation if isinstance(sku, Sku) else Aggregation.SUM
        check_pair(item.sku, aggregation, item.price, item.where)


def _declared_prices(catalog: Catalog) -> Iterator[PricedAt]:
    for plan in catalog.plans:
        where = f"plan {plan.plan_id}"
        yield from (PricedAt(where, item.sku, item.price) for item in plan.prices)
    for held in catalog.entitlements:
        where = f"the entitlement of {held.org_id}"
        yield from (PricedAt(where, item.sku, item.price) for item in held.overrides)


def _refuse_overlaps(merged: StoredEntities) -> None:
    active = [item for item in merged.values() if isinstance(item, PartnerOfRecord) and item.earns]
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


_LastingT = TypeVar("_LastingT", BillingAccountOrg, BillingAccountPartner)


def _refuse_overlapping_accounts(merged: StoredEntities) -> None:
    """One billing account at a time pays for an organisation, and one partner at a time earns on a billing account."""
    found = [item for item in merged.values() if isinstance(item, BillingAccountOrg)]
    for earlier, later in _overlapping(
        sorted(found, key=lambda item: (item.org_id, item.start_at))
    ):
        if earlier.org_id == later.org_id:
            raise BillingAccountsOverlap(
                f"billing accounts {earlier.billing_account_id} and {later.billing_account_id} would both pay for"
                f" {later.org_id} from {later.start_at.isoformat()}; end one before the other starts",
                org_id=later.org_id,
                billing_account_id=earlier.billing_account_id,
                other_billing_account_id=later.billing_account_id,
            )
    active = [
        item
        for item in merged.values()
        if isinstance(item, BillingAccountPartner) and item.status is AccountPartnerStatus.ACTIVE
    ]
    active.sort(key=lambda item: (item.billing_account_id, item.start_at))
    for one, other in _overlapping(active):
        if one.billing_account_id == other.billing_account_id:
            raise AccountPartnersOverlap(
                f"partners {one.partner_id} and {other.partner_id} would both earn on billing account"
                f" {other.billing_account_id} from {other.start_at.isoformat()}; end one before the other starts",
                billing_account_id=other.billing_account_id,
                partner_id=one.partner_id,
                other_partner_id=other.partner_id,
            )


def _overlapping(found: Sequence[_LastingT]) -> Iterator[tuple[_LastingT, _LastingT]]:
    """Give neighbours of which the second begins before the first ends, whatever they are about."""
    for earlier, later in pairwise(found):
        if earlier.end_at is None or later.start_at < earlier.end_at:
            yield earlier, later


def _refuse_shared_disputes(merged: StoredEntities) -> None:
    """Each dispute has an account of its own, so that what is held in it belongs to one record."""
    owners: dict[str, PartnerOfRecord] = {}
    for item in merged.values():
        if not isinstance(item, PartnerOfRecord) or item.dispute is None:
            continue
        owner = owners.setdefault(item.dispute.dispute_id, item)
        if owner.key != item.key:
            raise DisputeConflict(
                f"dispute {item.dispute.dispute_id} is about {entity_id(owner)} and cannot be about {entity_id(item)} "
                "too; give each an id of its own",
                dispute_id=item.dispute.dispute_id,
                record=entity_id(owner),
            )


def _refuse_many_taxes(merged: StoredEntities) -> None:
    taxes: dict[str, set[str]] = {}
    for item in merged.values():
        if isinstance(item, TaxRate):
            taxes.setdefault(item.jurisdiction, set()).add(item.tax)
    for jurisdiction, names in sorted(taxes.items()):
        if len(names) > TAXES_MAX:
            told = ", ".join(sorted(names)[:20])
            raise TaxesTooMany(
                f"{jurisdiction} would have {len(names)} taxes, {told}; the limit is {TAXES_MAX}: use the names that it"
                " has, and end one by a rate with TAX_TREATMENT_OUT_OF_SCOPE",
                jurisdiction=jurisdiction,
                taxes=len(names),
                taxes_max=TAXES_MAX,
            )


def _refuse_reopened(changes: list[Change]) -> None:
    """A dispute stays on record, and what was decided stays decided: what was released went by it."""
    for change in changes:
        before, after = change.before, change.after
        if not isinstance(before, PartnerOfRecord) or not isinstance(after, PartnerOfRecord):
            continue
        was, now = before.dispute, after.dispute
        if was is None or (now and now.dispute_id == was.dispute_id and _holds(was, now)):
            continue
        raise DisputeConflict(
            f"dispute {was.dispute_id} about {entity_id(before)} stays on record, and a resolution stays as it is; "
            "end the record with end_at and declare what holds from then on as another",
            dispute_id=was.dispute_id,
            record=entity_id(before),
        )


def _holds(was: Dispute, now: Dispute) -> bool:
    return was.resolution is None or was.resolution == now.resolution
