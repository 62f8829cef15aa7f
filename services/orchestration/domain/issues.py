"""Findings about a request from outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from services.runtime.cards import SPAN_MAX, without_card_numbers
from services.runtime.texts import storable

ISSUES_MAX = 50
PATH_MAX = 200
MESSAGE_MAX = 500


def sanitized(text: str, characters_max: int) -> str:
    """Return the beginning of a text fit to be shown and logged: storable, and without card numbers."""
    beginning = storable(text[: characters_max + SPAN_MAX])
    return without_card_numbers(beginning, characters_max)


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

    def copy(self) -> Findings:
        """Return the findings so far, to which others can be added elsewhere."""
        return Findings(list(self.issues), self.refused)

    def add(self, issue: Issue) -> None:
        """Add a finding; one that refuses the payment is remembered even when the list is full."""
        self.refused = self.refused or issue.severity is Severity.ERROR
        if self._has_place(issue.severity):
            # In a full list a refusal takes the last place.
            self.issues[ISSUES_MAX - 1 :] = []
            self.issues.append(issue)

    def info(self, path: str, code: str, message: str) -> None:
        """Add: another spelling of the same thing."""
        self._add(path, code, message, Severity.INFO)

    def warn(self, path: str, code: str, message: str) -> None:
        """Add: not as documented, but certain, or not about money."""
        self._add(path, code, message, Severity.WARNING)

    def refuse(self, path: str, code: str, message: str) -> None:
        """Add: what is to be charged is in doubt."""
        self._add(path, code, message, Severity.ERROR)

    def _has_place(self, severity: Severity) -> bool:
        if len(self.issues) < ISSUES_MAX:
            return True
        return severity is Severity.ERROR and self.issues[-1].severity is not Severity.ERROR

    def _add(self, path: str, code: str, message: str, severity: Severity) -> None:
        # A body of 256 KiB holds thousands of odd fields; those that find no place any more cost nothing.
        if self._has_place(severity):
            self.add(
                Issue(sanitized(path, PATH_MAX), code, sanitized(message, MESSAGE_MAX), severity)
            )
        self.refused = self.refused or severity is Severity.ERROR
