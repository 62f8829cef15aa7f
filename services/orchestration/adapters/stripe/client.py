"""Stripe's library over our own connections: it never repeats a call, and goes nowhere that is not checked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import stripe

from services.orchestration.adapters.registry import Access
from services.orchestration.adapters.wire import NoReply, NotReached, Wire


class Unsent(Exception):
    """A call never left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Client(stripe.HTTPClient):
    """Sends what the library asks for."""

    name = "tollmesh"

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send a request; the library makes errors of answers."""
        body = post_data.encode() if isinstance(post_data, str) else post_data
        try:
            reply = await self._wire.send(method.upper(), url, headers or {}, body)
        except NotReached as error:
            raise Unsent(str(error)) from error
        except NoReply as error:
            # It takes no types.
            failed: Any = stripe.APIConnectionError
            raise failed(str(error)) from error
        return reply.body, reply.status, reply.headers

    def sleep_async(self, secs: float) -> Awaitable[None]:
        """Wait between repeats, of which there are none."""
        return asyncio.sleep(secs)

    async def close_async(self) -> None:
        """The connections are not its own."""


def client(access: Access) -> stripe.StripeClient:
    """Return a client of the processor's account."""
    return stripe.StripeClient(
        access.secret,
        base_addresses={"api": access.base_url},
        max_network_retries=0,
        http_client=_Client(access.wire),
    )
