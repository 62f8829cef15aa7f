"""Builds settlement from the runtime."""

from __future__ import annotations

from payments.settlement.v1 import payout_service_pb2_grpc, settlement_service_pb2_grpc

from services.runtime.service import Runtime, Service, Servicer
from services.settlement.app.checks import Checks
from services.settlement.app.commissions import Commissions
from services.settlement.app.payouts import Payouts
from services.settlement.app.policies import Policies
from services.settlement.app.sweeps import Sweeps
from services.settlement.clients import BillingClient, LedgerClient
from services.settlement.reactions import reactions
from services.settlement.servicer import PayoutServicer, SettlementServicer
from services.settlement.work import posting, sweeping, taking_in


def build(runtime: Runtime) -> Service:
    """Build the service."""
    database, telemetry = runtime.database, runtime.telemetry
    books = LedgerClient(runtime.channels)

    def wake_poster() -> None:
        # It serves what those wake it for, so it is made behind them.
        poster.wake()

    commissions = Commissions(database, BillingClient(runtime.channels), wake_poster)
    payouts = Payouts(database, books, wake_poster)
    sweeps = Sweeps(database, wake_poster)
    poster = posting(database, payouts, telemetry)
    taker = taking_in(database, commissions, telemetry)
    workers = (taker, poster, sweeping(database, sweeps, telemetry))

    async def start() -> None:
        for worker in workers:
            await worker.start()

    async def stop() -> None:
        for worker in workers:
            await worker.stop()

    checks = Checks(database, books, runtime.violations)
    return Service(
        servicers=[
            Servicer(
                settlement_service_pb2_grpc.add_SettlementServiceServicer_to_server,
                SettlementServicer(Policies(database), runtime.commands),
                "payments.settlement.v1.SettlementService",
            ),
            Servicer(
                payout_service_pb2_grpc.add_PayoutServiceServicer_to_server,
                PayoutServicer(payouts, sweeps, commissions, checks, runtime.commands),
                "payments.settlement.v1.PayoutService",
            ),
        ],
        reactions=reactions(taker.wake),
        start=start,
        stop=stop,
    )
