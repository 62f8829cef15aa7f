"""What the descriptors say of each RPC: scope, messages, whether it mutates. The descriptor is the configuration."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import payments
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from payments.options.v1 import options_pb2

from services.runtime.access import OPERATOR_SCOPE

OPEN_SERVICES = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "grpc.reflection.v1.ServerReflection",
    }
)
CHANNELZ_SERVICE = "grpc.channelz.v1.Channelz"


class ScopelessMethod(RuntimeError):
    """An RPC names no scope, so the server refuses to start."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC.

    Attributes:
        path: `/payments.ledger.v1.LedgerService/PostTransfers`.
        scope: scope that its caller needs; empty for health and reflection, which need no key.
        mutates: whether a call changes state.
        vital: whether it may do so even while storage is low.
        has_request_id: whether the request has the field request_id.
        request: descriptor of its request; None where it is not ours.
        validated: whether the request's rules are checked (ours) or not (health, reflection, channelz).
        spooled: whether a call may be held outside of the database while that is away.
    """

    path: str
    scope: str
    mutates: bool
    has_request_id: bool
    validated: bool
    request: Any = None
    vital: bool = False
    spooled: bool = False


def foreign(path: str) -> Method:
    """Describe an RPC that is not ours: open for health and reflection, the operator's otherwise."""
    service = path[1:].rpartition("/")[0]
    scope = "" if service in OPEN_SERVICES else OPERATOR_SCOPE
    return Method(path, scope, mutates=False, has_request_id=False, validated=False)


def describe(service_names: Iterable[str]) -> dict[str, Method]:
    """Describe every RPC of the services.

    Raises:
        ScopelessMethod: one of them names no scope.
    """
    pool = descriptor_pool.Default()
    methods: dict[str, Method] = {}
    for service_name in service_names:
        service = pool.FindServiceByName(service_name)
        for method in service.methods:
            path = f"/{service_name}/{method.name}"
            rule = method.GetOptions().Extensions[options_pb2.access]
            if not rule.scope:
                raise ScopelessMethod(
                    f"{path} names no scope: add option payments.options.v1.access"
                )
            has_request_id = "request_id" in method.input_type.fields_by_name
            methods[path] = Method(
                path,
                rule.scope,
                rule.mutates,
                has_request_id,
                validated=True,
                request=method.input_type,
                vital=rule.vital,
                spooled=rule.spooled,
            )
    return methods


@cache
def scopes() -> tuple[str, ...]:
    """Return every scope that an RPC of this release names, whatever services run in this process; sorted."""
    found: set[str] = set()
    for module in pkgutil.walk_packages(payments.__path__, "payments."):
        if module.name.endswith("_service_pb2"):
            services = importlib.import_module(module.name).DESCRIPTOR.services_by_name.values()
            methods = describe(service.full_name for service in services)
            found.update(method.scope for method in methods.values())
    return tuple(sorted(found))


def request_types(service_names: Iterable[str]) -> list[type[Message]]:
    """Return the request message of every RPC of the services."""
    pool = descriptor_pool.Default()
    return [
        message_factory.GetMessageClass(method.input_type)
        for name in service_names
        for method in pool.FindServiceByName(name).methods
    ]
