"""REST callers of the last release find everything where it was."""

import copy
from pathlib import Path
from typing import Any

import pytest

from tools import check_breaking, http_paths
from tools.http_paths import Description

ROOT = Path(__file__).resolve().parents[3]
CURRENT = ROOT / check_breaking.OPENAPI

SMALL: Description = {
    "components": {
        "responses": {
            "Thing": {
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
            },
            "Other": {
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Other"}}}
            },
        }
    },
    "paths": {
        "/v1/things/{id}": {
            "get": {
                "operationId": "Things_Get",
                "parameters": [
                    {"name": "id", "in": "path", "required": True},
                    {"name": "view", "in": "query", "required": False},
                ],
                "responses": {"200": {"$ref": "#/components/responses/Thing"}},
            }
        }
    },
}


def operation(description: Description) -> dict[str, Any]:
    found: dict[str, Any] = description["paths"]["/v1/things/{id}"]["get"]
    return found


def remove_path(description: Description) -> None:
    description["paths"]["/v1/stuff/{id}"] = description["paths"].pop("/v1/things/{id}")


def change_method(description: Description) -> None:
    methods = description["paths"]["/v1/things/{id}"]
    methods["post"] = methods.pop("get")


def change_rpc(description: Description) -> None:
    operation(description)["operationId"] = "Things_Fetch"


def remove_parameter(description: Description) -> None:
    operation(description)["parameters"].pop()


def require_parameter(description: Description) -> None:
    operation(description)["parameters"][1]["required"] = True


def change_answer(description: Description) -> None:
    operation(description)["responses"]["200"]["$ref"] = "#/components/responses/Other"


@pytest.mark.parametrize(
    "plant",
    [
        remove_path,
        change_method,
        change_rpc,
        remove_parameter,
        require_parameter,
        change_answer,
    ],
)
def test_a_planted_loss_is_caught(plant: Any) -> None:
    changed = copy.deepcopy(SMALL)
    plant(changed)
    assert len(list(http_paths.lost(SMALL, changed))) == 1


def test_another_version_of_openapi_is_no_loss() -> None:
    old = copy.deepcopy(SMALL)
    operation(old)["responses"] = {"200": {"schema": {"$ref": "#/definitions/Thing"}}}
    assert list(http_paths.lost(old, SMALL)) == []
    change_answer(changed := copy.deepcopy(SMALL))
    assert len(list(http_paths.lost(old, changed))) == 1


def test_additions_pass() -> None:
    changed = copy.deepcopy(SMALL)
    changed["paths"]["/v1/more"] = {"get": {}}
    operation(changed)["parameters"].append({"name": "page_size", "in": "query"})
    assert list(http_paths.lost(SMALL, changed)) == []


def test_nothing_of_the_last_release_is_lost() -> None:
    golden = check_breaking.newest(ROOT, "openapi-v*.json")
    assert golden is not None, "no release is recorded: make release-image"
    before = http_paths.load(golden)
    assert http_paths.operations(before), "the golden file describes nothing"
    assert list(http_paths.lost(before, http_paths.load(CURRENT))) == []
