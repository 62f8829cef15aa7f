"""The things that a catalogue declares."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from services.pricing.domain.prices import Price
from services.pricing.domain.values import BEGINNING, Dec, Time


class Status(StrEnum):
    """Whether a plan or a business model takes anybody new."""

    ACTIVE = "STATUS_ACTIVE"
    DEPRECATED = "STATUS_DEPRECATED"


class RecordStatus(StrEnum):
    """Whether a partner of record earns."""

    ACTIVE = "STATUS_ACTIVE"
    EXPIRED = "STATUS_EXPIRED"
    DISPUTED = "STATUS_DISPUTED"


class Aggregation(StrEnum):
    """How the events of a period become the quantity that is priced."""

    SUM = "AGGREGATION_SUM"
    COUNT = "AGGREGATION_COUNT"


@dataclass(frozen=True)
class PlanPrice:
    """The price of one SKU."""

    sku: str
    price: Price


def _by_sku(prices: tuple[PlanPrice, ...]) -> tuple[PlanPrice, ...]:
    return tuple(sorted(prices, key=lambda item: item.sku))


# Order says nothing in a price list; sorted, equal lists are equal.
PriceList = Annotated[tuple[PlanPrice, ...], AfterValidator(_by_sku)]


@dataclass(frozen=True)
class Sku:
    """One thing that is metered and may be priced."""

    entity: ClassVar[str] = "sku"

    sku: str
    type: str = ""
    unit: str = ""
    aggregation: Aggregation = Aggregation.SUM
    cost: Dec | None = None
    retail: Dec | None = None
    tax_code: str = ""
    metadata: dict[str, str] = Field(default_factory=dict)

    @property
    def key(self) -> tuple[str]:
        """What it is found by."""
        return (self.sku,)


@dataclass(frozen=True)
class BusinessModel:
    """Groups plans under one currency."""

    entity: ClassVar[str] = "business_model"

    model_id: str
    currency_code: str
    code: str = ""
    name: str = ""
    status: Status = Status.ACTIVE
    version: int = 0
    default_plan_id: str = ""

    @property
    def key(self) -> tuple[str]:
        """What it is found by."""
        return (self.model_id,)


@dataclass(frozen=True)
class OrgBusinessModel:
    """Puts an organisation on a business model."""

    entity: ClassVar[str] = "org_business_model"

    org_id: str
    model_id: str
    plan_id: str = ""
    assigned_by: str = ""
    assigned_at: Time | None = None
    notes: str = ""

    @property
    def key(self) -> tuple[str]:
        """What it is found by."""
        return (self.org_id,)


@dataclass(frozen=True)
class Plan:
    """A plan with one version of its price list.

    Attributes:
        version: 0 in a declaration: the catalogue numbers it.
        effective_at: from when this version's list holds; None in a declaration: by the rule.
    """

    entity: ClassVar[str] = "plan"

    plan_id: str
    currency_code: str
    model_id: str = ""
    name: str = ""
    tier: str = ""
    version: int = 0
    status: Status = Status.ACTIVE
    notes: str = ""
    prices: PriceList = ()
    effective_at: Time | None = None

    @property
    def key(self) -> tuple[str]:
        """What it is found by."""
        return (self.plan_id,)


@dataclass(frozen=True)
class Entitlement:
    """Which plan an organisation is on from some time on."""

    entity: ClassVar[str] = "entitlement"

    org_id: str
    plan_id: str
    overrides: PriceList = ()
    effective_at: Time = BEGINNING

    @property
    def key(self) -> tuple[str, datetime]:
        """What it is found by."""
        return (self.org_id, self.effective_at)


@dataclass(frozen=True)
class Partner:
    """Earns a share of what organisations pay."""

    entity: ClassVar[str] = "partner"

    partner_id: str
    tier: str
    name: str = ""

    @property
    def key(self) -> tuple[str]:
        """What it is found by."""
        return (self.partner_id,)


@dataclass(frozen=True)
class PartnerOfRecord:
    """The partner that earns on an organisation from start_at until end_at (None: no end)."""

    entity: ClassVar[str] = "partner_of_record"

    org_id: str
    partner_id: str
    start_at: Time = BEGINNING
    end_at: Time | None = None
    status: RecordStatus = RecordStatus.ACTIVE

    @property
    def key(self) -> tuple[str, str, datetime]:
        """What it is found by."""
        return (self.org_id, self.partner_id, self.start_at)

    @property
    def lasts(self) -> bool:
        """False when it ends before it starts, or at once."""
        return self.end_at is None or self.end_at > self.start_at


@dataclass(frozen=True)
class CommissionRate:
    """Share in per cent for partners of a tier; sku "": every SKU without a rate of its own."""

    entity: ClassVar[str] = "commission_rate"

    partner_tier: str
    pct: Dec
    sku: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What it is found by."""
        return (self.partner_tier, self.sku)


Entity = (
    Sku
    | BusinessModel
    | OrgBusinessModel
    | Plan
    | Entitlement
    | Partner
    | PartnerOfRecord
    | CommissionRate
)


@dataclass(frozen=True)
class Catalog:
    """A declaration: what the catalogue is to contain."""

    skus: tuple[Sku, ...] = ()
    plans: tuple[Plan, ...] = ()
    business_models: tuple[BusinessModel, ...] = ()
    org_business_models: tuple[OrgBusinessModel, ...] = ()
    entitlements: tuple[Entitlement, ...] = ()
    partners: tuple[Partner, ...] = ()
    partners_of_record: tuple[PartnerOfRecord, ...] = ()
    commission_rates: tuple[CommissionRate, ...] = ()


def entity_id(entity: Entity) -> str:
    """Return the key as one text, its parts joined by `/`."""
    parts = (
        part.isoformat().replace("+00:00", "Z") if isinstance(part, datetime) else part
        for part in entity.key
    )
    return "/".join(parts)


def commission_pct(rates: dict[str, Decimal], sku: str) -> Decimal | None:
    """Return the rate of a SKU: its own, else the one for all (""), else None."""
    return rates.get(sku, rates.get(""))
