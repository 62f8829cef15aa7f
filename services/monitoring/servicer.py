"""ContractMonitorService: proto to domain and back. Protobuf types stop here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
from payments.contracts.v1 import contracts_service_pb2 as service_pb
from payments.contracts.v1 import contracts_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.monitoring import messages
from services.monitoring.app import Monitor
from services.monitoring.domain import Position, Violation
from services.runtime.clock import Clock
from services.runtime.edge import validation
from services.runtime.edge.paging import Page
from services.runtime.turns import in_slices

BATCH_ITEMS_MAX = 1000
# Between two looks at what else is to be done.
SLICE_ITEMS = 100

_Context = grpc.aio.ServicerContext[Any, Any]


class ContractMonitorServicer(contracts_service_pb2_grpc.ContractMonitorServiceServicer):
    """Answers the RPCs of ContractMonitorService."""

    def __init__(self, monitor: Monitor, clock: Clock) -> None:
        self._monitor = monitor
        self._clock = clock

    async def RegisterContracts(
        self, request: service_pb.RegisterContractsRequest, context: _Context
    ) -> service_pb.RegisterContractsResponse:
        """Register contracts, each judged by itself."""
        validation.check_batch(request.contracts, BATCH_ITEMS_MAX, field="contracts")
        faults = [
            validation.unreadable(request, index)
            or [*validation.violations(item, nul_too=False), *messages.severity_faults(item)]
            for index, item in enumerate(request.contracts)
        ]
        sound = [item for item, fault in zip(request.contracts, faults, strict=True) if not fault]
        done = iter(await self._monitor.register([messages.contract_of(item) for item in sound]))
        response = service_pb.RegisterContractsResponse()
        for index, (item, fault) in enumerate(zip(request.contracts, faults, strict=True)):
            if fault:
                response.results.append(messages.refused_contract(index, item.contract_id, fault))
            else:
                response.results.append(messages.registration(index, next(done)))
        return response

    async def ListContracts(
        self, request: service_pb.ListContractsRequest, context: _Context
    ) -> service_pb.ListContractsResponse:
        """List contracts by id."""
        page = Page.of(request, "monitoring.contracts", {"contract_id": str})
        found = await self._monitor.list_contracts(page.after.get("contract_id", ""), page.limit)
        contracts, token = await page.cut(
            found, messages.contract, lambda last: {"contract_id": last.contract_id}
        )
        return service_pb.ListContractsResponse(contracts=contracts, next_page_token=token)

    async def RecordViolations(
        self, request: service_pb.RecordViolationsRequest, context: _Context
    ) -> service_pb.RecordViolationsResponse:
        """Record violations, each judged by itself."""
        validation.check_batch(request.violations, BATCH_ITEMS_MAX, field="violations")
        response = service_pb.RecordViolationsResponse()
        sound: list[tuple[int, Violation]] = []
        now = self._clock.now()
        async for index, item in in_slices(enumerate(request.violations), SLICE_ITEMS):
            fault = validation.unreadable(request, index) or [
                *validation.violations(item, nul_too=False),
                *messages.severity_faults(item),
            ]
            if fault:
                response.problems.append(messages.refused_violation(index, fault))
            else:
                sound.append((index, messages.violation_of(item, now)))
        new = await self._monitor.record([violation for _index, violation in sound])
        for (index, _), is_new in zip(sound, new, strict=True):
            if not is_new:
                response.problems.add(index=index, outcome=type_pb2.OUTCOME_DUPLICATE)
        response.problems.sort(key=lambda problem: problem.index)
        response.rejected = len(request.violations) - len(sound)
        response.accepted = sum(new)
        response.duplicate = len(sound) - response.accepted
        return response

    async def ListViolations(
        self, request: service_pb.ListViolationsRequest, context: _Context
    ) -> service_pb.ListViolationsResponse:
        """List violations, the last recorded first."""
        wanted = messages.filter_of(request)
        scope = f"monitoring.violations|{wanted!r}"
        page = Page.of(request, scope, {"recorded_at": datetime, "violation_id": str})
        after = Position(**page.after) if page.after else None
        found = await self._monitor.list_violations(wanted, after, page.limit)
        violations, token = await page.cut(
            found,
            messages.recorded,
            lambda last: {
                "recorded_at": last.recorded_at.isoformat(),
                "violation_id": last.violation.violation_id,
            },
        )
        return service_pb.ListViolationsResponse(violations=violations, next_page_token=token)
