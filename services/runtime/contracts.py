"""Contracts: promises that can be broken. Each service declares its own; the contract monitor knows them all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEAD_LETTER = "mesh/dead-letter"
INVARIANT = "mesh/invariant"
REQUEST_VALIDATION = "mesh/request-validation"


class ContractKind(StrEnum):
    """What a contract speaks about."""

    INVARIANT = "INVARIANT"
    OBJECTIVE = "OBJECTIVE"
    SCHEMA = "SCHEMA"
    POLICY = "POLICY"


@dataclass(frozen=True, slots=True)
class Contract:
    """A promise of a service, or of the runtime, that every tenant has from the start.

    Attributes:
        contract_id: `<owner>/<what>`; never used again for another meaning.
        title: a few words for lists.
        severity: of violations that name none: LOW, MEDIUM, HIGH or CRITICAL.
        kind: what it speaks about.
        description: what is promised, when it counts as broken, and why it matters.
    """

    contract_id: str
    title: str
    severity: str
    kind: ContractKind
    description: str


# What holds whichever service runs.
MESH = (
    Contract(
        DEAD_LETTER,
        "Every event is eventually handled",
        "CRITICAL",
        ContractKind.INVARIANT,
        "A consumer gave up on an event after its last try. Where the order of a key must be kept, "
        "later events of the key wait until it is replayed.",
    ),
    Contract(
        INVARIANT,
        "Invariants hold",
        "CRITICAL",
        ContractKind.INVARIANT,
        "A check inside a service failed: a fault of the mesh, never of its caller. The call was "
        "rolled back entirely.",
    ),
    Contract(
        REQUEST_VALIDATION,
        "Requests follow the rules of their schema",
        "LOW",
        ContractKind.SCHEMA,
        "A request, or items of a batch, broke a rule of the proto and were refused. Many of them "
        "from one caller mean that its integration is broken.",
    ),
)
