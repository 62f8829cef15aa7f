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
    """An organisation was newly assigned to a deprecated plan."""

    code = Code.FAILED_PRECONDITION
    reason = "PLAN_NOT_ACTIVE"
    state_dependent = True
    plan_id: str


class PartnersOverlap(DomainError):
    """Two active partners of record of one organisation overlap in time."""

    code = Code.FAILED_PRECONDITION
    reason = "PARTNERS_OVERLAP"
    state_dependent = True
    org_id: str
    partner_id: str
    other_partner_id: str


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
