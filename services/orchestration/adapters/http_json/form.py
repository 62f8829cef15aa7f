"""What a configuration says of a gateway: its paths, where requests and answers hold what, and what its words mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from jsonpointer import JsonPointer, JsonPointerException

from services.orchestration.domain.operations import Operation
from services.orchestration.domain.processors import Capabilities, ProcessorConfig
from services.runtime.errors import FieldViolation

# Operations, as settings name them; each that has a path is offered.
_OPERATIONS = {each.value.lower(): each for each in Operation}
# Fields of a request, by default at the top of its object. An empty pointer leaves one out.
REQUEST = ("amount", "currency", "merchant_ref", "token", "parent_ref", "operation", "closes")
# What an answer holds. With an empty pointer amount, currency and merchant_ref are not read, and count as asked.
ANSWER = ("status", "id", "amount", "currency", "merchant_ref", "code", "message")
DONE, REFUSED, PENDING = "done", "refused", "pending"
_WORDS = {
    DONE: "done,succeeded",
    REFUSED: "refused,declined,failed",
    PENDING: "pending,processing",
}
ERROR_CODES = frozenset({"declined", "invalid_card", "unknown"})
FAILURE_CODES = frozenset(
    {"declined", "insufficient_funds", "expired_card", "network_error", "other"}
)
_FLAGS = {"captures_many": "true", "partial_capture": "true"}
_NUMBERS = {"key_ttl_hours": "24", "settle_seconds": "60", "refunds_max": "0"}
_NUMBER_MAX = 100_000
_AMOUNTS = ("minor", "decimal")
_SCHEMES = ("none", "standard", "hmac")
_ENCODINGS = ("hex", "base64")
_TEXTS = {
    "lookup.path": "",
    "amount": "minor",
    "idempotency_header": "Idempotency-Key",
    "webhook.scheme": "none",
    "webhook.header": "X-Signature",
    "webhook.prefix": "",
    "webhook.encoding": "hex",
    "webhook.id": "/id",
    "webhook.merchant_ref": "/merchant_ref",
}
_POINTERS = ("webhook.id", "webhook.merchant_ref")
_CODE = "code."
_PATH = re.compile(r"(/([A-Za-z0-9._~-]|\{merchant_ref\}|\{parent_ref\})*)+")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
# Of an outcome that is asked for nothing but its own reference is sure to be known.
_LOOKUP_PATH = re.compile(r"(/([A-Za-z0-9._~-]|\{merchant_ref\}|\{operation\})*)+")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a refusal's code means: the words of the seeds, and whether another processor may accept."""

    error_code: str = "declined"
    failure_code: str = "declined"
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """The settings of a configuration, read.

    Attributes:
        paths: by operation; those without one are not offered.
        lookup_path: empty where nothing can be asked.
        amounts: `minor` for whole minor units, `decimal` for texts such as "12.50".
        request, answer: JSON pointers by field.
        words: what the words of `status` mean, in small letters.
        codes: what refusals' codes mean.
    """

    paths: Mapping[Operation, str]
    lookup_path: str
    amounts: str
    idempotency_header: str
    request: Mapping[str, str]
    answer: Mapping[str, str]
    words: Mapping[str, str]
    codes: Mapping[str, Meaning]


def form_of(config: ProcessorConfig) -> Form:
    """Read the settings of a configuration that `faults` finds nothing wrong with."""
    words: dict[str, str] = {}
    for meaning, default in _WORDS.items():
        words |= dict.fromkeys(_listed(config.setting(f"status.{meaning}", default)), meaning)
    return Form(
        paths={
            operation: path
            for name, operation in _OPERATIONS.items()
            if (path := config.setting(f"{name}.path"))
        },
        lookup_path=text(config, "lookup.path"),
        amounts=text(config, "amount"),
        idempotency_header=text(config, "idempotency_header"),
        request={name: config.setting(f"request.{name}", f"/{name}") for name in REQUEST},
        answer={name: config.setting(f"answer.{name}", f"/{name}") for name in ANSWER},
        words=words,
        codes={
            name.removeprefix(_CODE): _meaning(value)
            for name, value in config.settings
            if name.startswith(_CODE)
        },
    )


def capabilities_of(config: ProcessorConfig) -> Capabilities:
    """Return what a gateway can do, as its configuration says."""
    paths = form_of(config).paths
    holds = {Operation.AUTHORIZE, Operation.CAPTURE, Operation.VOID} <= paths.keys()
    key_ttl = timedelta(hours=_number(config, "key_ttl_hours"))
    return Capabilities(
        settle_window=timedelta(seconds=_number(config, "settle_seconds")),
        holds=holds,
        replay_key=bool(key_ttl),
        key_ttl=key_ttl,
        lookup_by_ref=bool(text(config, "lookup.path")),
        partial_capture=config.setting("partial_capture", _FLAGS["partial_capture"]) == "true",
        captures_many=config.setting("captures_many", _FLAGS["captures_many"]) == "true",
        refunds_max=_number(config, "refunds_max") or None,
    )


def text(config: ProcessorConfig, name: str) -> str:
    """Return a setting, or its default."""
    return config.setting(name, _TEXTS[name])


def faults(config: ProcessorConfig) -> list[FieldViolation]:
    """Return what is wrong with the settings."""
    found = [
        FieldViolation(f"settings[{name}]", fault)
        for name, value in config.settings
        if (fault := _fault(name, value))
    ]
    named = dict(config.settings)
    if not {"charge.path", "authorize.path"} & named.keys():
        found.append(FieldViolation("settings[charge.path]", "must say where charges are made"))
    if "refund.path" not in named:
        said = "must say where refunds are made: what is charged must have a way back"
        found.append(FieldViolation("settings[refund.path]", said))
    words = [
        word
        for meaning, default in _WORDS.items()
        for word in _listed(config.setting(f"status.{meaning}", default))
    ]
    if twice := {word for word in words if words.count(word) > 1}:
        said = f"{sorted(twice)[0]} cannot mean two things"
        found.append(FieldViolation("settings[status.done]", said))
    return found


def _fault(name: str, value: str) -> str:
    kind, _, rest = name.partition(".")
    if rest == "path" and kind in _OPERATIONS:
        allowed = "a path such as /charges, with {merchant_ref} or {parent_ref} where it needs them"
        return "" if _PATH.fullmatch(value) else f"must be {allowed}"
    if name == "lookup.path":
        allowed = "a path such as /orders/{merchant_ref}"
        is_good = _LOOKUP_PATH.fullmatch(value) and "{merchant_ref}" in value
        return "" if is_good else f"must be {allowed}"
    if rest in {"request": REQUEST, "answer": ANSWER}.get(kind, ()):
        return _pointer_fault(value, may_be_empty=kind == "request" or rest not in ("status", "id"))
    if kind == "status" and rest in _WORDS:
        return "" if _listed(value) else "must name words, with commas between them"
    if kind == "code" and rest:
        return _meaning_fault(value)
    return _plain_fault(name, value)


def _plain_fault(name: str, value: str) -> str:
    if name in _POINTERS:
        return _pointer_fault(value, may_be_empty=False)
    if name in _FLAGS:
        return "" if value in ("true", "false") else "must be true or false"
    if name in _NUMBERS:
        is_number = value.isascii() and value.isdigit() and int(value) <= _NUMBER_MAX
        return "" if is_number else f"must be a whole number up to {_NUMBER_MAX}"
    if name in ("idempotency_header", "webhook.header"):
        return "" if _HEADER.fullmatch(value) else "must be the name of a header"
    choices = {"amount": _AMOUNTS, "webhook.scheme": _SCHEMES, "webhook.encoding": _ENCODINGS}
    if name in choices:
        return "" if value in choices[name] else f"must be one of {', '.join(choices[name])}"
    return "" if name == "webhook.prefix" else "is no setting of this adapter; see the guide"


def _pointer_fault(value: str, *, may_be_empty: bool) -> str:
    if not value:
        return "" if may_be_empty else "must be a JSON pointer such as /data/id"
    try:
        JsonPointer(value)
    except JsonPointerException:
        return "must be a JSON pointer such as /data/id"
    return ""


def _meaning_fault(value: str) -> str:
    found = _meaning(value)
    if found.error_code in ERROR_CODES and found.failure_code in FAILURE_CODES:
        return ""
    return (
        "must be an error code and a failure code, as declined/insufficient_funds, with /elsewhere behind them where"
        " another processor may accept"
    )


def _meaning(value: str) -> Meaning:
    parts = value.split("/")
    is_whole = len(parts) == 2 or (len(parts) == 3 and parts[2] == "elsewhere")
    return Meaning(parts[0], parts[1], len(parts) == 3) if is_whole else Meaning("", "")


def _listed(value: str) -> list[str]:
    return [word.strip().lower() for word in value.split(",") if word.strip()]


def _number(config: ProcessorConfig, name: str) -> int:
    return int(config.setting(name, _NUMBERS[name]))
