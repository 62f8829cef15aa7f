"""Sends one request to an endpoint, and nowhere else: what the name leads to is checked each time, and the
connection goes to exactly the address that was checked.

No redirect is followed, no proxy of the environment and no cookie is used, certificates are verified against the
name. A name that leads to several addresses is refused when one of them is not public.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import aiohttp

from services.events.domain import webhooks_urls as urls
from services.events.domain.webhooks import Answer, Outcome, WebhookUrlRefused
from services.runtime.addresses import Address, AllowList, parse_address
from services.runtime.telemetry import log

ATTEMPT_SECONDS = 20.0
"""Of a whole attempt: resolving, connecting, sending, and waiting for the answer's headers."""
BODY_SECONDS = 5.0
"""Of reading the answer's body; its status counts by then."""
RESPONSE_BYTES_MAX = 16 * 1024
ADDRESSES_MAX = 4
ERROR_CHARS_MAX = 500
# Threads of their own: a slow name server must not take those that everything else runs in.
_RESOLVER_THREADS = 8

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]

_UNPRINTABLE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class _Clock:
    """When an attempt began, and what ends it."""

    began: float
    limit: asyncio.Timeout


class Sender:
    """Makes the requests of one process.

    Args:
        allow: what may be reached although it is not public.
        resolve: leads a name to its addresses; the system's resolver unless given.
        tls: how certificates are verified; the system's authorities unless given.
        attempt_seconds: how long an attempt may take.
    """

    def __init__(
        self,
        allow: AllowList,
        *,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
        attempt_seconds: float = ATTEMPT_SECONDS,
    ) -> None:
        self._allow = allow
        self._threads: ThreadPoolExecutor | None = None
        self._resolve = resolve or self._by_system
        self._tls = tls
        self._attempt_seconds = attempt_seconds
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request; the returned answer describes any failure."""
        began = time.monotonic()

        def told(outcome: Outcome, error: str) -> Answer:
            return Answer(outcome, error=_plain(error)[:ERROR_CHARS_MAX], latency_ms=_since(began))

        try:
            async with asyncio.timeout(self._attempt_seconds) as limit:
                return await self._send(url, headers, body, _Clock(began, limit))
        except WebhookUrlRefused as error:
            return told(Outcome.BLOCKED, error.message)
        except TimeoutError:
            return told(Outcome.TIMED_OUT, f"no answer within {self._attempt_seconds:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return told(Outcome.UNREACHABLE, _said(error))

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._threads is not None:
            # A look-up that hangs ends by itself; nobody waits for it.
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def _send(
        self, url: str, headers: Mapping[str, str], body: bytes, clock: _Clock
    ) -> Answer:
        target = urls.read(url)
        urls.check(target, listed=self._allow.covers_host(target.host, target.port))
        addresses = await self._checked(target)
        for address in addresses[:-1]:
            try:
                return await self._post(target, address, headers, body, clock)
            except aiohttp.ClientConnectorError:
                continue  # nothing was sent yet: another address may answer
        return await self._post(target, addresses[-1], headers, body, clock)

    async def _checked(self, target: urls.Target) -> Sequence[Address]:
        """Return where a target leads.

        Raises:
            WebhookUrlRefused: one of its addresses is not public, and the operator does not list it.
            OSError: the name leads nowhere.
        """
        literal = parse_address(target.host) if target.is_literal else None
        found = [literal] if literal else list(await self._resolve(target.host, target.port))
        if not found:
            raise OSError("the name has no address")
        for address in found:
            if not self._allow.permits(target.host, address, target.port):
                # The operator is told which; a tenant must not read the network's names this way.
                log.info("webhook_blocked", host=target.host, address=str(address))
                raise urls.refusal("public", "it resolves to an address that is not public")
        return found[:ADDRESSES_MAX]

    async def _post(
        self,
        target: urls.Target,
        address: Address,
        headers: Mapping[str, str],
        body: bytes,
        clock: _Clock,
    ) -> Answer:
        default = target.port == (443 if target.is_https else 80)
        host = f"[{target.host}]" if ":" in target.host else target.host
        # The address stands in the URL, so that nothing behind this line resolves anything; the name goes
        # into the header Host and, for TLS, into what the server is asked for and its certificate is checked by.
        named = target.is_https and not target.is_literal
        async with self._opened().post(
            target.at(str(address)),
            data=body,
            headers={**headers, "Host": host if default else f"{host}:{target.port}"},
            server_hostname=target.host.rstrip(".") if named else None,
            allow_redirects=False,
        ) as response:
            return await _answer(response, clock)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # the worker bounds what is under way
                    # A connection is checked for one attempt and serves no other.
                    force_close=True,
                    use_dns_cache=False,
                    ssl=self._tls or ssl.create_default_context(),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                # What is compressed could be much more than it looks; it is shown as it is.
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None),
                skip_auto_headers=("Accept-Encoding",),
            )
        return self._session

    async def _by_system(self, host: str, port: int) -> Sequence[Address]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="webhook-dns")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(found))


def _look_up(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except UnicodeError as error:
        raise OSError("the name is not a valid host name") from error
    read = [parse_address(str(place[0])) for *_, place in found]
    return [address for address in read if address is not None]


async def _answer(response: aiohttp.ClientResponse, clock: _Clock) -> Answer:
    outcome, error = _judged(response.status)
    # The status is known: from here on time can only cut the body.
    clock.limit.reschedule(None)
    return Answer(
        outcome=outcome,
        status_code=response.status,
        response=_text(await _start_of_body(response)),
        error=error,
        latency_ms=_since(clock.began),
        retry_after=response.headers.get("Retry-After", ""),
    )


def _judged(status: int) -> tuple[Outcome, str]:
    if 200 <= status < 300:
        return Outcome.SUCCEEDED, ""
    if 300 <= status < 400:
        return (
            Outcome.REDIRECTED,
            f"answered {status}; redirects are not followed: set the endpoint to the final URL",
        )
    return Outcome.REFUSED, f"answered {status}; only 2xx counts as success"


async def _start_of_body(response: aiohttp.ClientResponse) -> bytes:
    """Read what is kept of a body; one that is slow, or breaks off, is kept as far as it came."""
    kept = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while len(kept) < RESPONSE_BYTES_MAX:
                part = await response.content.read(RESPONSE_BYTES_MAX - len(kept))
                if not part:
                    break
                kept += part
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    return bytes(kept)


def _text(raw: bytes) -> str:
    """Return bytes as text that a database and a terminal can take."""
    return _plain(raw.decode(errors="replace"))


def _plain(text: str) -> str:
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _said(error: Exception) -> str:
    """Say what went wrong, without what a URL may hold."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            said = f"the certificate was refused: {error.certificate_error}"
        case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            said = "TLS failed"
        case aiohttp.ClientConnectorError():
            said = f"cannot connect: {error.os_error.strerror or error.os_error}"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            said = "the connection was closed before a response arrived"
        case socket.gaierror():
            said = f"the name does not resolve: {error.strerror}"
        case aiohttp.ClientError():
            said = f"the response isn't valid HTTP ({type(error).__name__})"
        case _:
            said = str(error) or type(error).__name__
    return said


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)
