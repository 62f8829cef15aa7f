"""What is refused of agreements."""

from __future__ import annotations

from services.runtime.errors import Code, DomainError


class StatusConflict(DomainError):
    """The status of an agreement does not allow an edit."""

    code = Code.FAILED_PRECONDITION
    reason = "AGREEMENT_STATUS_CONFLICT"
    state_dependent = True
    agreement_id: str
    status: str
    edit: str


class RevisionConflict(DomainError):
    """Others edited an agreement meanwhile."""

    code = Code.FAILED_PRECONDITION
    reason = "AGREEMENT_REVISION_CONFLICT"
    state_dependent = True
    agreement_id: str
    expected_revision: int
    revision: int


class EditRefused(DomainError):
    """The agreement contradicts an edit."""

    code = Code.FAILED_PRECONDITION
    reason = "AGREEMENT_EDIT_REFUSED"
    state_dependent = True
    agreement_id: str
    edit: str


class HistoryConflict(DomainError):
    """An entry of the log that holds later could no longer be made."""

    code = Code.FAILED_PRECONDITION
    reason = "AGREEMENT_HISTORY_CONFLICT"
    state_dependent = True
    agreement_id: str
    conflicting_revision: int
    edit: str


class AgreementFull(DomainError):
    """The log of an agreement has as many edits as it may."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "AGREEMENT_FULL"
    state_dependent = True
    agreement_id: str
    edits_max: int
