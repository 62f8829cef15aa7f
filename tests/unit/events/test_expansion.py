"""What schemas come to: references are counted with what they lead to, before anything is compiled by them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.events.domain import expansion, payloads, schemas
from services.events.store import catalogue


def chain(length: int, keyword: str = "allOf") -> dict[str, Any]:
    """A schema whose references double `length` times."""
    twice: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
        "allOf": lambda ref: {"allOf": [ref, ref]},
        "anyOf": lambda ref: {"anyOf": [ref, ref]},
        "oneOf": lambda ref: {"oneOf": [ref, {"not": ref}]},
        "if": lambda ref: {"if": ref, "then": ref},
        "dependentSchemas": lambda ref: {"dependentSchemas": {"a": ref, "b": ref}},
        "dependencies": lambda ref: {"dependencies": {"a": ref, "b": ref}},
        "properties": lambda ref: {"properties": {"a": ref, "b": ref}},
        "patternProperties": lambda ref: {"patternProperties": {"a": ref, "b": ref}},
        "prefixItems": lambda ref: {"prefixItems": [ref], "items": ref},
        "contains": lambda ref: {"contains": ref, "items": ref},
        "propertyNames": lambda ref: {"propertyNames": ref, "additionalProperties": ref},
        "unevaluatedProperties": lambda ref: {"unevaluatedProperties": ref, "not": ref},
    }
    parts = {f"a{n}": twice[keyword]({"$ref": f"#/$defs/a{n + 1}"}) for n in range(length)}
    return {"$defs": {**parts, f"a{length}": {"type": "object"}}, "$ref": "#/$defs/a0"}


# The first length whose count lies beyond the bound: harmless, a value is held against it in a millisecond.
BEYOND = next(
    n for n in range(64) if expansion.expand(chain(n), 10**9).schemas > schemas.EXPANDED_MAX
)


@pytest.mark.parametrize(
    "keyword",
    [
        "allOf", "anyOf", "oneOf", "if", "dependentSchemas", "dependencies", "properties",
        "patternProperties", "prefixItems", "contains", "propertyNames", "unevaluatedProperties",
    ],
)  # fmt: skip
def test_a_schema_just_beyond_the_bound_is_refused(keyword: str) -> None:
    schemas.read(json.dumps(chain(BEYOND - 2, keyword)))
    with pytest.raises(schemas.SchemaInvalid) as caught:
        schemas.read(json.dumps(chain(BEYOND + 1, keyword)))
    assert caught.value.metadata["schemas_max"] == str(schemas.EXPANDED_MAX)
    assert "references" in caught.value.message


def test_a_way_back_hides_nothing() -> None:
    schema = chain(BEYOND + 1)
    schema["$defs"][f"a{BEYOND + 1}"] = {"items": {"$ref": "#"}}
    with pytest.raises(schemas.SchemaInvalid):
        schemas.read(json.dumps(schema))


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"$ref": "#"}, ""),
        ({"allOf": [{"$ref": "#"}]}, None),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, "/properties/a"),
        ({"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}, "items": {"$ref": "#/$defs/a"}}, None),
        ({"$dynamicAnchor": "n", "$dynamicRef": "#n"}, ""),
        ({"$anchor": "n", "if": {"$ref": "#n"}}, None),
        ({"$id": "https://a.example/s", "oneOf": [{"$ref": "https://a.example/s"}]}, None),
        ({"dependentSchemas": {"a": {"$ref": "#"}}}, None),
        ({"dependencies": {"a": {"$ref": "#"}}}, None),
    ],
)
def test_a_schema_that_leads_to_itself_for_the_same_value_is_refused(
    schema: dict[str, Any], pointer: str | None
) -> None:
    found = expansion.expand(schema, 100)
    assert found.endless is not None
    if pointer is not None:
        assert found.endless == pointer
    with pytest.raises(schemas.SchemaInvalid):
        schemas.read(json.dumps(schema))


@pytest.mark.parametrize(
    ("schema", "count"),
    [
        ({}, 1),
        ({"type": "object", "enum": [{"$ref": "#"}], "const": {"allOf": [1]}}, 1),
        ({"properties": {"next": {"$ref": "#"}}}, 2),
        ({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}, 3),
        ({"properties": {"$ref": {"type": "string"}}}, 2),
        ({"dependencies": {"a": ["b"], "c": []}}, 3),
        ({"properties": {"$schema": {"$id": "x"}}, "$defs": {"$schema": {"$id": "y"}}}, 2),
        ({"$defs": {"unused": {"allOf": [{}, {}]}}}, 1),
        ({"items": {"$dynamicRef": "#n"}, "$dynamicAnchor": "n"}, 2),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, 1),
    ],
)
def test_recursion_through_parts_of_the_value_is_fine(schema: dict[str, Any], count: int) -> None:
    assert expansion.expand(schema, 100) == expansion.Expansion(count, None)
    schemas.read(json.dumps(schema))


# Every keyword that takes schemas in any draft, and one or two that never did.
KEYWORDS = (
    "$defs", "definitions", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies",
    "properties", "patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties", "prefixItems",
    "items", "additionalItems", "contains", "unevaluatedItems", "contentSchema", "extends", "disallow", "type",
    "propertyDependencies", "$recursiveRef", "$dynamicRef", "default", "const", "enum", "examples",
)  # fmt: skip
# What makes some of them take effect.
BESIDE: dict[str, list[dict[str, Any]]] = {
    "if": [{"then": False}],
    "then": [{"if": True}],
    "else": [{"if": False}],
    "additionalItems": [{}, {"items": [True]}, {"prefixItems": [True]}],
    "items": [{}, {"prefixItems": [True]}],
    "contentSchema": [{"contentMediaType": "application/json"}],
}
SHAPES: tuple[Callable[[Any], Any], ...] = (
    lambda schema: schema,
    lambda schema: [schema],
    lambda schema: {"a": schema},
    lambda schema: {"a": [schema]},
    lambda schema: {"a": {"b": schema}},
)
VALUES: list[Any] = [{"a": 1}, {"a": "b"}, [1, 2], [], {}, 1, "[1]", None]


def _verdicts(schema: dict[str, Any]) -> list[bool] | None:
    """What the validator says of each value; None when it takes no such schema."""
    text = json.dumps(schema)
    try:
        schemas._compiled(text)
    except schemas.SchemaInvalid:
        return None
    verdicts = []
    for value in VALUES:
        try:
            schemas.check(text, value)
        except payloads.PayloadInvalid:
            verdicts.append(False)
        else:
            verdicts.append(True)
    return verdicts


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_every_schema_that_the_validator_heeds_is_counted(keyword: str) -> None:
    heeded = 0
    for beside in BESIDE.get(keyword, [{}]):
        for shape in SHAPES:

            def holding(schema: Any, shape: Any = shape, beside: Any = beside) -> dict[str, Any]:
                return {**beside, keyword: shape(schema)}

            always, never = _verdicts(holding(True)), _verdicts(holding(False))
            if always is None or never is None or always == never:
                continue
            heeded += 1
            one = expansion.expand({**holding({"$ref": "#/$defs/x"}), "$defs": {"x": {}}}, 100)
            two: dict[str, Any] = {"x": {"allOf": [{}]}}
            more = expansion.expand({**holding({"$ref": "#/$defs/x"}), "$defs": two}, 100)
            assert more.schemas == one.schemas + 1
            at_same_value = any(
                (_verdicts(holding({"const": value})) or always)[at] != never[at]
                and (_verdicts(holding({"not": {"const": value}})) or always)[at] == never[at]
                for at, value in enumerate(VALUES)
                if always[at] != never[at]
            )
            assert (expansion.expand(holding({"$ref": "#"}), 100).endless is not None) == (
                at_same_value
            ), holding
    assert bool(heeded) == (keyword in HEEDED)


HEEDED = frozenset(KEYWORDS) - {
    *("$defs", "definitions", "additionalItems", "contentSchema", "extends", "disallow", "type"),
    *("propertyDependencies", "$recursiveRef", "$dynamicRef", "default", "const", "enum"),
    "examples",
}


@pytest.mark.parametrize(
    "part",
    [
        {"$id": "b", "items": [True]},
        {"$id": "b", "additionalItems": {"$ref": "#"}, "items": [True]},
        {"id": "b"},
        {"$id": "b", "properties": {"a": {"$recursiveRef": "#"}}},
    ],
)
def test_a_part_of_another_dialect_is_refused(part: dict[str, Any]) -> None:
    for dialect in ("http://json-schema.org/draft-07/schema#", schemas.DIALECT + "#"):
        for schema in (
            {"$defs": {"x/y": {**part, "$schema": dialect}}},
            {"$id": "https://a.example/", "allOf": [{**part, "$schema": dialect}]},
        ):
            with pytest.raises(schemas.SchemaInvalid, match="schema must be") as raised:
                schemas.read(json.dumps(schema))
            assert raised.value.metadata["pointer"] in ("/$defs/x~1y/$schema", "/allOf/0/$schema")
    schemas.read(json.dumps({"allOf": [{"$id": "b", "$schema": schemas.DIALECT}]}))


def test_schemas_of_the_catalogue_lie_far_below_the_bound() -> None:
    texts = [v.json_schema for e in catalogue.entries().values() for v in e.type.versions]
    counts = [
        expansion.expand(json.loads(text), schemas.EXPANDED_MAX).schemas for text in texts if text
    ]
    assert max(counts) < schemas.EXPANDED_MAX / 10


def _by_hand(document: Any, schema: Any, above: tuple[str, ...], bound: int) -> int:
    """Count by walking, as long as it takes."""
    if not isinstance(schema, dict):
        return 1
    count = 1
    for keyword in ("allOf", "anyOf"):
        count += sum(_by_hand(document, item, above, bound) for item in schema.get(keyword, ()))
    count += sum(
        _by_hand(document, item, above, bound) for item in schema.get("properties", {}).values()
    )
    if "$ref" in schema:
        count += _by_hand(document, document["$defs"][schema["$ref"][8:]], above, bound)
    return min(count, bound + 1)


@st.composite
def without_loops(draw: st.DrawFn) -> dict[str, Any]:
    size = draw(st.integers(1, 5))

    def part(number: int) -> Any:
        refs = st.integers(number + 1, size).map(lambda n: {"$ref": f"#/$defs/p{n}"})
        leaf: st.SearchStrategy[Any] = (
            st.booleans() | st.just({}) | (refs if number < size else st.just({}))
        )
        return st.recursive(
            leaf,
            lambda inner: (
                st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)})
                | st.fixed_dictionaries(
                    {"properties": st.dictionaries(st.sampled_from("ab"), inner)}
                )
            ),
            max_leaves=4,
        )

    parts = {f"p{n}": draw(part(n)) for n in range(1, size + 1)}
    return {"$defs": parts, "anyOf": [draw(part(0)), draw(part(0))]}


@given(without_loops())
@settings(deadline=None)
def test_the_count_is_that_of_a_walk(schema: dict[str, Any]) -> None:
    assert expansion.expand(schema, 500).schemas == _by_hand(schema, schema, (), 500)


@pytest.mark.parametrize(
    "text",
    [
        '{"maximum": 1e1000000000000000000}',
        '{"multipleOf": 1e-999999}',
        '{"maximum": ' + "9" * 5000 + "}",
        '{"pattern": "(?:a{1000}){1000}"}',
    ],
)
def test_a_schema_that_takes_too_much_memory_is_refused(text: str) -> None:
    with pytest.raises(schemas.SchemaInvalid):
        schemas.read(text)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x"])
def test_patterns_cost_linear_time(pattern: str) -> None:
    """These hang engines that back-track; the worker's budget would end them, but it need not."""
    text = json.dumps({"pattern": pattern})
    schemas.read(text)
    with pytest.raises(payloads.PayloadInvalid):
        schemas.check(text, "a" * 5000 + "!")
