"""Findings about a request from outside."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

ISSUES_MAX = 50
_LONG_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9]){11,}")


def storable(text: str) -> str:
    """Return the text without what a database text cannot hold: NUL and lone surrogates, which JSON can spell."""
    return text.replace("\x00", "\ufffd").encode("utf-8", errors="replace").decode("utf-8")


def printable(text: str) -> str:
    """Return the text fit to be shown and logged: storable, and without digits that could be a card's."""
    return _LONG_DIGITS.sub("[digits]", storable(text))


class Severity(StrEnum):
    """What a finding means for the payment."""

    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding.

    Attributes:
        field: path in the request's own spelling; empty for the whole request.
        code: stable name, e.g. `AMOUNT_AMBIGUOUS`.
        message: the finding for people; never repeats a value that could be an instrument.
        severity: ERROR refuses the payment.
    """

    field: str
    code: str
    message: str
    severity: Severity


@dataclass(slots=True)
class Findings:
    """Collects findings, 50 at most: a request with a thousand faults is not worth a thousand rows."""

    issues: list[Issue] = field(default_factory=list)
    refused: bool = False

    def add(self, issue: Issue) -> None:
        """Add a finding; one that refuses the payment is remembered even when the list is full."""
        self.refused = self.refused or issue.severity is Severity.ERROR
        if len(self.issues) < ISSUES_MAX:
            self.issues.append(issue)
        elif issue.severity is Severity.ERROR and self.issues[-1].severity is not Severity.ERROR:
            self.issues[-1] = issue

    def info(self, path: str, code: str, message: str) -> None:
        """Add: another spelling of the same thing."""
        self.add(Issue(printable(path[:200]), code, printable(message), Severity.INFO))

    def warn(self, path: str, code: str, message: str) -> None:
        """Add: not as documented, but certain, or not about money."""
        self.add(Issue(printable(path[:200]), code, printable(message), Severity.WARNING))

    def refuse(self, path: str, code: str, message: str) -> None:
        """Add: what is to be charged is in doubt."""
        self.add(Issue(printable(path[:200]), code, printable(message), Severity.ERROR))
