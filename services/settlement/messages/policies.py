"""Policies, as messages and back."""

from __future__ import annotations

from payments.settlement.v1 import settlement_pb2 as pb
from payments.settlement.v1 import settlement_service_pb2 as service_pb

from services.runtime.edge import values as edge
from services.runtime.money import Money
from services.settlement.domain.policy import Policy, checked


def policy_of(message: pb.SettlementPolicy) -> Policy:
    """Read a policy. Raises InvalidField, UnknownCurrency."""
    policy = Policy(
        seller=message.seller,
        sweep=message.sweep,
        time_zone=message.time_zone,
        sweep_paused=message.sweep_paused,
    )
    has_first = message.HasField("payout_threshold")
    return checked(
        policy,
        edge.money_of(message.payout_threshold) if has_first else None,
        [edge.money_of(each) for each in message.further_payout_thresholds],
        [edge.money_of(each) for each in message.payout_minimums],
    )


def policy_message(policy: Policy) -> pb.SettlementPolicy:
    """Write a policy."""
    first = policy.threshold_first
    message = pb.SettlementPolicy(
        seller=policy.seller,
        sweep=policy.sweep,
        time_zone=policy.time_zone,
        sweep_paused=policy.sweep_paused,
        further_payout_thresholds=[
            edge.money(Money(currency, minor))
            for currency, minor in sorted(policy.thresholds.items())
            if currency != first
        ],
        payout_minimums=[
            edge.money(Money(currency, minor))
            for currency, minor in sorted(policy.minimums.items())
        ],
        updated_at=edge.stamp_or_none(policy.updated_at),
    )
    if first:
        message.payout_threshold.CopyFrom(edge.money(Money(first, policy.thresholds[first])))
    return message


def put(policy: Policy) -> service_pb.PutSettlementPolicyResponse:
    """Write a policy that was put."""
    return service_pb.PutSettlementPolicyResponse(policy=policy_message(policy))
