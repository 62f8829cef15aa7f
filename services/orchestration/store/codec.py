"""Turns what is kept as JSON (contexts, methods of a configuration) into rows and back."""

from __future__ import annotations

from dataclasses import asdict, astuple
from typing import Any

from services.orchestration.domain.config import Capture, MethodRule
from services.orchestration.domain.issues import Issue, Severity
from services.orchestration.domain.limits import Limit, Scope
from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.domain.request import Context, Preference
from services.orchestration.domain.routing import (
    Condition,
    Fee,
    LeastCost,
    Routing,
    Rule,
    Strategy,
    SuccessRate,
    VolumeSplit,
)
from services.runtime.money import Money


def context_to_json(context: Context) -> dict[str, Any]:
    """Return a context as JSON; ids, amount and currency are in it too, as they were read."""
    return {
        "merchant_id": context.merchant_id,
        "order_id": context.order_id,
        "person_id": context.person_id,
        "org_id": context.org_id,
        "amount_minor": context.amount_minor,
        "currency": context.currency,
        "preferences": [[p.method, p.max_minor, p.token, p.bin] for p in context.preferences],
        "metadata": dict(context.metadata),
        "capture": context.capture and context.capture.value,
        "country": context.country,
        "bin": context.bin,
        "issues": [[i.field, i.code, i.message, i.severity.value] for i in context.issues],
        "refused": context.refused,
    }


def context_from_json(stored: dict[str, Any]) -> Context:
    """Return the context that was stored."""
    return Context(
        merchant_id=stored["merchant_id"],
        order_id=stored["order_id"],
        person_id=stored["person_id"],
        # Requests that earlier releases read have none.
        org_id=stored.get("org_id", ""),
        amount_minor=stored["amount_minor"],
        currency=stored["currency"],
        preferences=tuple(Preference(*item) for item in stored["preferences"]),
        metadata=tuple(sorted(stored["metadata"].items())),
        capture=Capture(stored["capture"]) if stored.get("capture") else None,
        country=stored.get("country", ""),
        bin=stored.get("bin", ""),
        issues=tuple(
            Issue(path, code, message, Severity(severity))
            for path, code, message, severity in stored["issues"]
        ),
        refused=stored["refused"],
    )


def methods_to_json(methods: tuple[MethodRule, ...]) -> list[dict[str, Any]]:
    """Return the methods of a configuration as JSON."""
    return [
        {
            "method": rule.method,
            "cap": [rule.cap.currency_code, rule.cap.minor_units] if rule.cap else None,
            "processors": list(rule.processors),
            "strategy": _strategy_to_json(rule.strategy),
        }
        for rule in methods
    ]


def methods_from_json(stored: list[dict[str, Any]]) -> tuple[MethodRule, ...]:
    """Return the methods that were stored."""
    return tuple(
        MethodRule(
            item["method"],
            Money(*item["cap"]) if item["cap"] else None,
            tuple(item["processors"]),
            _strategy_from_json(item.get("strategy")),
        )
        for item in stored
    )


def processors_to_json(processors: tuple[ProcessorConfig, ...]) -> list[dict[str, Any]]:
    """Return the processors of a configuration as JSON."""
    return [asdict(each) | {"settings": dict(each.settings)} for each in processors]


def processors_from_json(stored: list[dict[str, Any]]) -> tuple[ProcessorConfig, ...]:
    """Return the processors that were stored."""
    return tuple(
        ProcessorConfig(**(item | {"settings": tuple(sorted(item["settings"].items()))}))
        for item in stored
    )


def routing_to_json(routing: Routing) -> dict[str, Any]:
    """Return the routing of a configuration as JSON."""
    return {
        "rules": [
            {
                "name": rule.name,
                "methods": rule.methods,
                "when": _condition_to_json(rule.when),
                "processors": rule.processors,
                "strategy": _strategy_to_json(rule.strategy),
            }
            for rule in routing.rules
        ],
        "regions": routing.regions,
        "fees": [list(astuple(fee)) for fee in routing.fees],
    }


def routing_from_json(stored: dict[str, Any]) -> Routing:
    """Return the routing that was stored; versions of earlier releases have none."""
    return Routing(
        rules=tuple(
            Rule(
                item["name"],
                tuple(item["methods"]),
                _condition_from_json(item["when"]),
                tuple(item["processors"]),
                _strategy_from_json(item["strategy"]),
            )
            for item in stored.get("rules", ())
        ),
        regions=tuple((name, tuple(countries)) for name, countries in stored.get("regions", ())),
        fees=tuple(Fee(*item) for item in stored.get("fees", ())),
    )


def limits_to_json(limits: tuple[Limit, ...]) -> list[list[Any]]:
    """Return the limits of a configuration as JSON."""
    return [
        [each.name, each.scope.value, each.window_s, each.payments_max, _money(each.amount_max)]
        for each in limits
    ]


def limits_from_json(stored: list[list[Any]]) -> tuple[Limit, ...]:
    """Return the limits that were stored."""
    return tuple(
        Limit(name, Scope(scope), window_s, payments_max, Money(*amount) if amount else None)
        for name, scope, window_s, payments_max, amount in stored
    )


def _money(amount: Money | None) -> list[Any] | None:
    return None if amount is None else [amount.currency_code, amount.minor_units]


def _condition_to_json(when: Condition) -> dict[str, Any]:
    return {
        "amount_min": _money(when.amount_min),
        "amount_max": _money(when.amount_max),
        "currencies": when.currencies,
        "countries": when.countries,
        "regions": when.regions,
        "bins": when.bins,
        "metadata": when.metadata,
    }


def _condition_from_json(stored: dict[str, Any]) -> Condition:
    return Condition(
        Money(*stored["amount_min"]) if stored["amount_min"] else None,
        Money(*stored["amount_max"]) if stored["amount_max"] else None,
        tuple(stored["currencies"]),
        tuple(stored["countries"]),
        tuple(stored["regions"]),
        tuple(stored["bins"]),
        tuple((key, tuple(values)) for key, values in stored["metadata"]),
    )


def _strategy_to_json(strategy: Strategy | None) -> list[Any] | None:
    match strategy:
        case VolumeSplit(shares):
            return ["VOLUME_SPLIT", shares]
        case LeastCost():
            return ["LEAST_COST"]
        case SuccessRate():
            return ["SUCCESS_RATE", *astuple(strategy)]
        case None:
            return None


def _strategy_from_json(stored: list[Any] | None) -> Strategy | None:
    match stored:
        case ["VOLUME_SPLIT", shares]:
            return VolumeSplit(tuple((processor_id, weight) for processor_id, weight in shares))
        case ["LEAST_COST"]:
            return LeastCost()
        case ["SUCCESS_RATE", *numbers]:
            return SuccessRate(*numbers)
        case _:
            return None
