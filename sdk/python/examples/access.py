"""A key that may only read, what it may not do, and its end."""

from datetime import timedelta

from payments_sdk.payments.access.v1 import (
    CreateApiKeyRequest,
    ListApiKeysRequest,
    RevokeApiKeyRequest,
)
from payments_sdk.payments.billing.v1 import ListChargesRequest
from payments_sdk.payments.metering.v1 import IngestEventsRequest
from tollmesh_client import Client, PermissionDenied, Unauthenticated

with Client() as client:
    made = client.access.create_api_key(
        CreateApiKeyRequest(name="reports", scopes=["billing:read"], lifetime=timedelta(days=30))
    )
    with Client(client.settings.address, made.secret) as reports:
        print(
            len(reports.charge.list_charges(ListChargesRequest(org_id="example-python")).charges),
            "charges",
        )
        try:
            reports.metering.ingest_events(IngestEventsRequest())
        except PermissionDenied as error:
            print(error.reason, error.metadata["scope"])
        client.access.revoke_api_key(RevokeApiKeyRequest(key_id=made.api_key.key_id))
        try:
            while True:  # within a second all processes of the mesh know
                reports.charge.list_charges(ListChargesRequest())
        except Unauthenticated as error:
            print(error.reason)
    keys = client.access.all_api_keys(ListApiKeysRequest(page_size=1))
    print([key.name for key in keys if key.revoked_at is None])
