"""All services, each loaded when it is first used. Written by `make generate`. DO NOT EDIT!"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ..rpc import AsyncCaller, Caller

if TYPE_CHECKING:
    from .access import AsyncAccessService, AccessService
    from .agreement import AsyncAgreementService, AgreementService
    from .catalog import AsyncCatalogService, CatalogService
    from .charge import AsyncChargeService, ChargeService
    from .contract_monitor import AsyncContractMonitorService, ContractMonitorService
    from .credit import AsyncCreditService, CreditService
    from .event import AsyncEventService, EventService
    from .guardrail import AsyncGuardrailService, GuardrailService
    from .ledger import AsyncLedgerService, LedgerService
    from .merchant_config import AsyncMerchantConfigService, MerchantConfigService
    from .metering import AsyncMeteringService, MeteringService
    from .order import AsyncOrderService, OrderService
    from .payment import AsyncPaymentService, PaymentService
    from .payout import AsyncPayoutService, PayoutService
    from .pricing import AsyncPricingService, PricingService
    from .settlement import AsyncSettlementService, SettlementService

__all__ = ("AsyncServices", "Services")


class Services:
    """The services of a mesh, called one call at a time.

    Args:
        caller: makes the calls.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @cached_property
    def access(self) -> AccessService:
        """AccessService."""
        from .access import AccessService  # noqa: PLC0415

        return AccessService(self._caller)

    @cached_property
    def agreement(self) -> AgreementService:
        """AgreementService."""
        from .agreement import AgreementService  # noqa: PLC0415

        return AgreementService(self._caller)

    @cached_property
    def catalog(self) -> CatalogService:
        """CatalogService."""
        from .catalog import CatalogService  # noqa: PLC0415

        return CatalogService(self._caller)

    @cached_property
    def charge(self) -> ChargeService:
        """ChargeService."""
        from .charge import ChargeService  # noqa: PLC0415

        return ChargeService(self._caller)

    @cached_property
    def contract_monitor(self) -> ContractMonitorService:
        """ContractMonitorService."""
        from .contract_monitor import ContractMonitorService  # noqa: PLC0415

        return ContractMonitorService(self._caller)

    @cached_property
    def credit(self) -> CreditService:
        """CreditService."""
        from .credit import CreditService  # noqa: PLC0415

        return CreditService(self._caller)

    @cached_property
    def event(self) -> EventService:
        """EventService."""
        from .event import EventService  # noqa: PLC0415

        return EventService(self._caller)

    @cached_property
    def guardrail(self) -> GuardrailService:
        """GuardrailService."""
        from .guardrail import GuardrailService  # noqa: PLC0415

        return GuardrailService(self._caller)

    @cached_property
    def ledger(self) -> LedgerService:
        """LedgerService."""
        from .ledger import LedgerService  # noqa: PLC0415

        return LedgerService(self._caller)

    @cached_property
    def merchant_config(self) -> MerchantConfigService:
        """MerchantConfigService."""
        from .merchant_config import MerchantConfigService  # noqa: PLC0415

        return MerchantConfigService(self._caller)

    @cached_property
    def metering(self) -> MeteringService:
        """MeteringService."""
        from .metering import MeteringService  # noqa: PLC0415

        return MeteringService(self._caller)

    @cached_property
    def order(self) -> OrderService:
        """OrderService."""
        from .order import OrderService  # noqa: PLC0415

        return OrderService(self._caller)

    @cached_property
    def payment(self) -> PaymentService:
        """PaymentService."""
        from .payment import PaymentService  # noqa: PLC0415

        return PaymentService(self._caller)

    @cached_property
    def payout(self) -> PayoutService:
        """PayoutService."""
        from .payout import PayoutService  # noqa: PLC0415

        return PayoutService(self._caller)

    @cached_property
    def pricing(self) -> PricingService:
        """PricingService."""
        from .pricing import PricingService  # noqa: PLC0415

        return PricingService(self._caller)

    @cached_property
    def settlement(self) -> SettlementService:
        """SettlementService."""
        from .settlement import SettlementService  # noqa: PLC0415

        return SettlementService(self._caller)


class AsyncServices:
    """The services of a mesh, called from an event loop.

    Args:
        caller: makes the calls.
    """

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    @cached_property
    def access(self) -> AsyncAccessService:
        """AccessService."""
        from .access import AsyncAccessService  # noqa: PLC0415

        return AsyncAccessService(self._caller)

    @cached_property
    def agreement(self) -> AsyncAgreementService:
        """AgreementService."""
        from .agreement import AsyncAgreementService  # noqa: PLC0415

        return AsyncAgreementService(self._caller)

    @cached_property
    def catalog(self) -> AsyncCatalogService:
        """CatalogService."""
        from .catalog import AsyncCatalogService  # noqa: PLC0415

        return AsyncCatalogService(self._caller)

    @cached_property
    def charge(self) -> AsyncChargeService:
        """ChargeService."""
        from .charge import AsyncChargeService  # noqa: PLC0415

        return AsyncChargeService(self._caller)

    @cached_property
    def contract_monitor(self) -> AsyncContractMonitorService:
        """ContractMonitorService."""
        from .contract_monitor import AsyncContractMonitorService  # noqa: PLC0415

        return AsyncContractMonitorService(self._caller)

    @cached_property
    def credit(self) -> AsyncCreditService:
        """CreditService."""
        from .credit import AsyncCreditService  # noqa: PLC0415

        return AsyncCreditService(self._caller)

    @cached_property
    def event(self) -> AsyncEventService:
        """EventService."""
        from .event import AsyncEventService  # noqa: PLC0415

        return AsyncEventService(self._caller)

    @cached_property
    def guardrail(self) -> AsyncGuardrailService:
        """GuardrailService."""
        from .guardrail import AsyncGuardrailService  # noqa: PLC0415

        return AsyncGuardrailService(self._caller)

    @cached_property
    def ledger(self) -> AsyncLedgerService:
        """LedgerService."""
        from .ledger import AsyncLedgerService  # noqa: PLC0415

        return AsyncLedgerService(self._caller)

    @cached_property
    def merchant_config(self) -> AsyncMerchantConfigService:
        """MerchantConfigService."""
        from .merchant_config import AsyncMerchantConfigService  # noqa: PLC0415

        return AsyncMerchantConfigService(self._caller)

    @cached_property
    def metering(self) -> AsyncMeteringService:
        """MeteringService."""
        from .metering import AsyncMeteringService  # noqa: PLC0415

        return AsyncMeteringService(self._caller)

    @cached_property
    def order(self) -> AsyncOrderService:
        """OrderService."""
        from .order import AsyncOrderService  # noqa: PLC0415

        return AsyncOrderService(self._caller)

    @cached_property
    def payment(self) -> AsyncPaymentService:
        """PaymentService."""
        from .payment import AsyncPaymentService  # noqa: PLC0415

        return AsyncPaymentService(self._caller)

    @cached_property
    def payout(self) -> AsyncPayoutService:
        """PayoutService."""
        from .payout import AsyncPayoutService  # noqa: PLC0415

        return AsyncPayoutService(self._caller)

    @cached_property
    def pricing(self) -> AsyncPricingService:
        """PricingService."""
        from .pricing import AsyncPricingService  # noqa: PLC0415

        return AsyncPricingService(self._caller)

    @cached_property
    def settlement(self) -> AsyncSettlementService:
        """SettlementService."""
        from .settlement import AsyncSettlementService  # noqa: PLC0415

        return AsyncSettlementService(self._caller)
