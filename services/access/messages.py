"""Keys and audit entries, as messages."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from payments.access.v1 import access_pb2
from payments.access.v1 import access_service_pb2 as service_pb

from services.access.domain import (
    EARLIEST,
    LATEST,
    AuditEntry,
    AuditFilter,
    KeyView,
    check_kinds,
)
from services.runtime.audited import KINDS
from services.runtime.edge import values as edge

# A Struct holds numbers as floats; a larger one is written as a text, so that no digit is lost.
_EXACT_MAX = 2**53


def created(view: KeyView) -> service_pb.CreateApiKeyResponse:
    """Write a key that was just made, with its secret."""
    return service_pb.CreateApiKeyResponse(api_key=api_key(view), secret=view.secret)


def without_secret(response: service_pb.CreateApiKeyResponse) -> service_pb.CreateApiKeyResponse:
    """Leave the secret out: it is shown once."""
    return service_pb.CreateApiKeyResponse(api_key=response.api_key)


def revoked(view: KeyView) -> service_pb.RevokeApiKeyResponse:
    """Write a key that was ended."""
    return service_pb.RevokeApiKeyResponse(api_key=api_key(view))


def api_key(view: KeyView) -> access_pb2.ApiKey:
    """Write a key."""
    key = view.key
    message = access_pb2.ApiKey(
        key_id=key.key_id,
        tenant_id=view.tenant_id,
        prefix=key.prefix,
        name=key.name,
        scopes=key.scopes,
        created_by=key.created_by,
        parent_key_id=key.parent_key_id,
        revoked_with_key_id=key.revoked_with,
        keys_ended=key.keys_ended,
    )
    message.created_at.FromDatetime(key.created_at)
    if key.expires_at is not None:
        message.expires_at.FromDatetime(key.expires_at)
    if key.revoked_at is not None:
        message.revoked_at.FromDatetime(key.revoked_at)
    return message


def audit_filter(request: service_pb.ListAuditEntriesRequest) -> AuditFilter:
    """Read which entries are asked for.

    Raises:
        InvalidField: a kind is none that anything has.
    """
    check_kinds(request.kinds, KINDS)
    within = request.HasField("period")
    return AuditFilter(
        kinds=tuple(sorted(request.kinds)),
        subject_id=request.subject_id,
        actor=request.actor,
        start_at=edge.moment_of(request.period.start_at) if within else EARLIEST,
        end_at=edge.moment_of(request.period.end_at) if within else LATEST,
    )


def audit_entry(entry: AuditEntry) -> access_pb2.AuditEntry:
    """Write an audit entry."""
    message = access_pb2.AuditEntry(
        audit_id=str(entry.audit_id),
        kind=entry.kind,
        subject_id=entry.subject_id,
        actor=entry.actor,
        request_id=entry.request_id,
        recorded_at=edge.stamp(entry.recorded_at),
    )
    _write(message.before, entry.before)
    _write(message.after, entry.after)
    return message


def _write(struct: Struct, text: str | None) -> None:
    if text is None:
        return
    json_format.ParseDict(_exact(json.loads(text, parse_float=str)), struct)
    # Also what is empty is there.
    struct.SetInParent()


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, int) and abs(value) > _EXACT_MAX:
        return str(value)
    return value
