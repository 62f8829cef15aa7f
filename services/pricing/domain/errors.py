"""Refusals of this service; each reason is documented in `payments.errors.v1`."""

from __future__ import annotations

from services.runtime.errors import Code, DomainError


class CatalogReferenceMissing(DomainError):
    """A catalogue names what neither it nor the store declares."""

    code = Code.FAILED_PRECONDITION
    reason = "CATALOG_REFERENCE_MISSING"
    state_dependent = True


class PlanVersionFrozen(DomainError):
    """A published version of a plan was given other content."""

    code = Code.FAILED_PRECONDITION
    reason = "PLAN_VERSION_FROZEN"
    state_dependent = True


class PlanNotActive(DomainError):
    """An organisation was newly assigned to a deprecated plan."""

    code = Code.FAILED_PRECONDITION
    reason = "PLAN_NOT_ACTIVE"
    state_dependent = True


class PartnersOverlap(DomainError):
    """Two active partners of record of one organisation overlap in time."""

    code = Code.FAILED_PRECONDITION
    reason = "PARTNERS_OVERLAP"
    state_dependent = True


class ModelCodeTaken(DomainError):
    """Another business model has the code."""

    code = Code.ALREADY_EXISTS
    reason = "MODEL_CODE_TAKEN"
    state_dependent = True


class NoPlan(DomainError):
    """Nothing says which plan rates an organisation."""

    code = Code.FAILED_PRECONDITION
    reason = "NO_PLAN"
    state_dependent = True


class SkuNotPriced(DomainError):
    """There is usage that the plan does not price."""

    code = Code.FAILED_PRECONDITION
    reason = "SKU_NOT_PRICED"
    state_dependent = True


class PlanChangesInPeriod(DomainError):
    """The organisation moves to other prices inside the period."""

    code = Code.FAILED_PRECONDITION
    reason = "PLAN_CHANGES_IN_PERIOD"
    state_dependent = True


class UsageNotRateable(DomainError):
    """Metered usage cannot be priced as it stands."""

    code = Code.FAILED_PRECONDITION
    reason = "USAGE_NOT_RATEABLE"
    state_dependent = True
