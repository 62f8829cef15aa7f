"""Statuses of agreements, and the moves between them: tables, so that what is not in them cannot happen."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where an agreement stands."""

    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    TERMINATED = "TERMINATED"
    EXPIRED = "EXPIRED"


class ServiceStatus(StrEnum):
    """How the service under an agreement stands."""

    PENDING = "PENDING"
    IN_SERVICE = "IN_SERVICE"
    DEGRADED = "DEGRADED"
    OUT_OF_SERVICE = "OUT_OF_SERVICE"
    ENDED = "ENDED"


class BillingStatus(StrEnum):
    """How the invoices of an agreement stand."""

    NONE = "NONE"
    CURRENT = "CURRENT"
    INVOICED = "INVOICED"
    PAID = "PAID"
    PAST_DUE = "PAST_DUE"
    DELINQUENT = "DELINQUENT"


class Move(StrEnum):
    """What moves a status: an edit, by its name, or the end of the term."""

    ACTIVATE = "activate"
    SUSPEND = "suspend"
    RESUME = "resume"
    TERMINATE = "terminate"
    EXPIRE = "expire"


TRANSITIONS: dict[tuple[Status, Move], Status] = {
    (Status.DRAFT, Move.ACTIVATE): Status.ACTIVE,
    (Status.ACTIVE, Move.SUSPEND): Status.SUSPENDED,
    (Status.SUSPENDED, Move.RESUME): Status.ACTIVE,
    (Status.DRAFT, Move.TERMINATE): Status.TERMINATED,
    (Status.ACTIVE, Move.TERMINATE): Status.TERMINATED,
    (Status.SUSPENDED, Move.TERMINATE): Status.TERMINATED,
    (Status.ACTIVE, Move.EXPIRE): Status.EXPIRED,
    (Status.SUSPENDED, Move.EXPIRE): Status.EXPIRED,
}

# What a move of the agreement makes of its service. What is not here stays.
SERVICE: dict[Move, ServiceStatus] = {
    Move.ACTIVATE: ServiceStatus.IN_SERVICE,
    Move.SUSPEND: ServiceStatus.OUT_OF_SERVICE,
    Move.RESUME: ServiceStatus.IN_SERVICE,
    Move.TERMINATE: ServiceStatus.ENDED,
    Move.EXPIRE: ServiceStatus.ENDED,
}

# What a move of the agreement makes of its invoices. What is not here stays: an ended agreement may still owe.
BILLING: dict[Move, BillingStatus] = {Move.ACTIVATE: BillingStatus.CURRENT}

# In which an agreement can still be edited.
OPEN = frozenset({Status.DRAFT, Status.ACTIVE, Status.SUSPENDED})
