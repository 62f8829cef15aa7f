"""Builds the service."""

from __future__ import annotations

from payments.access.v1 import access_service_pb2_grpc

from services.access.servicer import AccessServicer
from services.runtime.edge import methods
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build AccessService. Its table is the runtime's, so it has no migrations of its own."""
    # Imports every schema of the release: not while a caller waits.
    methods.scopes()
    servicer = AccessServicer(runtime.database, runtime.commands)
    add = access_service_pb2_grpc.add_AccessServiceServicer_to_server
    return Service([Servicer(add, servicer, "payments.access.v1.AccessService")])
