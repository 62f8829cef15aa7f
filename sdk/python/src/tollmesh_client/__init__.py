"""The client of Tollmesh: call its services, and hand usage over so that none is lost or counted twice.

`Client` waits for its answers, `AsyncClient` is for asyncio; each has a service as an attribute, as
`client.charge.create_charge(request)`. Messages are dataclasses in `payments_sdk.payments.<package>.v1`.
`UsageIngester` and `AsyncUsageIngester` batch usage events in the background, with a spool on the disk if asked.
"""

from payments_sdk.checked import FieldMisfit

from tollmesh_client.aio import AsyncClient
from tollmesh_client.client import Client
from tollmesh_client.errors import (
    Aborted,
    AlreadyExists,
    CallError,
    Cancelled,
    ClientClosed,
    ConfigurationError,
    DataLoss,
    DeadlineExceeded,
    EventsUnsent,
    EventTooLarge,
    FailedPrecondition,
    FieldViolation,
    IngesterClosed,
    IngestError,
    Internal,
    InvalidArgument,
    MessageTooLarge,
    NotFound,
    OutOfRange,
    PermissionDenied,
    QueueFull,
    ResourceExhausted,
    SpoolDamaged,
    SpoolDiskFull,
    SpoolError,
    SpoolFull,
    SpoolInUse,
    TollmeshError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    UnknownError,
    UsedAfterFork,
    Verdict,
)
from tollmesh_client.ingest import IngestOptions, Receipt, Stats, UsageIngester
from tollmesh_client.ingest_aio import AsyncUsageIngester
from tollmesh_client.retries import NO_RETRIES, Retries
from tollmesh_client.settings import Tls, version
from tollmesh_client.spool import SpoolOptions

__version__ = version()
__all__ = [
    "NO_RETRIES",
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "AsyncUsageIngester",
    "CallError",
    "Cancelled",
    "Client",
    "ClientClosed",
    "ConfigurationError",
    "DataLoss",
    "DeadlineExceeded",
    "EventTooLarge",
    "EventsUnsent",
    "FailedPrecondition",
    "FieldMisfit",
    "FieldViolation",
    "IngestError",
    "IngestOptions",
    "IngesterClosed",
    "Internal",
    "InvalidArgument",
    "MessageTooLarge",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "QueueFull",
    "Receipt",
    "ResourceExhausted",
    "Retries",
    "SpoolDamaged",
    "SpoolDiskFull",
    "SpoolError",
    "SpoolFull",
    "SpoolInUse",
    "SpoolOptions",
    "Stats",
    "Tls",
    "TollmeshError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "UnknownError",
    "UsageIngester",
    "UsedAfterFork",
    "Verdict",
]
