"""Which URLs a webhook may go to, as far as their text tells. Pure.

Where a name leads is checked when a delivery is sent, every time; see `services.runtime.addresses`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from yarl import URL

from services.events.domain.webhooks import WebhookUrlRefused

# Below 1024 live mail, databases' managers and the like, which would take a request for something else.
PORT_UNPRIVILEGED = 1024
HTTPS_PORT = 443

_PRINTABLE = re.compile(r"[!-~]+")
_NAME = re.compile(r"(?=.{1,254}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)")


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL names.

    Attributes:
        text: the URL as it was given.
        host: name or literal address, without brackets.
        is_literal: true for an address in its usual spelling.
    """

    text: str
    url: URL
    host: str
    port: int
    is_literal: bool

    @property
    def is_https(self) -> bool:
        """True when the connection is by TLS."""
        return self.url.scheme == "https"

    def at(self, address: str) -> URL:
        """Return the same at a literal address; path and query stay as they were written."""
        written = URL(self.text, encoded=True)
        return URL.build(
            scheme=self.url.scheme,
            host=f"[{address}]" if ":" in address else address,
            port=self.port,
            path=written.raw_path or "/",
            query_string=written.raw_query_string,
            encoded=True,
        )


def read(text: str) -> Target:
    """Read a URL.

    Raises:
        WebhookUrlRefused: it is no URL that a request can be sent to.
    """
    if not _PRINTABLE.fullmatch(text) or "\\" in text:
        raise refusal("characters", "write it in ASCII, without spaces and backslashes")
    try:
        url = URL(text)
        host, port = url.raw_host or "", url.port or 0
    except ValueError as error:
        raise refusal("form", "it isn't a valid URL") from error
    if url.scheme not in ("https", "http"):
        raise refusal("https", "it must begin with https://")
    # In the text too: an empty login or fragment leaves no trace in what was read.
    if "@" in text.partition("://")[2].partition("/")[0].partition("?")[0] or url.raw_user:
        raise refusal("login", "remove user and password: deliveries are signed")
    if "#" in text:
        raise refusal("fragment", "remove the fragment after #")
    return Target(text, url, host, port, _is_literal(host))


def check(target: Target, *, listed: bool) -> None:
    """Refuse what only a target on the operator's list may have: plain http, or a port below 1024.

    Raises:
        WebhookUrlRefused: says which rule it breaks.
    """
    if listed:
        return
    if not target.is_https:
        raise refusal("https", "it must begin with https://")
    if target.port != HTTPS_PORT and target.port < PORT_UNPRIVILEGED:
        raise refusal(
            "port", f"port {target.port} is not allowed for webhooks: use 443, or 1024 and up"
        )


def refusal(rule: str, advice: str) -> WebhookUrlRefused:
    """Build the refusal of a URL, which it does not repeat: it may hold a token."""
    return WebhookUrlRefused(f"webhooks cannot be sent to this URL: {advice}", rule=rule)


def _is_literal(host: str) -> bool:
    """True for an address in its usual spelling, false for a name.

    Raises:
        WebhookUrlRefused: neither; an address in decimal, octal or hexadecimal spelling among them.
    """
    if ":" in host:
        return True
    labels = host.rstrip(".").split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        usual = len(labels) == 4 and all(
            label.isdigit() and str(int(label)) == label and int(label) < 256 for label in labels
        )
        if usual and not host.endswith("."):
            return True
        raise refusal("host", "write an IPv4 address as four decimal numbers")
    if not _NAME.fullmatch(host):
        raise refusal("host", "it has no host")
    return False
