"""AgreementService keeps commercial contracts, each as a log of edits that only grows. An agreement is
the fold of its log: of the edits that were recorded by one time, those that hold at another, in the
order in which they hold. Every edit is told by an event `agreement.…` in the transaction that
stores it.


Written by `make generate` from payments/agreements/v1/agreement_service.proto. DO NOT EDIT!
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..payments.agreements import v1 as agreements_v1
from ..rpc import BY_CURSOR, BY_TOKEN, AsyncCaller, Caller, Method, items, items_async

__all__ = ("AsyncAgreementService", "AgreementService")

_APPLY_EDITS = Method(
    "/payments.agreements.v1.AgreementService/ApplyEdits",
    agreements_v1.ApplyEditsRequest,
    agreements_v1.ApplyEditsResponse,
    repeatable=True,
    has_request_id=True,
)
_GET_AGREEMENT = Method(
    "/payments.agreements.v1.AgreementService/GetAgreement",
    agreements_v1.GetAgreementRequest,
    agreements_v1.GetAgreementResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_AGREEMENTS = Method(
    "/payments.agreements.v1.AgreementService/ListAgreements",
    agreements_v1.ListAgreementsRequest,
    agreements_v1.ListAgreementsResponse,
    repeatable=True,
    has_request_id=False,
)
_LIST_EDITS = Method(
    "/payments.agreements.v1.AgreementService/ListEdits",
    agreements_v1.ListEditsRequest,
    agreements_v1.ListEditsResponse,
    repeatable=True,
    has_request_id=False,
)


class AgreementService:
    """AgreementService keeps commercial contracts, each as a log of edits that only grows. An
    agreement is the fold of its log: of the edits that were recorded by one time, those that hold
    at another, in the order in which they hold. Every edit is told by an event `agreement.…` in the
    transaction that stores it.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def apply_edits(
        self, request: agreements_v1.ApplyEditsRequest, *, timeout: float | None = None
    ) -> agreements_v1.ApplyEditsResponse:
        """ApplyEdits writes edits to the log of an agreement, all or none. They may hold from a time
        that is past or to come. Edits of one call hold from one time, in their order. With
        `validate_only` nothing is stored: the answer says what would come of it.

        Errors: NOT_FOUND; AGREEMENT_REVISION_CONFLICT when others wrote since `expected_revision`;
        AGREEMENT_STATUS_CONFLICT for a move that the status does not allow; AGREEMENT_EDIT_REFUSED
        for what the agreement contradicts, as a product that it does not have;
        AGREEMENT_HISTORY_CONFLICT when an edit that holds later could no longer be made;
        AGREEMENT_FULL; INVALID_FIELD; CURRENCY_MISMATCH; UNKNOWN_CURRENCY.
        """
        return self._caller.unary(_APPLY_EDITS, request, timeout)

    def get_agreement(
        self, request: agreements_v1.GetAgreementRequest, *, timeout: float | None = None
    ) -> agreements_v1.GetAgreementResponse:
        """GetAgreement returns an agreement as it was at one time, by what was known at another;
        NOT_FOUND when there was none.
        """
        return self._caller.unary(_GET_AGREEMENT, request, timeout)

    def list_agreements(
        self, request: agreements_v1.ListAgreementsRequest, *, timeout: float | None = None
    ) -> agreements_v1.ListAgreementsResponse:
        """ListAgreements lists agreements as they stand now, the latest made first; one that holds
        from a later time is listed as it will begin.
        """
        return self._caller.unary(_LIST_AGREEMENTS, request, timeout)

    def all_agreements(
        self, request: agreements_v1.ListAgreementsRequest, *, timeout: float | None = None
    ) -> Iterator[agreements_v1.Agreement]:
        """Yield the agreements of all pages of list_agreements, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: agreements_v1.ListAgreementsRequest) -> agreements_v1.ListAgreementsResponse:
            return self.list_agreements(asked, timeout=timeout)

        return items(page, request, "agreements", BY_TOKEN)

    def list_edits(
        self, request: agreements_v1.ListEditsRequest, *, timeout: float | None = None
    ) -> agreements_v1.ListEditsResponse:
        """ListEdits lists the log of an agreement, in the order in which it was written; NOT_FOUND
        when there is no such agreement.
        """
        return self._caller.unary(_LIST_EDITS, request, timeout)

    def all_edits(
        self, request: agreements_v1.ListEditsRequest, *, timeout: float | None = None
    ) -> Iterator[agreements_v1.AppliedEdit]:
        """Yield the edits of all pages of list_edits, from the one that the request names.

        `timeout` is that of one page.
        """

        def page(asked: agreements_v1.ListEditsRequest) -> agreements_v1.ListEditsResponse:
            return self.list_edits(asked, timeout=timeout)

        return items(page, request, "edits", BY_TOKEN)


class AsyncAgreementService:
    """AgreementService keeps commercial contracts, each as a log of edits that only grows. An
    agreement is the fold of its log: of the edits that were recorded by one time, those that hold
    at another, in the order in which they hold. Every edit is told by an event `agreement.…` in the
    transaction that stores it.
    """

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    async def apply_edits(
        self, request: agreements_v1.ApplyEditsRequest, *, timeout: float | None = None
    ) -> agreements_v1.ApplyEditsResponse:
        """ApplyEdits writes edits to the log of an agreement, all or none. They may hold from a time
        that is past or to come. Edits of one call hold from one time, in their order. With
        `validate_only` nothing is stored: the answer says what would come of it.

        Errors: NOT_FOUND; AGREEMENT_REVISION_CONFLICT when others wrote since `expected_revision`;
        AGREEMENT_STATUS_CONFLICT for a move that the status does not allow; AGREEMENT_EDIT_REFUSED
        for what the agreement contradicts, as a product that it does not have;
        AGREEMENT_HISTORY_CONFLICT when an edit that holds later could no longer be made;
        AGREEMENT_FULL; INVALID_FIELD; CURRENCY_MISMATCH; UNKNOWN_CURRENCY.
        """
        return await self._caller.unary(_APPLY_EDITS, request, timeout)

    async def get_agreement(
        self, request: agreements_v1.GetAgreementRequest, *, timeout: float | None = None
    ) -> agreements_v1.GetAgreementResponse:
        """GetAgreement returns an agreement as it was at one time, by what was known at another;
        NOT_FOUND when there was none.
        """
        return await self._caller.unary(_GET_AGREEMENT, request, timeout)

    async def list_agreements(
        self, request: agreements_v1.ListAgreementsRequest, *, timeout: float | None = None
    ) -> agreements_v1.ListAgreementsResponse:
        """ListAgreements lists agreements as they stand now, the latest made first; one that holds
        from a later time is listed as it will begin.
        """
        return await self._caller.unary(_LIST_AGREEMENTS, request, timeout)

    def all_agreements(
        self, request: agreements_v1.ListAgreementsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[agreements_v1.Agreement]:
        """Yield the agreements of all pages of list_agreements, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: agreements_v1.ListAgreementsRequest) -> agreements_v1.ListAgreementsResponse:
            return await self.list_agreements(asked, timeout=timeout)

        return items_async(page, request, "agreements", BY_TOKEN)

    async def list_edits(
        self, request: agreements_v1.ListEditsRequest, *, timeout: float | None = None
    ) -> agreements_v1.ListEditsResponse:
        """ListEdits lists the log of an agreement, in the order in which it was written; NOT_FOUND
        when there is no such agreement.
        """
        return await self._caller.unary(_LIST_EDITS, request, timeout)

    def all_edits(
        self, request: agreements_v1.ListEditsRequest, *, timeout: float | None = None
    ) -> AsyncIterator[agreements_v1.AppliedEdit]:
        """Yield the edits of all pages of list_edits, from the one that the request names.

        `timeout` is that of one page.
        """

        async def page(asked: agreements_v1.ListEditsRequest) -> agreements_v1.ListEditsResponse:
            return await self.list_edits(asked, timeout=timeout)

        return items_async(page, request, "edits", BY_TOKEN)
