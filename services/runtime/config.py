"""Settings, from the environment (`TOLLMESH_…`) or given by the program that starts a service."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.runtime import secrets
from services.runtime.addresses import AllowList, check_port

# Longer than the last retry of a webhook, and than a long week-end.
EVENT_RETENTION_DAYS_MIN = 7


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
        tenant_rpcs_max: of them those of one tenant.
        key_rpcs_max: of them those of one key.
        streams_max: streams that a server holds open at once, beside the calls; more get RESOURCE_EXHAUSTED.
        tenant_streams_max: of them those of one tenant.
        key_streams_max: of them those of one key.
        request_bytes_max: bytes of requests that are worked on at once; more get RESOURCE_EXHAUSTED.
        tenant_request_bytes_max: of them those of one tenant; at least as much as the largest request.
        body_seconds: how long the message of a call may take to come, once the call has begun.
        stream_idle_seconds: how long a client may send nothing on a stream that it sends on.
        stream_write_seconds: how long a client may take to take one message of a stream.
        connections_max: connections of clients to a server; more are closed as they come.
        pool_size: database connections of a process.
        pooled: a connection pooler in transaction mode (PgBouncer) stands before Postgres; nothing is prepared.
        event_retention_days: days that events are kept at least, 0 for ever; what is not handled yet, or lies in
            the dead letters, stays longer.
        feed_stall_seconds: how long the feed may stand still until the event service is NOT_SERVING.
        drain_notice_seconds: how long a process that ends answers calls while it says NOT_SERVING already.
        storage_dir: folder of the database's files, when they lie on this machine; its room is watched.
        storage_free_bytes_min: with less room there writes are refused; at most a tenth of the file system, or 32 MiB,
            counts, 0 for never.
        metrics_listen: address of the Prometheus endpoint; empty for none.
        otlp_endpoint: where traces and metrics go by OTLP; empty for nowhere.
        log_level: least level of the log lines.
        loop_holds_file: where stacks of what holds the event loop for 250 ms or longer are appended; none without it.
        data_dir: where `tollmesh up` keeps its files; other processes leave it alone.
        secrets_keys: keys of 32 bytes in Base64 that secrets are kept under in the database, separated by commas;
            the first encrypts, all decrypt. Only services that keep secrets need it.
        webhook_allow: addresses, networks and hosts that webhooks may go to although they are not public,
            separated by commas, each with an optional port.
        processor_allow: addresses, networks and hosts that payment processors may be at although they are not public,
            in the same form.
        processor_credentials: credentials of processors as a JSON object, `{"tenant/name": {"secret": "…"}}`.
        processor_credentials_dir: folder with a file `tenant/name.json` for each credential; files may be replaced
            while the service runs.
        nats_url: NATS that carries events between sites, `nats://host:4222`, several separated by commas; empty for
            none. It may hold a user and a password.
        nats_site: name of this site, unlike every other's.
        nats_from: sites whose events are taken in, separated by commas.
        nats_creds_file: credentials of NATS (`.creds`), instead of a user in the URL.
        nats_ca_file: certificates that those of NATS are checked against, when the system's do not do.
        nats_cert_file: our own certificate for NATS, with `nats_key_file`.
        nats_key_file: key of `nats_cert_file`.
        nats_replicas: copies of each message; 0 for three in a cluster, else one.
        nats_stream_bytes_max: what the site's stream may weigh when it is made; the oldest messages go first.
        spool_url: NATS that holds usage while the database is away, `nats://host:4222`, several separated by commas;
            empty for none. Files of certificates and credentials, site and copies are those of `nats_…`.
        spool_bytes_max: what the spool may weigh when it is made; a full one takes nothing more.
        spool_keys_seconds: how long ago a key must have been found good at most, to count while the database is away.
    """

    model_config = SettingsConfigDict(env_prefix="TOLLMESH_", extra="ignore")

    database_url: str = ""
    relay_url: str = ""
    listen: str = "127.0.0.1:7443"
    mesh_secret: SecretStr = SecretStr("")
    peers: str = ""
    deadline_ceiling_ms: int = Field(default=60_000, ge=100, le=600_000)
    concurrent_rpcs_max: int = Field(default=256, ge=1, le=10_000)
    tenant_rpcs_max: int = Field(default=192, ge=1, le=10_000)
    key_rpcs_max: int = Field(default=128, ge=1, le=10_000)
    streams_max: int = Field(default=256, ge=1, le=10_000)
    tenant_streams_max: int = Field(default=64, ge=1, le=10_000)
    key_streams_max: int = Field(default=64, ge=1, le=10_000)
    request_bytes_max: int = Field(default=384 * 1024**2, ge=16 * 1024**2)
    tenant_request_bytes_max: int = Field(default=128 * 1024**2, ge=16 * 1024**2)
    body_seconds: float = Field(default=30.0, ge=0.1, le=600)
    stream_idle_seconds: float = Field(default=600.0, ge=0.1, le=86_400)
    stream_write_seconds: float = Field(default=60.0, ge=0.1, le=3600)
    connections_max: int = Field(default=4096, ge=16, le=100_000)
    pool_size: int = Field(default=16, ge=2, le=90)
    pooled: bool = False
    event_retention_days: int = Field(default=90, ge=0, le=36_500)
    feed_stall_seconds: int = Field(default=2, ge=2, le=3600)
    drain_notice_seconds: float = Field(default=0.0, ge=0, le=300)
    storage_dir: Path | None = None
    storage_free_bytes_min: int = Field(default=512 * 1024**2, ge=0)
    metrics_listen: str = ""
    otlp_endpoint: str = ""
    log_level: str = Field(default="warning", pattern="(?i)^(debug|info|warning|error|critical)$")
    loop_holds_file: Path | None = None
    data_dir: Path = Path(".tollmesh")
    secrets_keys: SecretStr = SecretStr("")
    webhook_allow: str = ""
    processor_allow: str = ""
    processor_credentials: SecretStr = SecretStr("")
    processor_credentials_dir: Path | None = None
    nats_url: SecretStr = SecretStr("")
    nats_site: str = "main"
    nats_from: str = ""
    nats_creds_file: Path | None = None
    nats_ca_file: Path | None = None
    nats_cert_file: Path | None = None
    nats_key_file: Path | None = None
    nats_replicas: int = Field(default=0, ge=0, le=5)
    nats_stream_bytes_max: int = Field(default=1024**3, ge=1024**2)
    spool_url: SecretStr = SecretStr("")
    spool_bytes_max: int = Field(default=1024**3, ge=1024**2, le=1024**4)
    spool_keys_seconds: int = Field(default=3600, ge=0, le=7 * 86_400)

    @field_validator("loop_holds_file", "storage_dir", "processor_credentials_dir", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("secrets_keys")
    @classmethod
    def _keys_read(cls, value: SecretStr) -> SecretStr:
        secrets.parse_keys(value.get_secret_value())
        return value

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _listens_on_a_port(cls, value: str) -> str:
        check_port(value, lowest=0)
        return value

    @field_validator("peers", "otlp_endpoint")
    @classmethod
    def _reaches_ports(cls, value: str) -> str:
        for address in value.split(","):
            check_port(address.strip())
        return value

    @field_validator("webhook_allow", "processor_allow")
    @classmethod
    def _allow_list_reads(cls, value: str) -> str:
        AllowList.parse(value)
        return value

    @field_validator("event_retention_days")
    @classmethod
    def _retention_outlasts_retries(cls, value: int) -> int:
        if 0 < value < EVENT_RETENTION_DAYS_MIN:
            raise ValueError(
                f"keep events for at least {EVENT_RETENTION_DAYS_MIN} days, or forever with 0"
            )
        return value

    def peer(self, service: str) -> str:
        """Return the address of a service. Raises LookupError when none is configured."""
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
