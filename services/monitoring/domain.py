"""Contracts, violations, and which violations are the same."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from services.runtime.ids import derived_id

SEVERITIES = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
SEVERITY_DEFAULT = "MEDIUM"

# Part of every fingerprint: a changed rule makes new groups and leaves the old ones as they are.
FINGERPRINT_ALGORITHM = 2

_ID = re.compile(
    # Behind a prefix too, whose underscore is no boundary of a word: `chg_0190…`.
    r"(?:\b|(?<=_))(?:"
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # UUID
    r"|[0-7][0-9a-hjkmnp-tv-z]{25}"  # ULID
    r"|[0-9a-f]{16,}"  # digest
    r")\b",
    re.IGNORECASE,
)
_PREFIXED_ID = re.compile(r"\b[a-z]{2,5}_<id>")
_NUMBER = re.compile(r"[-+]?\d+([.,:]\d+)*")


class ContractKind(StrEnum):
    """What a contract speaks about; the values are stored."""

    UNSPECIFIED = "UNSPECIFIED"
    INVARIANT = "INVARIANT"
    OBJECTIVE = "OBJECTIVE"
    SCHEMA = "SCHEMA"
    POLICY = "POLICY"


@dataclass(frozen=True, slots=True)
class Contract:
    """A promise that can be broken.

    Attributes:
        severity: of violations that name none.
        version: how often its text was changed, from 1; 0 before it is registered.
        registered_at: when this version was registered, UTC; None for built-in contracts.
        built_in: True for a contract that every tenant has from the start; not part of what it says.
    """

    contract_id: str
    title: str
    description: str
    owner: str
    severity: str
    kind: ContractKind
    runbook: str = ""
    version: int = 0
    registered_at: datetime | None = None
    built_in: bool = field(default=False, compare=False)

    def as_audited(self) -> dict[str, object]:
        """Return what an audit entry shows of it."""
        return {
            "title": self.title,
            "description": self.description,
            "owner": self.owner,
            "severity": self.severity,
            "kind": self.kind.value,
            "runbook": self.runbook,
            "version": self.version,
        }


@dataclass(frozen=True, slots=True)
class Violation:
    """Something broke a contract.

    Attributes:
        severity: as it was told, or the contract's.
        occurred_at: when it happened, UTC.
    """

    contract_id: str
    request_id: str
    severity: str
    message: str
    service: str
    subject_id: str
    occurred_at: datetime

    @property
    def violation_id(self) -> str:
        """The same for the same violation, however often it is reported."""
        return derived_id("vio", self.contract_id, self.request_id, self.subject_id, self.message)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A violation as it is kept.

    Attributes:
        fingerprint: 32 bytes that violations of one group share.
        contract_registered: whether its contract is known by now.
    """

    violation: Violation
    recorded_at: datetime
    fingerprint: bytes
    contract_registered: bool


def severity_fault(severity: str) -> str:
    """Say what is wrong with a severity, of which letter case does not matter; empty when nothing is."""
    if not severity or severity.upper() in SEVERITIES:
        return ""
    return f"must be one of {', '.join(SEVERITIES)}, not {severity}"


def completed(violation: Violation, contract: Contract | None) -> Violation:
    """Fill in what was left out: the severity from the contract, the service from the contract's id."""
    severity = contract.severity if contract else SEVERITY_DEFAULT
    prefix = violation.contract_id.partition("/")[0]
    return replace(
        violation,
        severity=violation.severity or severity,
        service=violation.service or prefix,
    )


def normalised(message: str) -> str:
    """Strip what differs from case to case: ids, digests, amounts and other numbers, spacing, capitals."""
    text = _ID.sub("<id>", message.lower())
    text = _PREFIXED_ID.sub("<id>", text)
    return " ".join(_NUMBER.sub("<n>", text).split())


def fingerprint(violation: Violation, contract_version: int) -> bytes:
    """Return the group of a violation: 32 bytes.

    A new version of the contract starts new groups, as it may judge by another rule.
    """
    parts = (
        str(FINGERPRINT_ALGORITHM),
        violation.contract_id,
        str(contract_version),
        violation.service,
        normalised(violation.message),
    )
    return hashlib.sha256("\0".join(parts).encode()).digest()


def registered(wanted: Contract, existing: Contract | None, now: datetime) -> Contract:
    """Return the contract as it stands after `wanted` was registered; `existing` itself when it says the same.

    A tenant may register a built-in contract anew, to give it an owner or a severity of its own; then
    `existing` is the built-in one.
    """
    if existing is None:
        return replace(wanted, version=1, registered_at=now)
    same = replace(wanted, version=existing.version, registered_at=existing.registered_at)
    if same == existing:
        return existing
    return replace(
        wanted, version=existing.version + 1, registered_at=now, built_in=existing.built_in
    )


@dataclass(frozen=True, slots=True)
class ViolationFilter:
    """Which violations are asked for; an empty value does not filter.

    Attributes:
        start_at: first instant of the period in which they occurred, UTC.
        end_at: first instant after it, UTC.
    """

    contract_id: str = ""
    severity: str = ""
    request_id: str = ""
    fingerprint: bytes = b""
    start_at: datetime | None = None
    end_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Place of a violation in the list, which begins with the last recorded."""

    recorded_at: datetime
    violation_id: str


@dataclass(frozen=True, slots=True)
class Registration:
    """The result of registering one contract.

    Attributes:
        contract: as it stands now.
        changed: False when it stood there already.
    """

    contract: Contract
    changed: bool
