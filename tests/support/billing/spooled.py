"""The trace of a batch that was held: having one takes a database that goes away."""

from __future__ import annotations

import json
import uuid

import psycopg

_INSERT = """
INSERT INTO metering.spooled_batch (tenant_id, receipt_id, stored_receipt_id, events, accepted, duplicate, conflict,
                                    rejected, problems, received_at, drained_at)
VALUES (%s, %s, %s, 2, 1, 1, 0, 0, %s, now() - interval '1 minute', now())
"""


def leave_spooled(url: str, tenant: str, name: str) -> str:
    """Leave a batch of two events, of which one was known, as one that was held and stored; returns its receipt_id.

    Args:
        url: of the database, as the services use it.
        tenant: whose batch it is.
        name: of the event that was known.
    """
    receipt_id = str(uuid.uuid4())
    problems = json.dumps([[1, name, "DUPLICATE", "EVENT_DUPLICATE", ""]]).encode()
    with psycopg.connect(url) as service:
        service.execute("SELECT set_config('mesh.tenant', %s, true)", [tenant])
        service.execute(_INSERT, (tenant, receipt_id, receipt_id, problems))
    return f"rcp_{receipt_id}"
