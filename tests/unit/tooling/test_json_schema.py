"""The JSON Schemas describe the JSON that the services really write."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from payments.contracts.v1 import contracts_pb2
from payments.result.v1 import result_pb2
from payments.type.v1 import type_pb2

FOLDER = Path(__file__).resolve().parents[3] / "gen/jsonschema"
SCHEMAS = sorted(FOLDER.glob("*.json"))


def validator(message: type[Message]) -> jsonschema.Draft202012Validator:
    path = FOLDER / f"{message.DESCRIPTOR.full_name}.schema.bundle.json"
    return jsonschema.Draft202012Validator(json.loads(path.read_text()))


def as_json(message: Message) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def result() -> result_pb2.CompositeResult:
    usd = type_pb2.Money(currency_code="USD", minor_units=5684)
    step = result_pb2.Result(
        success=True, processor_id="stripe-sim", amount_processed=usd, latency_ms=12
    )
    return result_pb2.CompositeResult(
        success=True,
        total_processed=usd,
        remaining_amount=type_pb2.Money(currency_code="USD"),
        step_results=[step],
    )


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_every_file_is_a_schema(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


@pytest.mark.parametrize("module", [result_pb2, contracts_pb2], ids=["result", "contracts"])
def test_every_message_has_its_schema(module: Any) -> None:
    messages = module.DESCRIPTOR.message_types_by_name.values()
    assert messages
    names = {path.name.removesuffix(".schema.bundle.json") for path in SCHEMAS}
    assert {message.full_name for message in messages} <= names


def test_what_a_service_writes_is_valid() -> None:
    assert list(validator(result_pb2.CompositeResult).iter_errors(as_json(result()))) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("success", "perhaps"), ("total_processed", {"currency_code": "dollars"}), ("surprise", 1)],
)
def test_anything_else_is_refused(field: str, value: object) -> None:
    document = as_json(result()) | {field: value}
    assert not validator(result_pb2.CompositeResult).is_valid(document)
