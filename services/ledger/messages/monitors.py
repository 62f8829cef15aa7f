"""Monitors of balances, as messages and back."""

from __future__ import annotations

from payments.ledger.v1 import monitor_pb2

from services.ledger.domain.monitors import BalanceSide, Comparison, Monitor, MonitorView
from services.runtime.edge import values as edge
from services.runtime.money import exponent

_TRIGGERED = monitor_pb2.MONITOR_STATE_TRIGGERED


def monitor_of(item: monitor_pb2.BalanceMonitor) -> Monitor:
    """Read a monitor. Raises UnknownCurrency."""
    exponent(item.threshold.currency_code)
    return Monitor(
        monitor_id=item.monitor_id,
        account_id=item.account_id,
        account_prefix=item.account_prefix,
        side=BalanceSide(item.side or BalanceSide.POSTED),
        comparison=Comparison(item.comparison),
        threshold=edge.money_of(item.threshold),
        description=item.description,
    )


def monitor(view: MonitorView) -> monitor_pb2.BalanceMonitor:
    """Write a monitor as it stands."""
    shown = view.monitor
    message = monitor_pb2.BalanceMonitor(
        monitor_id=shown.monitor_id,
        account_id=shown.account_id,
        account_prefix=shown.account_prefix,
        side=int(shown.side),  # type: ignore[arg-type] # numbers agree, see the tests
        comparison=int(shown.comparison),  # type: ignore[arg-type] # numbers agree, see the tests
        threshold=edge.money(shown.threshold),
        description=shown.description,
        created_at=edge.stamp(view.created_at),
        updated_at=edge.stamp(view.updated_at),
    )
    if view.balances is not None:
        is_triggered = shown.is_triggered(view.balances)
        message.state = _TRIGGERED if is_triggered else monitor_pb2.MONITOR_STATE_ARMED
    return message


def put(view: MonitorView) -> monitor_pb2.PutBalanceMonitorResponse:
    """Write a monitor that was put."""
    return monitor_pb2.PutBalanceMonitorResponse(monitor=monitor(view))


def deleted(view: MonitorView) -> monitor_pb2.DeleteBalanceMonitorResponse:
    """Write a monitor that was ended."""
    return monitor_pb2.DeleteBalanceMonitorResponse(monitor=monitor(view))
