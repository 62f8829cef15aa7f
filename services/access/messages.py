"""Keys, as messages."""

from __future__ import annotations

from payments.access.v1 import access_pb2
from payments.access.v1 import access_service_pb2 as service_pb

from services.access.domain import KeyView


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
