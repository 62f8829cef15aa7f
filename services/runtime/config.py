"""Settings, from the environment (`TOLLMESH_…`) or given by the program that starts a service."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

# What one message may weigh, in and out. A full batch of usage events stays far below.
MESSAGE_BYTES_MAX = 16 * 1024 * 1024


class SettingsUnfit(Exception):
    """A setting cannot be read, or is out of its bounds. The message names every one."""


class Settings(BaseSettings):
    """How a service runs. Every field can be set as `TOLLMESH_<NAME>` in capitals.

    Attributes:
        database_url: Postgres as the services' role; never the owner's.
        relay_url: the same database as the relay's role, which sequences and dispatches events.
        listen: address of the gRPC server; port 0 takes a free one.
        mesh_secret: signs the tokens that travel between services; the same for all of a mesh.
        peers: where the other services are, `name=host:port` separated by commas; `*` stands for all.
        deadline_ceiling_ms: longest time that a call may take, whatever its caller allows.
        concurrent_rpcs_max: calls that a server works on at once; more get RESOURCE_EXHAUSTED.
        pool_size: database connections of a process.
        metrics_listen: address of the Prometheus endpoint; empty for none.
        otlp_endpoint: where traces and metrics go by OTLP; empty for nowhere.
        log_level: least level of the log lines.
        pooled: a connection pooler in transaction mode (PgBouncer) stands before Postgres; nothing is prepared.
    """

    model_config = SettingsConfigDict(env_prefix="TOLLMESH_", extra="ignore")

    database_url: str = ""
    relay_url: str = ""
    listen: str = "127.0.0.1:7443"
    mesh_secret: SecretStr = SecretStr("")
    peers: str = ""
    deadline_ceiling_ms: int = Field(default=60_000, ge=100, le=600_000)
    concurrent_rpcs_max: int = Field(default=256, ge=1, le=10_000)
    pool_size: int = Field(default=16, ge=2, le=90)
    metrics_listen: str = ""
    otlp_endpoint: str = ""
    log_level: str = Field(default="warning", pattern="(?i)^(debug|info|warning|error|critical)$")
    data_dir: Path = Path(".tollmesh")

    def peer(self, service: str) -> str:
        """Return the address of a service. Raises LookupError when none is configured."""
    pooled: bool = False
        addresses = dict(
            item.strip().split("=", 1) for item in self.peers.split(",") if "=" in item
        )
        address = addresses.get(service) or addresses.get("*")
        if not address:
            raise LookupError(
                f"no address for service {service}: set TOLLMESH_PEERS={service}=host:port"
            )
        return address

    @classmethod
    def load(cls) -> Self:
        """Read the settings from the environment.

        Raises:
            SettingsUnfit: names each variable at fault and what is wrong with it.
        """
        try:
            return cls()
        except ValidationError as error:
            prefix = str(cls.model_config["env_prefix"])
            faults = (
                f"{prefix}{'_'.join(map(str, item['loc'])).upper()}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False)
            )
            raise SettingsUnfit("; ".join(faults)) from error
