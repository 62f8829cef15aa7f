"""Rejected events are found by organisation and SKU, and keep the receipt with which they were taken in after all."""

from __future__ import annotations

from collections.abc import Iterator

from alembic import op

from services.runtime.postgres import schema

revision = "0007"
down_revision = "0006"

_COLUMNS = (
    'ALTER TABLE metering.rejected_event ADD COLUMN org_id text COLLATE "C", ADD COLUMN sku text COLLATE "C",'
    " ADD COLUMN replayed_receipt_id uuid"
)
_READ = (
    "SELECT tenant_id, receipt_id::text, event_index, content FROM metering.rejected_event"
    " WHERE org_id IS NULL LIMIT 1000"
)
_FILL = (
    "UPDATE metering.rejected_event SET org_id = %s, sku = %s"
    " WHERE tenant_id = %s AND receipt_id = %s::uuid AND event_index = %s"
)
_ORG_ID, _SKU = 2, 4
_CHARS_MAX = 64


def upgrade() -> None:
    """Add the columns, and read organisations and SKUs out of the events that are kept."""
    op.execute(_COLUMNS)
    connection = op.get_bind()
    while rows := connection.exec_driver_sql(_READ).all():
        for tenant_id, receipt_id, index, content in rows:
            texts = dict(_texts(bytes(content)))
            said = (_cut(texts.get(_ORG_ID, b"")), _cut(texts.get(_SKU, b"")))
            connection.exec_driver_sql(_FILL, (*said, tenant_id, receipt_id, index))
    op.execute(
        "ALTER TABLE metering.rejected_event ALTER org_id SET NOT NULL, ALTER sku SET NOT NULL"
    )
    op.execute(f"GRANT UPDATE (replayed_receipt_id) ON metering.rejected_event TO {_service()}")


def downgrade() -> None:
    """Drop them. What was replayed is usage, and stays; that it was replayed is forgotten."""
    op.execute(f"REVOKE UPDATE (replayed_receipt_id) ON metering.rejected_event FROM {_service()}")
    op.execute(
        "ALTER TABLE metering.rejected_event DROP COLUMN org_id, DROP COLUMN sku, DROP COLUMN replayed_receipt_id"
    )


def _cut(text: bytes) -> str:
    return text.decode(errors="replace").replace("\0", "")[:_CHARS_MAX]


def _texts(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Give the fields of a protobuf message that have a length; a migration knows no schema of a later day."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 0:
            _, at = _varint(message, at)
        elif tag & 7 == 2:
            length, at = _varint(message, at)
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            at += 8 if tag & 7 == 1 else 4


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _service() -> str:
    return '"' + schema.role_names(op).service.replace('"', '""') + '"'
