"""Cuts a catalogue that is too large for one call into parts that are not."""

from __future__ import annotations

from collections.abc import Iterator

from buf.validate import validate_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from payments.pricing.v1.catalog_service_pb2 import Catalog

from services.cli.batches import ITEM_BYTES
from services.cli.errors import EXIT_USAGE, CliError

# Of one call, by ApplyCatalogRequest.
PART_BYTES_MAX = 512 * 1024
# What others refer to comes first; a business model and its default plan refer to one another.
_KEYS = {
    "skus": ("sku",),
    "business_models": ("model_id",),
    "plans": ("plan_id",),
    "org_business_models": ("org_id",),
    "entitlements": ("org_id", "effective_at"),
    "partners": ("partner_id",),
    "partners_of_record": ("org_id", "partner_id", "start_at"),
    "commission_rates": ("partner_tier", "sku"),
    "tax_rates": ("jurisdiction", "tax", "tax_code", "effective_at"),
    "tax_profiles": ("org_id", "effective_at"),
    "tax_policies": ("country",),
    "billing_account_orgs": ("org_id", "billing_account_id", "start_at"),
    "billing_account_partners": ("billing_account_id", "partner_id", "start_at"),
}


def parts(wanted: Catalog) -> Iterator[Catalog]:
    """Give a catalogue as it is or, if it is larger than one call may be, in parts.

    Raises:
        CliError: an id stands twice, which no single call would tell.
    """
    if wanted.ByteSize() <= PART_BYTES_MAX and all(
        len(getattr(wanted, name)) <= _items_max(name) for name in _KEYS
    ):
        yield wanted
        return
    _check_ids(wanted)
    part = Catalog()
    weight = 0
    for name in _KEYS:
        for item in getattr(wanted, name):
            item_bytes = item.ByteSize() + ITEM_BYTES
            is_full = weight + item_bytes > PART_BYTES_MAX
            if weight and (is_full or len(getattr(part, name)) == _items_max(name)):
                yield part
                part, weight = Catalog(), 0
            getattr(part, name).append(item)
            weight += item_bytes
    yield part


def _items_max(name: str) -> int:
    rules = Catalog.DESCRIPTOR.fields_by_name[name].GetOptions().Extensions[validate_pb2.field]
    return int(rules.repeated.max_items)


def _check_ids(wanted: Catalog) -> None:
    for name, key in _KEYS.items():
        seen: set[tuple[str, ...]] = set()
        for item in getattr(wanted, name):
            found = tuple(_text(item, field) for field in key)
            if found in seen:
                raise CliError(f"{name} has {'/'.join(found)} twice", exit_code=EXIT_USAGE)
            seen.add(found)


def _text(item: Message, field: str) -> str:
    value = getattr(item, field)
    return value.ToJsonString() if isinstance(value, Timestamp) else str(value)
