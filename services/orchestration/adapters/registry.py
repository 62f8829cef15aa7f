"""Every adapter by its name, and the processors that were built of configurations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.orchestration.adapters.credentials import (
    Credential,
    CredentialDamaged,
    Credentials,
)
from services.orchestration.adapters.sandbox import SandboxProcessor
from services.orchestration.adapters.wire import Wire, url_fault
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.processors import (
    Capabilities,
    CredentialUnusable,
    ProcessorConfig,
)
from services.orchestration.domain.webhooks import News
from services.orchestration.ports import (
    Finding,
    Inquiry,
    NotSent,
    Order,
    Processor,
    Settled,
    Unknown,
    Verdict,
    Webhook,
)
from services.runtime.addresses import AllowList
from services.runtime.clock import Clock
from services.runtime.context import current
from services.runtime.database import Database
from services.runtime.errors import FieldViolation

# Processors that a process keeps built; one that is built again is the same to everybody.
KEPT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Access:
    """What an adapter reaches a processor with.

    Attributes:
        base_url: without a slash at its end.
        credential: None for an adapter that needs none.
    """

    config: ProcessorConfig
    base_url: str
    credential: Credential | None
    wire: Wire
    clock: Clock

    @property
    def secret(self) -> str:
        """The credential's secret."""
        assert self.credential is not None
        return self.credential.secret.get_secret_value()


class Adapter(Protocol):
    """What speaks to processors of one kind.

    Attributes:
        name: as configurations name it.
        own_url: where its processors are unless a configuration says otherwise; empty when it must.
        settings: names that a configuration may set.
    """

    name: str
    own_url: str

    def check(self, config: ProcessorConfig) -> Sequence[FieldViolation]:
        """Return what is wrong with the settings."""

    def capabilities(self, config: ProcessorConfig) -> Capabilities:
        """Return what such a processor can do; needs no connection."""

    async def ask(self, access: Access, operation: Operation, order: Order) -> Verdict:
        """Have an operation carried out."""

    async def lookup(self, access: Access, inquiry: Inquiry) -> Finding:
        """Return the outcome of an order."""

    def hear(
        self, config: ProcessorConfig, secrets: Sequence[str], webhook: Webhook, now: datetime
    ) -> News:
        """Read what a processor tells by itself, signed with one of the secrets. Raises Forged, InvalidField."""


@dataclass(frozen=True, slots=True)
class OutsideProcessor:
    """A processor of a merchant's own.

    Its credential is looked for at each call, so that it may be replaced while payments are under way.
    """

    config: ProcessorConfig
    adapter: Adapter
    credentials: Credentials
    wire: Wire
    clock: Clock

    @property
    def processor_id(self) -> str:
        """Id that configurations name."""
        return self.config.processor_id

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return self.adapter.capabilities(self.config)

    async def ask(self, operation: Operation, order: Order) -> Verdict:
        """Have an operation carried out; what the processor has no number for never reaches it."""
        refusal = self.capabilities.refusal(operation, order.amount_minor, order.currency)
        if refusal:
            return Settled(
                done=False,
                provider_ref="",
                amount_minor=order.amount_minor,
                currency=order.currency,
                merchant_ref=order.merchant_ref,
                error_code="unknown",
                failure_code="other",
                retryable=True,
                message=refusal,
            )
        try:
            access = self._access()
        except (CredentialUnusable, CredentialDamaged) as error:
            return NotSent(str(error))
        return await self.adapter.ask(access, operation, order)

    async def lookup(self, inquiry: Inquiry) -> Finding:
        """Return the outcome of an order, by our reference."""
        try:
            access = self._access()
        except (CredentialUnusable, CredentialDamaged) as error:
            return Unknown(str(error))
        return await self.adapter.lookup(access, inquiry)

    def _access(self) -> Access:
        """Return what it is reached with. Raises CredentialUnusable, CredentialDamaged."""
        base_url = (self.config.base_url or self.adapter.own_url).rstrip("/")
        credential = credential_for(self.config, base_url, self.adapter.own_url, self.credentials)
        return Access(self.config, base_url, credential, self.wire, self.clock)


def credential_for(
    config: ProcessorConfig, base_url: str, own_url: str, credentials: Credentials
) -> Credential:
    """Return the credential that a configuration names.

    Raises:
        CredentialUnusable: it is not kept for the tenant, or must not be sent to this address.
        CredentialDamaged: what is kept cannot be read.
    """
    found = credentials.find(config.credential_ref)
    if found is None:
        raise _unusable(config, "is not kept for this tenant")
    allowed = {own_url.rstrip("/"), *(each.rstrip("/") for each in found.base_urls)} - {""}
    if base_url not in allowed:
        raise _unusable(config, f"must not be sent to {base_url}: have it listed in its base_urls")
    return found


def _unusable(config: ProcessorConfig, said: str) -> CredentialUnusable:
    return CredentialUnusable(
        f"credential {config.credential_ref or '(none named)'} of {config.processor_id} {said}",
        processor_id=config.processor_id,
        credential_ref=config.credential_ref,
    )


class Registry:
    """Builds processors, and checks what configurations say of them."""

    def __init__(
        self,
        database: Database,
        built_in: Mapping[str, Processor],
        adapters: Sequence[Adapter],
        credentials: Credentials,
        wire: Wire,
        allow: AllowList,
        clock: Clock,
    ) -> None:
        self._database = database
        self._built_in = built_in
        self._adapters = {each.name: each for each in adapters}
        self._credentials = credentials
        self._wire = wire
        self._allow = allow
        self._clock = clock
        self._built: OrderedDict[tuple[str, ProcessorConfig], Processor] = OrderedDict()

    @property
    def built_in(self) -> Mapping[str, Processor]:
        """The processors that every merchant may name."""
        return self._built_in

    @property
    def names(self) -> frozenset[str]:
        """Adapters that configurations may name."""
        return frozenset({"sandbox", *self._adapters})

    def check(self, config: ProcessorConfig) -> list[FieldViolation]:
        """Return what is wrong with a configuration of a known adapter, by field. Raises CredentialUnusable."""
        if config.adapter == "sandbox":
            return [
                FieldViolation(name, "must be empty: a sandbox processor takes none")
                for name, value in (
                    ("base_url", config.base_url),
                    ("credential_ref", config.credential_ref),
                    ("settings", config.settings),
                )
                if value
            ]
        adapter = self._adapters[config.adapter]
        base_url = (config.base_url or adapter.own_url).rstrip("/")
        faults = list(adapter.check(config))
        if not base_url:
            faults.append(FieldViolation("base_url", "must say where the processor is"))
        elif fault := url_fault(base_url, self._allow):
            faults.append(FieldViolation("base_url", fault))
        if not faults:
            try:
                credential_for(config, base_url, adapter.own_url, self._credentials)
            except CredentialDamaged as error:
                faults.append(FieldViolation("credential_ref", str(error)))
        return faults

    def build(self, config: ProcessorConfig) -> Processor:
        """Return what speaks to a processor of the tenant; the same for the same configuration."""
        key = (current().tenant_id, config)
        if key not in self._built:
            self._built[key] = self._new(config)
            if len(self._built) > KEPT_MAX:
                self._built.popitem(last=False)
        self._built.move_to_end(key)
        return self._built[key]

    def expects_webhooks(self, config: ProcessorConfig) -> bool:
        """Say whether a processor of the tenant tells things by itself, and secrets are kept to check them with."""
        return config.adapter in self._adapters and bool(self._webhook_secrets(config))

    def hear(self, config: ProcessorConfig, webhook: Webhook) -> News:
        """Read what a processor tells by itself. Raises Forged, InvalidField."""
        secrets = self._webhook_secrets(config)
        return self._adapters[config.adapter].hear(config, secrets, webhook, self._clock.now())

    def _webhook_secrets(self, config: ProcessorConfig) -> list[str]:
        try:
            found = self._credentials.find(config.credential_ref)
        except CredentialDamaged:
            return []
        return [] if found is None else [each.get_secret_value() for each in found.webhook_secrets]

    def _new(self, config: ProcessorConfig) -> Processor:
        if config.adapter == "sandbox":
            return SandboxProcessor(config.processor_id, self._database)
        adapter = self._adapters[config.adapter]
        return OutsideProcessor(config, adapter, self._credentials, self._wire, self._clock)
