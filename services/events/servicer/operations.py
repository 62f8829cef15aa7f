"""Consumers, dead letters and replays."""

from __future__ import annotations

from typing import Any

from payments.events.v1 import events_service_pb2 as service_pb2
from payments.events.v1 import events_service_pb2_grpc

from services.events.app.operations import Operations
from services.events.messages import operations as messages
from services.runtime.commands import Commands, UseCase
from services.runtime.context import current
from services.runtime.edge.paging import Int32, Page


class OperationRpcs(events_service_pb2_grpc.EventServiceServicer):
    """ListConsumers, ListDeadLetters, ReplayDeadLetters and ReplayEvents."""

    def __init__(self, operations: Operations, commands: Commands) -> None:
        self._operations = operations
        self._commands = commands
        self._replay_letters = UseCase(
            "events.replay_dead_letters",
            operations.replay_dead_letters,
            messages.letters_replayed,
            service_pb2.ReplayDeadLettersResponse,
        )
        self._replay_period = UseCase(
            "events.replay_events",
            operations.replay_period,
            messages.period_replayed,
            service_pb2.ReplayEventsResponse,
        )

    async def ListConsumers(
        self, request: service_pb2.ListConsumersRequest, context: Any
    ) -> service_pb2.ListConsumersResponse:
        """Read a page of consumers."""
        page = Page.of(request, "events.consumers", {"name": str})
        found = await self._operations.consumers(page.after.get("name", ""), page.limit)
        consumers, token = await page.cut(
            found, messages.consumer, lambda item: {"name": item.name}
        )
        return service_pb2.ListConsumersResponse(consumers=consumers, next_page_token=token)

    async def ListDeadLetters(
        self, request: service_pb2.ListDeadLettersRequest, context: Any
    ) -> service_pb2.ListDeadLettersResponse:
        """Read a page of dead letters."""
        scope = f"events.dead_letters:{current().tenant_id}:{request.consumer}"
        page = Page.of(request, scope, {"consumer": str, "position": int, "generation": Int32})
        place = tuple(page.after.values()) or ("", 0, 0)
        found = await self._operations.dead_letters(request.consumer, place, page.limit)
        letters, token = await page.cut(
            found,
            messages.letter,
            lambda letter: {
                "consumer": letter.consumer,
                "position": letter.position,
                "generation": letter.generation,
            },
        )
        return service_pb2.ListDeadLettersResponse(dead_letters=letters, next_page_token=token)

    async def ReplayDeadLetters(
        self, request: service_pb2.ReplayDeadLettersRequest, context: Any
    ) -> service_pb2.ReplayDeadLettersResponse:
        """Bring dead letters back."""
        command = messages.to_replay_letters(request)
        return await self._commands.run(self._replay_letters, command, request)

    async def ReplayEvents(
        self, request: service_pb2.ReplayEventsRequest, context: Any
    ) -> service_pb2.ReplayEventsResponse:
        """Have a period handled again."""
        command = messages.to_replay_period(request)
        return await self._commands.run(self._replay_period, command, request)
