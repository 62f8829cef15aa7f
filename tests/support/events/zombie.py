"""A dispatcher that stops its own process in the middle of a transaction, to be woken when its lease is over."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any, Literal

from services.runtime.clock import SystemClock
from services.runtime.database import UnitOfWork
from services.runtime.events.backbone import EventBackbone
from services.runtime.events.bus import EventBus
from services.runtime.events.dispatcher import Dispatcher
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.events.handling import Handling, Lane
from services.runtime.leases import LeaseLost
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.postgres.session import Call, Session
from services.runtime.telemetry import configure_logs
from tests.support.events.lab import QUICK, write_effect

Where = Literal["before the fence", "behind the fence"]


def _stop_once() -> None:
    """Stop this process, the first time."""
    global _stopped  # noqa: PLW0603 - a process stops itself once
    if not _stopped:
        _stopped = True
        os.kill(os.getpid(), signal.SIGSTOP)


_stopped = False


def _reaction(consumer: str, where: Where) -> Reaction:
    async def handle(work: UnitOfWork, envelope: Envelope) -> None:
        await write_effect(work, envelope, consumer)
        if where == "behind the fence":
            _stop_once()

    return Reaction(consumer, ("plan.created",), handle, retry=QUICK)


def _stop_before_the_fence() -> None:
    fenced = Handling._fenced

    @asynccontextmanager
    async def stopping(self: Handling, session: Session, lane: Lane) -> AsyncIterator[list[Call]]:
        _stop_once()
        async with fenced(self, session, lane) as last:
            yield last

    Handling._fenced = stopping  # type: ignore[method-assign]


def _tell_of_the_lane(pipe: Connection) -> None:
    empty = Dispatcher._empty

    async def telling(self: Dispatcher, *arguments: Any) -> None:
        try:
            await empty(self, *arguments)
        except LeaseLost:
            pipe.send("lost")
            raise
        except asyncio.CancelledError:
            # The process's other sessions slept past their limits, which ends all that it serves.
            pipe.send("given up")
            raise
        except Exception as error:
            pipe.send(repr(error))
            raise
        pipe.send("served")

    Dispatcher._empty = telling  # type: ignore[method-assign,assignment]


async def _serve(urls: DatabaseUrls, consumer: str, where: Where, lease_ms: int) -> None:
    backbone = EventBackbone(
        urls.relay,
        [_reaction(consumer, where)],
        bus=EventBus(),
        clock=SystemClock(),
        lease_ms=lease_ms,
    )
    await backbone.start()
    await asyncio.Event().wait()


def run(urls: DatabaseUrls, consumer: str, where: Where, lease_ms: int, pipe: Connection) -> None:
    """Serve until killed; tells through the pipe what became of each lane that it held."""
    configure_logs("critical")
    if where == "before the fence":
        _stop_before_the_fence()
    _tell_of_the_lane(pipe)
    asyncio.run(_serve(urls, consumer, where, lease_ms))
