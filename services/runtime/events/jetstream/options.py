"""How a site is joined to NATS."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit, urlunsplit

from services.runtime.config import Settings, SettingsUnfit

# Part of stream names and subjects.
SITE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

DAY_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Options:
    """How a site is joined to NATS.

    Attributes:
        servers: URLs of one NATS; the first may hold a user and a password, so nothing prints them.
        site: name of this site, unlike every other's.
        sources: sites whose events are taken in.
        creds_file: credentials of NATS (`.creds`), instead of a user in the URL.
        ca_file: certificates that the servers' are checked against, when the system's do not do.
        cert_file: our own certificate, where the servers ask for one; `key_file` is its key.
        key_file: key of `cert_file`.
        replicas: copies of each message; 0 for three in a cluster, else one.
        stream_bytes_max: what the stream may weigh; beyond it the oldest messages are dropped.
        stream_age_s_max: how long a message stays in the stream.
        duplicate_window_s: how long the stream itself knows an event again.
    """

    servers: tuple[str, ...] = field(repr=False)
    site: str = "main"
    sources: tuple[str, ...] = ()
    creds_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    replicas: int = 0
    stream_bytes_max: int = 1024**3
    stream_age_s_max: float = 7 * DAY_SECONDS
    duplicate_window_s: float = 120

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Read them from the settings; None when the transport is off.

        Raises:
            SettingsUnfit: names the variable at fault.
        """
        urls = _listed(settings.nats_url.get_secret_value())
        if not urls:
            return None
        sources = _listed(settings.nats_from)
        if settings.nats_site in sources:
            raise SettingsUnfit("TOLLMESH_NATS_FROM: a site cannot receive events from itself")
        for site in sources:
            _check_site("FROM", site)
        return cls._joined(
            settings, "NATS_URL", urls, sources=sources, bytes_max=settings.nats_stream_bytes_max
        )

    @classmethod
    def of_spool(cls, settings: Settings) -> Self | None:
        """Read how the spool of usage is reached; None when there is none.

        Raises:
            SettingsUnfit: names the variable at fault.
        """
        urls = _listed(settings.spool_url.get_secret_value())
        if not urls:
            return None
        return cls._joined(settings, "SPOOL_URL", urls, bytes_max=settings.spool_bytes_max)

    @classmethod
    def _joined(
        cls,
        settings: Settings,
        name: str,
        urls: tuple[str, ...],
        *,
        sources: tuple[str, ...] = (),
        bytes_max: int,
    ) -> Self:
        _check_site("SITE", settings.nats_site)
        _check_urls(name, urls)
        files = (settings.nats_creds_file, settings.nats_ca_file, settings.nats_cert_file)
        for path in (*files, settings.nats_key_file):
            if path is not None and not path.is_file():
                raise SettingsUnfit(f"TOLLMESH_NATS_…_FILE: there is no file {path}")
        return cls(
            servers=urls,
            site=settings.nats_site,
            sources=sources,
            creds_file=settings.nats_creds_file,
            ca_file=settings.nats_ca_file,
            cert_file=settings.nats_cert_file,
            key_file=settings.nats_key_file,
            replicas=settings.nats_replicas,
            stream_bytes_max=bytes_max,
        )

    def tls(self) -> ssl.SSLContext | None:
        """Return what checks the servers' certificates; None to leave it to the scheme of the URL."""
        if self.ca_file is None and self.cert_file is None:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


def credentials_of(urls: Sequence[str]) -> dict[str, str]:
    """Return user and password, or the token, of the first URL that has one, as the client takes them."""
    for url in urls:
        parts = urlsplit(url)
        if parts.username and parts.password:
            return {"user": unquote(parts.username), "password": unquote(parts.password)}
        if parts.username:
            return {"token": unquote(parts.username)}
    return {}


def bare(url: str) -> str:
    """Return a URL without its credentials."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def place_of(url: str) -> str:
    """Return host and port of a URL, without what else it says."""
    parts = urlsplit(url)
    return f"{parts.hostname or '?'}:{parts.port or 4222}"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _check_site(name: str, site: str) -> None:
    if not SITE.fullmatch(site):
        raise SettingsUnfit(
            f"TOLLMESH_NATS_{name}: {site!r} is not a valid site: use 1 to 32 of a-z, 0-9 and -"
        )


def _check_urls(name: str, urls: tuple[str, ...]) -> None:
    for url in urls:
        try:
            parts = urlsplit(url)
            fit = parts.scheme in {"nats", "tls", "ws", "wss"} and bool(parts.hostname)
            fit = fit and parts.port != 0
        except ValueError:
            fit = False
        if not fit:
            # Not the URL itself: it may hold a password.
            raise SettingsUnfit(f"TOLLMESH_{name}: write nats://host:4222 or tls://host:4222")
