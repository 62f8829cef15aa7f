"""Webhooks: endpoints, deliveries and attempts, and what may be said of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.runtime.errors import Code, DomainError

# What a test publishes; it goes to its own endpoint alone and is tried once.
TEST_SUBJECT = "webhook-endpoint.tested"
ENDPOINTS_MAX = 50
SECRETS_MAX = 5
CONCURRENCY_DEFAULT = 4

OVERLAP_DEFAULT = timedelta(hours=24)


class WebhookUrlRefused(DomainError):
    """A URL that no webhook can go to; `rule` names the rule that it breaks."""

    code = Code.INVALID_ARGUMENT
    reason = "WEBHOOK_URL_REFUSED"
    state_dependent = True
    rule: str


class WebhookEndpointsFull(DomainError):
    """The tenant has as many endpoints as it may."""

    code = Code.FAILED_PRECONDITION
    reason = "WEBHOOK_ENDPOINTS_FULL"
    state_dependent = True
    endpoints_max: int


class WebhookSecretsFull(DomainError):
    """Too many earlier secrets still sign."""

    code = Code.FAILED_PRECONDITION
    reason = "WEBHOOK_SECRETS_FULL"
    state_dependent = True
    endpoint_id: str
    secrets_max: int


class WebhookEndpointDisabled(DomainError):
    """Nothing can be sent to an endpoint that is disabled."""

    code = Code.FAILED_PRECONDITION
    reason = "WEBHOOK_ENDPOINT_DISABLED"
    state_dependent = True
    endpoint_id: str


class Format(StrEnum):
    """How the body of a delivery looks."""

    JSON = "JSON"
    CLOUDEVENTS = "CLOUDEVENTS"
    CLOUDEVENTS_BINARY = "CLOUDEVENTS_BINARY"


class Signing(StrEnum):
    """How a delivery is signed."""

    HMAC = "HMAC"
    ED25519 = "ED25519"


class DisabledReason(StrEnum):
    """Why an endpoint gets nothing; NONE when it does."""

    NONE = ""
    REQUESTED = "REQUESTED"
    GONE = "GONE"
    FAILING = "FAILING"


class DeliveryStatus(StrEnum):
    """How far the delivery of an event to an endpoint got."""

    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"


class Outcome(StrEnum):
    """What came of one request."""

    SENDING = "SENDING"
    SUCCEEDED = "SUCCEEDED"
    REFUSED = "REFUSED"
    REDIRECTED = "REDIRECTED"
    TIMED_OUT = "TIMED_OUT"
    UNREACHABLE = "UNREACHABLE"
    BLOCKED = "BLOCKED"
    LOST = "LOST"
    NOT_SENT = "NOT_SENT"


@dataclass(frozen=True, slots=True)
class Health:
    """How an endpoint fares; kept with it, so that every process sees the same.

    Attributes:
        failures: failed attempts since the last success.
        failing_since: the first of them.
        paused_until: until when nothing is sent.
    """

    failures: int = 0
    failing_since: datetime | None = None
    paused_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL that gets a tenant's events."""

    endpoint_id: str
    url: str
    subjects: tuple[str, ...]
    description: str
    format: Format
    concurrency: int
    disabled_reason: DisabledReason
    disabled_at: datetime | None
    health: Health
    created_at: datetime
    updated_at: datetime

    @property
    def is_disabled(self) -> bool:
        """True when it gets nothing."""
        return self.disabled_reason is not DisabledReason.NONE

    def as_audited(self) -> dict[str, object]:
        """Return what an audit entry holds: the configuration."""
        return {
            "url": self.url,
            "subjects": list(self.subjects),
            "description": self.description,
            "format": self.format.value,
            "concurrency": self.concurrency,
            "disabled_reason": self.disabled_reason.value,
        }


@dataclass(frozen=True, slots=True)
class Secret:
    """A signing secret. What must be kept secret is encrypted in `sealed`."""

    secret_id: str
    signing: Signing
    sealed: bytes
    public_key: str
    created_at: datetime
    expires_at: datetime | None

    def signs_at(self, now: datetime) -> bool:
        """True until it has expired."""
        return self.expires_at is None or self.expires_at > now

    def as_audited(self, endpoint_id: str) -> dict[str, object]:
        """Return what an audit entry holds: nothing that signs."""
        expires_at = None if self.expires_at is None else self.expires_at.isoformat()
        return {
            "endpoint_id": endpoint_id,
            "signing": self.signing.value,
            "expires_at": expires_at,
        }


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one endpoint."""

    endpoint_id: str
    event_id: str
    subject: str
    status: DeliveryStatus
    tries: int
    next_at: datetime
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and what came back."""

    attempt_id: str
    endpoint_id: str
    event_id: str
    subject: str
    number: int
    outcome: Outcome
    status_code: int
    response: str
    error: str
    started_at: datetime
    latency_ms: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request, before anything was concluded from it.

    Attributes:
        status_code: HTTP status; 0 without an answer.
        response: start of the body, as text.
        error: what went wrong, in words.
        latency_ms: how long it took.
        retry_after: header Retry-After, as it came.
    """

    outcome: Outcome
    status_code: int = 0
    response: str = ""
    error: str = ""
    latency_ms: int = 0
    retry_after: str = ""


def rotated(
    endpoint_id: str, secrets: Sequence[Secret], now: datetime, until: datetime
) -> dict[str, datetime]:
    """Return when each earlier secret ends, by its id, once another takes its place.

    Raises:
        WebhookSecretsFull: with the new one, more would sign than may.
    """
    ends = {
        secret.secret_id: until if secret.expires_at is None else min(secret.expires_at, until)
        for secret in secrets
        if secret.signs_at(now)
    }
    if sum(end > now for end in ends.values()) >= SECRETS_MAX:
        raise WebhookSecretsFull(
            f"{endpoint_id} already has {SECRETS_MAX} active secrets: wait until one expires, "
            "or rotate with an overlap of 0",
            endpoint_id=endpoint_id,
            secrets_max=SECRETS_MAX,
        )
    return ends


@dataclass(frozen=True, slots=True)
class CreateEndpoint:
    """An endpoint to be made."""

    url: str
    subjects: tuple[str, ...]
    description: str
    format: Format
    concurrency: int
    signing: Signing


@dataclass(frozen=True, slots=True)
class ChangeEndpoint:
    """What is to be changed of an endpoint; None leaves it."""

    endpoint_id: str
    url: str | None = None
    subjects: tuple[str, ...] | None = None
    description: str | None = None
    format: Format | None = None
    concurrency: int | None = None
    disabled: bool | None = None


@dataclass(frozen=True, slots=True)
class RotateSecret:
    """A secret to be replaced; `signing` None keeps the way of signing."""

    endpoint_id: str
    overlap: timedelta
    signing: Signing | None


@dataclass(frozen=True, slots=True)
class RedeliverEvent:
    """One event to be sent again."""

    endpoint_id: str
    event_id: str


@dataclass(frozen=True, slots=True)
class RedeliverPeriod:
    """What failed or was skipped in a period, to be sent again; with a status only what has that."""

    endpoint_id: str
    status: DeliveryStatus | None
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class Redelivered:
    """How many deliveries are sent again, and whether there are more."""

    count: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint with its secrets; `secret` only when one was just made."""

    endpoint: Endpoint
    secrets: Sequence[Secret]
    secret: str = ""
