"""Who a piece of work is done for: tenant, actor, request and cause. Travels in a context variable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class Credential:
    """The key of a caller whose call may outlast the database.

    Attributes:
        key_sha256: digest of the key, by which it is looked up again; the same that the database has.
        confirmed: it was looked up, within the time for which a key is remembered. While the database is away it
            was only found good before that.
    """

    key_sha256: bytes = field(repr=False)
    confirmed: bool = True


@dataclass(frozen=True, slots=True)
class CallContext:
    """The principal and the trail of one call or reaction.

    Attributes:
        tenant_id: whose data it may touch; names the rows that the database shows.
        principal_id: key, service or reaction that acts, e.g. `key_0190…` or `mesh:monitoring.violations`.
        scopes: what it may do.
        request_id: id of the call in the logs, given by the caller or made.
        correlation_id: id of the whole chain of calls and events.
        causation_id: id of the event or call that caused this one.
        traceparent: W3C trace context, or an empty text.
        tracestate: what vendors of tracing keep beside it, or an empty text.
        deadline_at: monotonic seconds at which the caller stops to wait; None without a deadline.
        idempotency_key: header Idempotency-Key as it came, or an empty text.
        expires_at: when the key of the caller ends; None for one that does not, and inside the mesh.
        credential: its key, in calls that may be held while the database is away; None inside the mesh.
    """

    tenant_id: str
    principal_id: str
    scopes: frozenset[str]
    request_id: str
    correlation_id: str
    causation_id: str = ""
    traceparent: str = ""
    tracestate: str = ""
    deadline_at: float | None = None
    idempotency_key: str = ""
    expires_at: datetime | None = None
    credential: Credential | None = None


_CURRENT: ContextVar[CallContext] = ContextVar("tollmesh_call")


def current() -> CallContext:
    """Return the context of the running call. Raises LookupError outside of one."""
    return _CURRENT.get()


def acting_tenant() -> str:
    """Return the tenant of the running call; "" outside of one."""
    call = _CURRENT.get(None)
    return call.tenant_id if call else ""


@contextmanager
def acting(call: CallContext) -> Iterator[CallContext]:
    """Act as `call` inside the block."""
    token = _CURRENT.set(call)
    try:
        yield call
    finally:
        _CURRENT.reset(token)
