"""AgreementService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
from payments.agreements.v1 import agreement_service_pb2 as pb
from payments.agreements.v1 import agreement_service_pb2_grpc

from services.agreements.app.agreements import Agreements, Applied, Edits
from services.agreements.domain.listing import Place
from services.agreements.messages import agreements as messages
from services.agreements.messages.edits import edit_of
from services.runtime.clock import Clock
from services.runtime.commands import Commands, UseCase
from services.runtime.edge import values as edge
from services.runtime.edge.paging import Int32, Page
from services.runtime.turns import aside, in_slices

_SLICE_EDITS = 10
_Context = grpc.aio.ServicerContext[Any, Any]


class AgreementServicer(agreement_service_pb2_grpc.AgreementServiceServicer):
    """Answers the RPCs of AgreementService."""

    def __init__(self, agreements: Agreements, commands: Commands, clock: Clock) -> None:
        self._agreements = agreements
        self._commands = commands
        self._clock = clock
        self._apply = UseCase("agreements.apply", agreements.apply, _applied, pb.ApplyEditsResponse)

    async def ApplyEdits(
        self, request: pb.ApplyEditsRequest, context: _Context
    ) -> pb.ApplyEditsResponse:
        """Write edits to the log of an agreement."""
        edits = []
        async for index, each in in_slices(enumerate(request.edits), _SLICE_EDITS):
            edits.append(edit_of(each, f"edits[{index}]"))
        asked = Edits(
            agreement_id=request.agreement_id,
            edits=tuple(edits),
            expected_revision=request.expected_revision,
            effective_at=edge.moment_or_none(request, "effective_at"),
        )
        return await self._commands.run(self._apply, asked, request)

    async def GetAgreement(
        self, request: pb.GetAgreementRequest, context: _Context
    ) -> pb.GetAgreementResponse:
        """Return one agreement at both times."""
        found = await self._agreements.get(
            request.agreement_id,
            edge.moment_or_none(request, "effective_at") or self._clock.now(),
            edge.moment_or_none(request, "recorded_at"),
        )
        message = await aside(found.parts, messages.agreement_message, found)
        return pb.GetAgreementResponse(agreement=message)

    async def ListAgreements(
        self, request: pb.ListAgreementsRequest, context: _Context
    ) -> pb.ListAgreementsResponse:
        """List agreements, the latest made first."""
        kinds = {"created_at": datetime, "agreement_id": str}
        page = Page.of(request, "agreements.agreements", kinds, default=20, maximum=100)
        after = Place(**page.after) if page.after else None
        found = await self._agreements.list(self._clock.now(), after, page.limit)
        agreements, token = await page.cut(
            found,
            lambda each: messages.agreement_message(each.agreement),
            lambda last: {
                "created_at": last.place.created_at.isoformat(),
                "agreement_id": last.place.agreement_id,
            },
            lambda each: each.agreement.parts,
        )
        return pb.ListAgreementsResponse(agreements=agreements, next_page_token=token)

    async def ListEdits(
        self, request: pb.ListEditsRequest, context: _Context
    ) -> pb.ListEditsResponse:
        """List the log of an agreement, in the order in which it was written."""
        page = Page.of(request, f"agreements.edits|{request.agreement_id}", {"revision": Int32})
        after_revision = page.after["revision"] if page.after else 0
        found = await self._agreements.edits(request.agreement_id, after_revision, page.limit)
        edits, token = await page.cut(
            found,
            messages.entry_message,
            lambda last: {"revision": last.revision},
            lambda each: each.parts,
        )
        return pb.ListEditsResponse(edits=edits, next_page_token=token)


async def _applied(applied: Applied) -> pb.ApplyEditsResponse:
    return await aside(applied.agreement.parts + len(applied.changes), _response, applied)


def _response(applied: Applied) -> pb.ApplyEditsResponse:
    return pb.ApplyEditsResponse(
        agreement=messages.agreement_message(applied.agreement),
        changes=[messages.change_message(each) for each in applied.changes],
    )
