"""Merchant configurations as messages, and back."""

from __future__ import annotations

from datetime import timedelta

from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.domain.config import (
    ATTEMPTS_PER_PROCESSOR_DEFAULT,
    BACKOFF_MS_DEFAULT,
    CALL_TIMEOUT_MS_DEFAULT,
    Capture,
    MerchantConfig,
    MethodRule,
    Split,
    StoredConfig,
)
from services.orchestration.domain.limits import Limit, Scope
from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.domain.routing import (
    OUTAGE_BELOW_PERCENT_DEFAULT,
    SAMPLES_MIN_DEFAULT,
    WINDOW_S_DEFAULT,
    Condition,
    Fee,
    LeastCost,
    Routing,
    Rule,
    Strategy,
    SuccessRate,
    VolumeSplit,
)
from services.runtime.edge import values as edge

CAPTURES = edge.Names(Capture, config_pb2.Capture, "CAPTURE_")
_SPLITS = edge.Names(Split, config_pb2.Split, "SPLIT_")
_SCOPES = edge.Names(Scope, config_pb2.LimitScope, "LIMIT_SCOPE_")


def config_put(version: int) -> service_pb.PutMerchantConfigResponse:
    """Write which version of a configuration holds."""
    return service_pb.PutMerchantConfigResponse(version=version)


def config_message(stored: StoredConfig) -> config_pb2.MerchantConfig:
    """Write a version of a configuration."""
    config = stored.config
    message = config_pb2.MerchantConfig(
        merchant_id=config.merchant_id,
        version=config.version,
        partial_allowed=config.partial_allowed,
        created_at=edge.stamp(stored.created_at),
        created_by=stored.created_by,
    )
    if config.capture is not Capture.AUTOMATIC:
        message.capture = CAPTURES.write(config.capture)
    if config.split is not Split.AUTHORIZE_FIRST:
        message.split = _SPLITS.write(config.split)
    message.retry_policy.attempts_per_processor_max = config.attempts_per_processor_max
    if config.backoff_ms != BACKOFF_MS_DEFAULT:
        message.retry_policy.backoff.FromMilliseconds(config.backoff_ms)
    timeout = timedelta(milliseconds=config.call_timeout_ms)
    message.timeouts.call_timeout.FromTimedelta(timeout)
    for rule in config.methods:
        method = message.methods.add(
            method=rule.method,
            processor_id=rule.processors[0],
            fallback_processor_ids=rule.processors[1:],
        )
        if rule.cap is not None:
            method.max_amount.CopyFrom(edge.money(rule.cap))
        if rule.strategy is not None:
            method.strategy.CopyFrom(_strategy_message(rule.strategy))
    message.processors.extend(
        config_pb2.ProcessorConfig(
            processor_id=each.processor_id,
            adapter=each.adapter,
            base_url=each.base_url,
            credential_ref=each.credential_ref,
            settings=dict(each.settings),
        )
        for each in config.processors
    )
    _write_routing(message, config.routing)
    for limit in config.limits:
        written = message.limits.add(
            name=limit.name, scope=_SCOPES.write(limit.scope), payments_max=limit.payments_max
        )
        if limit.window_s:
            written.window.FromSeconds(limit.window_s)
        if limit.amount_max is not None:
            written.amount_max.CopyFrom(edge.money(limit.amount_max))
    return message


def config_of(message: config_pb2.MerchantConfig) -> MerchantConfig:
    """Read a configuration; what it leaves open gets its documented default."""
    timeout_ms = CALL_TIMEOUT_MS_DEFAULT
    if message.timeouts.HasField("call_timeout"):
        timeout_ms = message.timeouts.call_timeout.ToMilliseconds()
    attempts_max = message.retry_policy.attempts_per_processor_max
    backoff_ms = BACKOFF_MS_DEFAULT
    if message.retry_policy.HasField("backoff"):
        backoff_ms = message.retry_policy.backoff.ToMilliseconds()
    return MerchantConfig(
        merchant_id=message.merchant_id,
        version=0,
        methods=tuple(_rule(method) for method in message.methods),
        attempts_per_processor_max=attempts_max or ATTEMPTS_PER_PROCESSOR_DEFAULT,
        call_timeout_ms=timeout_ms,
        partial_allowed=message.partial_allowed,
        capture=CAPTURES.read(message.capture) or Capture.AUTOMATIC,
        processors=tuple(map(_processor, message.processors)),
        routing=_routing(message),
        limits=tuple(
            Limit(
                each.name,
                _SCOPES.read(each.scope) or Scope.MERCHANT,
                each.window.seconds,
                each.payments_max,
                edge.money_of(each.amount_max) if each.HasField("amount_max") else None,
            )
            for each in message.limits
        ),
        split=_SPLITS.read(message.split) or Split.AUTHORIZE_FIRST,
        backoff_ms=backoff_ms,
    )


def _processor(message: config_pb2.ProcessorConfig) -> ProcessorConfig:
    return ProcessorConfig(
        message.processor_id,
        message.adapter,
        message.base_url,
        message.credential_ref,
        tuple(sorted(message.settings.items())),
    )


def _rule(message: config_pb2.MethodConfig) -> MethodRule:
    cap = None
    if message.HasField("max_amount"):
        cap = edge.money_of(message.max_amount)
    processors = (message.processor_id, *message.fallback_processor_ids)
    return MethodRule(message.method, cap, processors, _strategy(message.strategy))


# ---- routing


def _write_routing(message: config_pb2.MerchantConfig, routing: Routing) -> None:
    for rule in routing.rules:
        written = message.rules.add(name=rule.name, methods=rule.methods)
        if rule.when != Condition():
            _write_condition(written.when, rule.when)
        if rule.skips:
            written.skip.SetInParent()
        else:
            written.route.processor_ids.extend(rule.processors)
            if rule.strategy is not None:
                written.route.strategy.CopyFrom(_strategy_message(rule.strategy))
    for name, countries in routing.regions:
        message.regions.add(name=name, countries=countries)
    for fee in routing.fees:
        message.fees.add(
            processor_id=fee.processor_id,
            method=fee.method,
            currency_code=fee.currency,
            percent=fee.percent,
            fixed_minor=fee.fixed_minor,
        )


def _write_condition(message: config_pb2.Condition, when: Condition) -> None:
    if when.amount_min is not None:
        message.amount_min.CopyFrom(edge.money(when.amount_min))
    if when.amount_max is not None:
        message.amount_max.CopyFrom(edge.money(when.amount_max))
    message.currencies.extend(when.currencies)
    message.countries.extend(when.countries)
    message.regions.extend(when.regions)
    message.bins.extend(when.bins)
    for key, values in when.metadata:
        message.metadata.add(key=key, values=values)


def _strategy_message(strategy: Strategy) -> config_pb2.Strategy:
    message = config_pb2.Strategy()
    match strategy:
        case VolumeSplit(shares):
            for processor_id, weight in shares:
                message.volume_split.shares.add(processor_id=processor_id, weight=weight)
        case LeastCost():
            message.least_cost.SetInParent()
        case SuccessRate(window_s, samples_min, outage_below_percent):
            message.success_rate.window.FromSeconds(window_s)
            message.success_rate.samples_min = samples_min
            message.success_rate.outage_below_percent = outage_below_percent
    return message


def _routing(message: config_pb2.MerchantConfig) -> Routing:
    return Routing(
        rules=tuple(
            Rule(
                rule.name,
                tuple(rule.methods),
                _condition(rule.when),
                tuple(rule.route.processor_ids),
                _strategy(rule.route.strategy),
            )
            for rule in message.rules
        ),
        regions=tuple((each.name, tuple(each.countries)) for each in message.regions),
        fees=tuple(
            Fee(
                fee.processor_id,
                fee.method,
                fee.currency_code,
                fee.percent,
                fee.fixed_minor,
            )
            for fee in message.fees
        ),
    )


def _condition(message: config_pb2.Condition) -> Condition:
    return Condition(
        amount_min=edge.money_of(message.amount_min) if message.HasField("amount_min") else None,
        amount_max=edge.money_of(message.amount_max) if message.HasField("amount_max") else None,
        currencies=tuple(message.currencies),
        countries=tuple(message.countries),
        regions=tuple(message.regions),
        bins=tuple(message.bins),
        metadata=tuple((each.key, tuple(each.values)) for each in message.metadata),
    )


def _strategy(message: config_pb2.Strategy) -> Strategy | None:
    match message.WhichOneof("kind"):
        case "volume_split":
            shares = message.volume_split.shares
            return VolumeSplit(tuple((each.processor_id, each.weight) for each in shares))
        case "least_cost":
            return LeastCost()
        case "success_rate":
            rate = message.success_rate
            return SuccessRate(
                rate.window.seconds or WINDOW_S_DEFAULT,
                rate.samples_min or SAMPLES_MIN_DEFAULT,
                rate.outage_below_percent or OUTAGE_BELOW_PERCENT_DEFAULT,
            )
    return None
