"""Where a mesh is and how to talk to it: address, key, TLS, limits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import grpc

from tollmesh_client.errors import ConfigurationError
from tollmesh_client.retries import Retries

ADDRESS_VARIABLE = "TOLLMESH_ADDRESS"
KEY_VARIABLE = "TOLLMESH_API_KEY"
ADDRESS_DEFAULT = "127.0.0.1:7443"
TIMEOUT_DEFAULT = 30.0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024
"""What a mesh takes and gives in one message."""
_KEY_CHARS_MAX = 256
_PORT_MAX = 65_535


@dataclass(frozen=True)
class Tls:
    """TLS to the mesh, or to the proxy in front of it.

    Attributes:
        root_certificates: PEM of the authorities to trust; None for those that gRPC brings along.
        private_key, certificate_chain: PEM of the client's own certificate, where one is asked for.
        server_name: name in the server's certificate, if it is not the host of the address.
    """

    root_certificates: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    certificate_chain: bytes | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigurationError: a key without certificate, or the other way round."""
        if (self.private_key is None) != (self.certificate_chain is None):
            raise ConfigurationError("Tls: private_key and certificate_chain need each other")

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what gRPC makes of it."""
        return grpc.ssl_channel_credentials(
            self.root_certificates, self.private_key, self.certificate_chain
        )


@dataclass(frozen=True)
class Settings:
    """What both clients are made of. Use `Settings.of`, which reads the environment and checks.

    Attributes:
        address: `host:port` of the mesh's gRPC port.
        api_key: sent with every call; empty sends none.
        tls: None talks in plain text, as `tollmesh up` does on the own machine.
        timeout: seconds for a call with all its tries, unless the call names its own.
        retries: when a call is made again.
        metadata: further headers of every call.
    """

    address: str
    api_key: str = field(repr=False)
    tls: Tls | None
    timeout: float
    retries: Retries
    metadata: Mapping[str, str]

    @classmethod
    def of(
        cls,
        address: str | None = None,
        api_key: str | None = None,
        *,
        tls: Tls | bool = False,
        timeout: float = TIMEOUT_DEFAULT,
        retries: Retries | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Settings:
        """Fill in what is not given from TOLLMESH_ADDRESS and TOLLMESH_API_KEY.

        Raises:
            ConfigurationError: something cannot be used.
        """
        if address is None:
            address = os.environ.get(ADDRESS_VARIABLE) or ADDRESS_DEFAULT
        if api_key is None:
            api_key = os.environ.get(KEY_VARIABLE, "")
        _check_address(address)
        _check_key(api_key)
        if not 0 < timeout < 86_400 * 365:
            raise ConfigurationError(f"timeout must be a positive number of seconds, not {timeout}")
        chosen = (Tls() if tls else None) if isinstance(tls, bool) else tls
        headers = dict(metadata or {})
        if "authorization" in {name.lower() for name in headers}:
            raise ConfigurationError("metadata: give the key as api_key, not as authorization")
        return cls(address, api_key, chosen, timeout, retries or Retries(), headers)

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call."""
        key = (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()
        return (*key, *((name.lower(), value) for name, value in self.metadata.items()))

    def options(self) -> list[tuple[str, Any]]:
        """Return the options of the channel."""
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.primary_user_agent", f"tollmesh-client/{version()}"),
            # Tries are ours to count; and a mesh that comes back is found soon.
            ("grpc.enable_retries", 0),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if self.tls is not None and self.tls.server_name:
            options.append(("grpc.ssl_target_name_override", self.tls.server_name))
        return options


def version() -> str:
    """Return the version of this package."""
    try:
        return metadata.version("tollmesh-client")
    except metadata.PackageNotFoundError:  # used from its source
        return "0"


def _check_address(address: str) -> None:
    host, colon, port = address.rpartition(":")
    numbered = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= _PORT_MAX
    if not (host and colon and numbered) or "/" in address or address.split() != [address]:
        raise ConfigurationError(
            f"{address!r} is not host:port of a gRPC server, such as 127.0.0.1:7443: "
            f"give the address, or set {ADDRESS_VARIABLE}"
        )


def _check_key(api_key: str) -> None:
    if len(api_key) > _KEY_CHARS_MAX or not (api_key.isascii() and api_key.isprintable()):
        raise ConfigurationError(
            f"the API key has characters, or a length, that no key has: check api_key or {KEY_VARIABLE}"
        )
