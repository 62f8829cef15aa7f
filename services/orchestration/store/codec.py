"""Turns what is kept as JSON (contexts, methods of a configuration) into rows and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from services.orchestration.domain.config import Capture, MethodRule
from services.orchestration.domain.issues import Issue, Severity
from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.domain.request import Context, Preference
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
        "preferences": [[p.method, p.max_minor, p.token] for p in context.preferences],
        "metadata": dict(context.metadata),
        "capture": context.capture and context.capture.value,
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
