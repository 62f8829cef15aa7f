"""Calls to processors over HTTP, and to nowhere else: every address that a name leads to is checked when a connection
is made, and the connection goes to exactly that one.

No redirect is followed, no proxy of the environment and no cookie is used. What certainly never left is told apart
from what may have arrived.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from services.runtime.addresses import AllowList, parse_address

REPLY_BYTES_MAX = 1 << 20
CONNECTIONS_MAX = 100
KEPT_OPEN_SECONDS = 15.0


class NotReached(Exception):
    """No connection came about: nothing was sent."""


class NoReply(Exception):
    """Something was sent, or may have been, and no whole answer came."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def url_fault(text: str, allow: AllowList) -> str:
    """Say why nothing may be sent to a base URL; empty when its text allows it.

    Where a name leads is checked again with every connection.
    """
    try:
        url = URL(text)
        host, port = url.raw_host or "", url.port or 0
    except ValueError:
        return "isn't a valid URL"
    if url.scheme not in ("https", "http") or not host:
        return "must begin with https:// and a host"
    if "@" in url.raw_authority:
        return "must not hold a login: name a credential"
    if url.raw_query_string or url.raw_fragment or text.rstrip("/") != str(url).rstrip("/"):
        return "must be a plain base URL, without query, fragment and unusual spellings"
    return _place_fault(url.scheme, host, port, allow)


def _place_fault(scheme: str, host: str, port: int, allow: AllowList) -> str:
    if scheme == "http" and not allow.covers_host(host, port):
        return "must begin with https://, unless the operator lists the host"
    address = parse_address(host)
    if address is not None and not allow.permits(host, address, port):
        return "is not a public address, and the operator does not list it"
    return ""


class Wire:
    """The connections of one process to processors.

    Args:
        allow: what may be reached although it is not public.
        tls: how certificates are verified; the system's authorities unless given.
    """

    def __init__(self, allow: AllowList, tls: ssl.SSLContext | None = None) -> None:
        self._allow = allow
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Reply:
        """Send a request and wait for the whole answer, for as long as the caller allows.

        Raises:
            NotReached: nothing was sent.
            NoReply: it may have arrived.
        """
        target = URL(url, encoded=True)
        address = parse_address(target.raw_host or "")
        if address is not None and not self._allow.permits(
            target.raw_host or "", address, target.port or 0
        ):
            raise NotReached("its address is not public")
        try:
            async with self._opened().request(
                method, target, data=body, headers=headers, allow_redirects=False
            ) as response:
                return Reply(response.status, response.headers, await _whole(response))
        except aiohttp.ClientConnectorError as error:
            raise NotReached(_said(error)) from error
        except (aiohttp.ClientError, asyncio.IncompleteReadError, OSError) as error:
            raise NoReply(f"no whole answer ({type(error).__name__})") from error

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS_MAX,
                    resolver=_Checked(self._allow),
                    use_dns_cache=False,
                    keepalive_timeout=KEPT_OPEN_SECONDS,
                    ssl=self._tls or ssl.create_default_context(),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session


class _Checked(AbstractResolver):
    """Leads a name to its addresses, and refuses one that has any which is not public."""

    def __init__(self, allow: AllowList) -> None:
        self._allow = allow
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve. Raises OSError, which aiohttp takes for a connection that did not come about."""
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            address = parse_address(each["host"])
            if address is None or not self._allow.permits(host, address, port):
                raise OSError("the name leads to an address that is not public")
        return found

    async def close(self) -> None:
        """Close what is open."""
        await self._resolver.close()


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(REPLY_BYTES_MAX + 1)
    while len(body) <= REPLY_BYTES_MAX and (
        part := await response.content.read(REPLY_BYTES_MAX + 1 - len(body))
    ):
        body += part
    if len(body) > REPLY_BYTES_MAX:
        raise NoReply(f"the answer has more than {REPLY_BYTES_MAX} bytes")
    return body


def _said(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the certificate was refused"
    return f"cannot connect: {error.os_error.strerror or error.os_error}"
