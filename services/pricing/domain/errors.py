"""Refusals of this service; each reason is documented in `payments.errors.v1`."""

from __future__ import annotations

from services.runtime.errors import Code, DomainError, declared


class CatalogReferenceMissing(DomainError):
    """A catalogue names what neither it nor the store declares."""

    code = Code.FAILED_PRECONDITION
    reason = "CATALOG_REFERENCE_MISSING"
    state_dependent = True
    missing: str


class PlanVersionFrozen(DomainError):
    """A published version of a plan was given other content."""

    code = Code.FAILED_PRECONDITION
    reason = "PLAN_VERSION_FROZEN"
    state_dependent = True
    plan_id: str
    version: int
    newest_version: int


class PlanNotActive(DomainError):
    """An organisation was newly assigned to a plan that takes nobody new, or an archived plan was given a list."""

    code = Code.FAILED_PRECONDITION
    reason = "PLAN_NOT_ACTIVE"
    state_dependent = True
    plan_id: str


class PlanInUse(DomainError):
    """A plan was to be archived that somebody is on, or will be."""

    code = Code.FAILED_PRECONDITION
    reason = "PLAN_IN_USE"
    state_dependent = True
    plan_id: str
    user: str


class PartnersOverlap(DomainError):
    """Two active partners of record of one organisation overlap in time."""

    code = Code.FAILED_PRECONDITION
    reason = "PARTNERS_OVERLAP"
    state_dependent = True
    org_id: str
    partner_id: str
    other_partner_id: str


class BillingAccountsOverlap(DomainError):
    """Two billing accounts would pay for one organisation at the same time."""

    code = Code.FAILED_PRECONDITION
    reason = "BILLING_ACCOUNTS_OVERLAP"
    state_dependent = True
    org_id: str
    billing_account_id: str
    other_billing_account_id: str


class AccountPartnersOverlap(DomainError):
    """Two active partners of one billing account overlap in time."""

    code = Code.FAILED_PRECONDITION
    reason = "ACCOUNT_PARTNERS_OVERLAP"
    state_dependent = True
    billing_account_id: str
    partner_id: str
    other_partner_id: str


class DisputeConflict(DomainError):
    """A dispute would be about two records, vanish, or end in another way than it did."""

    code = Code.FAILED_PRECONDITION
    reason = "DISPUTE_CONFLICT"
    state_dependent = True
    dispute_id: str
    record: str


class TaxProfileMissing(DomainError):
    """An organisation is to be taxed, and it is not known where."""

    code = Code.FAILED_PRECONDITION
    reason = "TAX_PROFILE_MISSING"
    state_dependent = True
    org_id: str
    taxed_at: str


class TaxRateMissing(DomainError):
    """What is sold is to be taxed, and no rate is in force for it."""

    code = Code.FAILED_PRECONDITION
    reason = "TAX_RATE_MISSING"
    state_dependent = True
    org_id: str
    jurisdiction: str
    tax_codes: str
    taxed_at: str


class TaxesTooMany(DomainError):
    """A jurisdiction would have more taxes than a line may bear."""

    code = Code.FAILED_PRECONDITION
    reason = "TAXES_TOO_MANY"
    state_dependent = True
    jurisdiction: str
    taxes: int
    taxes_max: int


class ModelCodeTaken(DomainError):
    """Another business model has the code."""

    code = Code.ALREADY_EXISTS
    reason = "MODEL_CODE_TAKEN"
    state_dependent = True
    taken_code: str = declared(alias="code")
    model_id: str


class NoPlan(DomainError):
    """Nothing says which plan rates an organisation."""

    code = Code.FAILED_PRECONDITION
    reason = "NO_PLAN"
    state_dependent = True
    org_id: str
    at: str
    plan_id: str | None = None


class SkuNotPriced(DomainError):
    """There is usage that the plan does not price."""

    code = Code.FAILED_PRECONDITION
    reason = "SKU_NOT_PRICED"
    state_dependent = True
    skus: str
    plan_id: str
    plan_version: int


class PlanChangesInPeriod(DomainError):
    """The organisation moves to other prices inside the period."""

    code = Code.FAILED_PRECONDITION
    reason = "PLAN_CHANGES_IN_PERIOD"
    state_dependent = True
    org_id: str
    change_at: str


class UsageNotRateable(DomainError):
    """Metered usage cannot be priced as it stands."""

    code = Code.FAILED_PRECONDITION
    reason = "USAGE_NOT_RATEABLE"
    state_dependent = True
    sku: str
    project_id: str
    quantity: str


class PriceNotSplittable(DomainError):
    """A part of a period was to be priced, and only the whole has a price."""

    code = Code.FAILED_PRECONDITION
    reason = "PRICE_NOT_SPLITTABLE"
    state_dependent = True
    model: str


class PriceInputMissing(DomainError):
    """A price asks for amounts or quantities, and there is only one quantity."""

    code = Code.FAILED_PRECONDITION
    reason = "PRICE_INPUT_MISSING"
    state_dependent = True
    model: str
    needs: str
    sku: str | None = None


class AggregationNotPriceable(DomainError):
    """A price cannot be applied to what the SKU's aggregation makes of usage."""

    code = Code.FAILED_PRECONDITION
    reason = "AGGREGATION_NOT_PRICEABLE"
    state_dependent = True
    sku: str
    aggregation: str
    model: str


class DimensionNotPriced(DomainError):
    """There is usage of a value of a dimension that the price has no amount for."""

    code = Code.FAILED_PRECONDITION
    reason = "DIMENSION_NOT_PRICED"
    state_dependent = True
    dimension: str
    values: str
    sku: str | None = None


class UsageMoved(DomainError):
    """Usage became visible between the readings that one rating is made of, each time that it was tried."""

    code = Code.ABORTED
    reason = "USAGE_MOVED"
    state_dependent = True
    org_id: str
    sku: str
