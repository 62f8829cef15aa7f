"""What a configuration would change, as a message."""

from __future__ import annotations

from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.domain.simulation import Simulation, rounded
from services.orchestration.messages.payments import plan_message
from services.runtime.edge import values as edge


def simulated(found: Simulation) -> service_pb.SimulateRoutingResponse:
    """Write what a configuration would change."""
    response = service_pb.SimulateRoutingResponse(
        looked_at=found.looked_at,
        same=found.same,
        rerouted=found.rerouted,
        newly_covered=found.newly_covered,
        no_longer_covered=found.no_longer_covered,
        left_out=found.left_out,
    )
    for currency, fees in sorted(found.fees.items()):
        response.fees.add(
            before=edge.money(rounded(currency, fees.before_minor)),
            after=edge.money(rounded(currency, fees.after_minor)),
            payments=fees.payments,
            unknown=fees.unknown,
        )
    for each in found.differences:
        response.differences.add(
            payment_id=each.payment.payment_id,
            before=plan_message(each.before) if each.before else None,
            after=plan_message(each.after) if each.after else None,
            refused_codes=each.refused_codes,
        )
    return response
