"""Builds the ledger from the runtime."""

from __future__ import annotations

from payments.ledger.v1 import ledger_service_pb2_grpc

from services.ledger.app.ledger import Ledger
from services.ledger.reactions import REACTIONS
from services.ledger.servicer import SERVICE, LedgerServicer
from services.ledger.work.background import Background
from services.ledger.work.holds import expiring
from services.ledger.work.months import Months
from services.ledger.work.sums import Sums
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    ledger = Ledger(runtime.database, runtime.commands, runtime.violations)
    background = Background(
        [
            expiring(runtime.database, runtime.telemetry),
            Months(runtime.database),
            Sums(runtime.database),
        ]
    )
    return Service(
        servicers=[
            Servicer(
                ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server,
                LedgerServicer(ledger, runtime.commands, runtime.violations),
                SERVICE,
            )
        ],
        reactions=REACTIONS,
        start=background.start,
        stop=background.stop,
    )
