"""The things that a catalogue declares."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from services.pricing.domain.prices import Price
from services.pricing.domain.proration import Proration
from services.pricing.domain.tax_table import TaxPolicy, TaxProfile, TaxRate
from services.pricing.domain.values import BEGINNING, Dec, Time


class Status(StrEnum):
    """Whether a plan or a business model takes anybody new; the last two are of plans only."""

    ACTIVE = "STATUS_ACTIVE"
    DEPRECATED = "STATUS_DEPRECATED"
    DRAFT = "STATUS_DRAFT"
    ARCHIVED = "STATUS_ARCHIVED"


class RecordStatus(StrEnum):
    """Whether a partner of record earns."""

    ACTIVE = "STATUS_ACTIVE"
    EXPIRED = "STATUS_EXPIRED"
    DISPUTED = "STATUS_DISPUTED"


class Aggregation(StrEnum):
    """How the events of a project in a period become the quantity that is priced. Projects add up."""

    SUM = "AGGREGATION_SUM"
    COUNT = "AGGREGATION_COUNT"
    MAX = "AGGREGATION_MAX"
    MIN = "AGGREGATION_MIN"
    AVG = "AGGREGATION_AVG"
    LATEST = "AGGREGATION_LATEST"
    UNIQUE = "AGGREGATION_UNIQUE"
    WEIGHTED_SUM = "AGGREGATION_WEIGHTED_SUM"
    P50 = "AGGREGATION_P50"
    P95 = "AGGREGATION_P95"
    P99 = "AGGREGATION_P99"

    @property
    def adds_up(self) -> bool:
        """True when what it makes of the parts of a period adds up to what it makes of the whole."""
        return self in (Aggregation.SUM, Aggregation.COUNT, Aggregation.WEIGHTED_SUM)

    @property
    def carries_over(self) -> bool:
        """True when a period without any event may have a quantity: that which held before it."""
        return self is Aggregation.WEIGHTED_SUM


@dataclass(frozen=True)
class PlanPrice:
    """The price of one SKU; tax_code "": that of the SKU."""

    sku: str
    price: Price
    tax_code: str = ""


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
        version: 0 in a declaration: the catalogue numbers it; 0 of a stored plan: it is a draft.
        effective_at: from when this version's list holds; None in a declaration and a draft: by the rule.
        proration: how a period is rated that has a part on another plan; None: not at all.
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
    proration: Proration | None = None

    @property
    def key(self) -> tuple[str]:
        """What it is found by."""
        return (self.plan_id,)


@dataclass(frozen=True)
class Entitlement:
    """Which plan an organisation is on from some time on.

    Attributes:
        plan_version: version of the plan that it is held to; 0: the one in force.
    """

    entity: ClassVar[str] = "entitlement"

    org_id: str
    plan_id: str
    overrides: PriceList = ()
    effective_at: Time = BEGINNING
    plan_version: int = 0

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
class Evidence:
    """What is put forward in a dispute: where it is to be found, who brought it and what it shows."""

    reference: str
    submitted_by: str = ""
    note: str = ""


@dataclass(frozen=True)
class Resolution:
    """How a dispute ended.

    Attributes:
        partner_id: who earns; "" for nobody.
        resolved_at: when that was decided.
    """

    resolved_at: Time
    partner_id: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Dispute:
    """Why a partner of record is contested, and how that ended.

    Attributes:
        dispute_id: names the account in which commission is held meanwhile.
        resolution: None while it is open.
    """

    dispute_id: str
    opened_at: Time
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()
    resolution: Resolution | None = None


@dataclass(frozen=True)
class PartnerOfRecord:
    """The partner that earns on an organisation from start_at until end_at (None: no end).

    Attributes:
        dispute: of a disputed one, under which what it earns is held; None: it earns nothing while it is disputed.
    """

    entity: ClassVar[str] = "partner_of_record"

    org_id: str
    partner_id: str
    start_at: Time = BEGINNING
    end_at: Time | None = None
    status: RecordStatus = RecordStatus.ACTIVE
    dispute: Dispute | None = None

    @property
    def earns(self) -> bool:
        """True when somebody earns by it, be it that it is held."""
        return self.status is RecordStatus.ACTIVE or (
            self.status is RecordStatus.DISPUTED and self.dispute is not None
        )

    @property
    def key(self) -> tuple[str, str, datetime]:
        """What it is found by."""
        return (self.org_id, self.partner_id, self.start_at)

    @property
    def lasts(self) -> bool:
        """False when it ends before it starts, or at once."""
        return self.end_at is None or self.end_at > self.start_at


@dataclass(frozen=True)
class BillingAccountOrg:
    """A billing account that pays for an organisation from start_at until end_at (None: no end)."""

    entity: ClassVar[str] = "billing_account_org"

    billing_account_id: str
    org_id: str
    start_at: Time = BEGINNING
    end_at: Time | None = None

    @property
    def key(self) -> tuple[str, str, datetime]:
        """What it is found by."""
        return (self.org_id, self.billing_account_id, self.start_at)

    @property
    def lasts(self) -> bool:
        """False when it ends before it starts, or at once."""
        return self.end_at is None or self.end_at > self.start_at


class AccountPartnerStatus(StrEnum):
    """Whether a billing account's partner counts."""

    ACTIVE = "STATUS_ACTIVE"
    EXPIRED = "STATUS_EXPIRED"


@dataclass(frozen=True)
class BillingAccountPartner:
    """The partner that earns on all organisations of a billing account from start_at until end_at (None: no end)."""

    entity: ClassVar[str] = "billing_account_partner"

    billing_account_id: str
    partner_id: str
    start_at: Time = BEGINNING
    end_at: Time | None = None
    status: AccountPartnerStatus = AccountPartnerStatus.ACTIVE

    @property
    def key(self) -> tuple[str, str, datetime]:
        """What it is found by."""
        return (self.billing_account_id, self.partner_id, self.start_at)

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


@dataclass(frozen=True)
class PlanVersion:
    """Says that a plan has a version."""

    entity: ClassVar[str] = "plan_version"

    plan_id: str
    version: int

    @property
    def key(self) -> tuple[str, int]:
        """What it is found by."""
        return (self.plan_id, self.version)


Entity = (
    Sku
    | BusinessModel
    | OrgBusinessModel
    | Plan
    | Entitlement
    | Partner
    | PartnerOfRecord
    | CommissionRate
    | TaxRate
    | TaxProfile
    | TaxPolicy
    | BillingAccountOrg
    | BillingAccountPartner
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
    tax_rates: tuple[TaxRate, ...] = ()
    tax_profiles: tuple[TaxProfile, ...] = ()
    tax_policies: tuple[TaxPolicy, ...] = ()
    billing_account_orgs: tuple[BillingAccountOrg, ...] = ()
    billing_account_partners: tuple[BillingAccountPartner, ...] = ()


def entity_id(entity: Entity) -> str:
    """Return the key as one text, its parts joined by `/`."""
    parts = (
        part.isoformat().replace("+00:00", "Z") if isinstance(part, datetime) else part
        for part in entity.key
    )
    return "/".join(parts)
