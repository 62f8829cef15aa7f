"""Group commit: what many callers send at about the same time is carried out in one transaction.

While a group is under way, callers of the same tenant wait; together they are the next. So a caller alone waits for
nobody, and of many none waits for more than the group before it. Each gets its own answer: what one of them sent is
carried out as if it had come alone, in the order of coming. When a group fails, each of its callers is tried by itself,
so that one that cannot be served does not disturb the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from services.runtime.context import CallContext, acting, current
from services.runtime.errors import DatabaseUnavailable
from services.runtime.ids import new_uuid

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")


@dataclass(slots=True, eq=False)
class _Place(Generic[ItemT, AnswerT]):
    """A caller that waits."""

    call: CallContext
    items: Sequence[ItemT]
    answers: asyncio.Future[Sequence[AnswerT]]

    def tell(self, answers: Sequence[AnswerT]) -> None:
        if not self.answers.done():
            self.answers.set_result(answers)

    def fail(self, error: BaseException) -> None:
        if not self.answers.done():
            self.answers.set_exception(error)


@dataclass(slots=True)
class _Lane(Generic[ItemT, AnswerT]):
    """The callers of one tenant."""

    waiting: deque[_Place[ItemT, AnswerT]] = field(default_factory=deque)
    running: int = 0


class Groups(Generic[ItemT, AnswerT]):
    """Carries out what callers bring, in groups.

    Args:
        name: of the groups' tasks.
        run: carries items out in one transaction, in their order, and answers for each.
        items_max: items of one group at most.
        places: groups of a tenant that are under way at once. With one they are largest, and cost least.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[ItemT]], Awaitable[Sequence[AnswerT]]],
        *,
        items_max: int,
        places: int = 1,
    ) -> None:
        self._name = name
        self._run = run
        self._items_max = items_max
        self._places = places
        self._lanes: dict[str, _Lane[ItemT, AnswerT]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def apply(self, items: Sequence[ItemT]) -> Sequence[AnswerT]:
        """Carry items out, with those of others where others wait; returns the answer to each.

        A caller that is cancelled leaves the waiting; what is under way by then is carried out.

        Raises:
            Exception: what `run` raises for these items alone, or DatabaseUnavailable for the whole group.
        """
        call = current()
        lane = self._lanes.setdefault(call.tenant_id, _Lane())
        place = _Place[ItemT, AnswerT](call, items, asyncio.get_running_loop().create_future())
        lane.waiting.append(place)
        if lane.running < self._places:
            lane.running += 1
            # A task of its own: a caller that goes away must not take the others' transaction with it.
            task = asyncio.create_task(self._serve(call.tenant_id, lane), name=self._name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await place.answers

    async def _serve(self, tenant_id: str, lane: _Lane[ItemT, AnswerT]) -> None:
        group: list[_Place[ItemT, AnswerT]] = []
        try:
            while group := self._next(lane):
                await self._together(group)
        finally:
            # Somebody is left only where the process ends.
            for place in group:
                place.answers.cancel()
            lane.running -= 1
            if not lane.running:
                del self._lanes[tenant_id]

    def _next(self, lane: _Lane[ItemT, AnswerT]) -> list[_Place[ItemT, AnswerT]]:
        """Take who is next; who has gone away is left out."""
        group: list[_Place[ItemT, AnswerT]] = []
        count = 0
        while lane.waiting and (not group or count + len(lane.waiting[0].items) <= self._items_max):
            place = lane.waiting.popleft()
            if not place.answers.done():
                group.append(place)
                count += len(place.items)
        return group

    async def _together(self, group: Sequence[_Place[ItemT, AnswerT]]) -> None:
        if len(group) == 1:
            await self._alone(group[0])
            return
        items = [item for place in group for item in place.items]
        try:
            with acting(_call_of(group)):
                answers = await self._run(items)
        except DatabaseUnavailable as error:
            for place in group:
                place.fail(error)
        except Exception:
            for place in group:
                await self._alone(place)
        else:
            start = 0
            for place in group:
                place.tell(answers[start : start + len(place.items)])
                start += len(place.items)

    async def _alone(self, place: _Place[ItemT, AnswerT]) -> None:
        try:
            with acting(place.call):
                place.tell(await self._run(place.items))
        except Exception as error:
            place.fail(error)


def _call_of(group: Sequence[_Place[ItemT, AnswerT]]) -> CallContext:
    """Return the context of a group: nobody's request, and a chain of its own.

    It may take as long as the most patient of its callers waits.
    """
    deadlines = [place.call.deadline_at for place in group]
    known = [each for each in deadlines if each is not None]
    return replace(
        group[0].call,
        request_id=str(new_uuid()),
        correlation_id=str(new_uuid()),
        causation_id="",
        traceparent="",
        tracestate="",
        deadline_at=max(known) if len(known) == len(deadlines) else None,
        idempotency_key="",
    )
