"""A process of the mesh: one service or all of them, with database, events and server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from functools import partial

from services.runtime import loops, manifests, telemetry
from services.runtime.access import KeyRing, MeshTokens
from services.runtime.clock import Clock, SystemClock
from services.runtime.commands import Commands
from services.runtime.conditions import Conditions
from services.runtime.config import Settings
from services.runtime.database import Database
from services.runtime.edge import methods, validation
from services.runtime.edge.channels import Channels
from services.runtime.edge.interceptors import Pipeline
from services.runtime.edge.server import Server
from services.runtime.events.backbone import EventBackbone
from services.runtime.events.bus import EventBus
from services.runtime.events.jetstream import Options as TransportOptions
from services.runtime.events.jetstream import Transport
from services.runtime.manifests import Manifest, measured
from services.runtime.process.readiness import TIMERS, DatabaseProbe, Feed, Readiness
from services.runtime.service import Runtime, Service
from services.runtime.storage import Storage, room_in
from services.runtime.timers.pump import TimerPump
from services.runtime.violations import ViolationReporter


class Node:
    """Builds, starts and stops what one process serves.

    Args:
        settings: how it runs; without peers every other service is looked for on its own address.
        manifests: the services that it serves.
        clock: business time.
    """

    def __init__(
        self, settings: Settings, manifests: Sequence[Manifest], clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._manifests = manifests
        self._clock = clock or SystemClock()
        self._services: list[Service] = []
        # How to end what was begun, the last first: a start that fails half-way is undone as far as it got.
        self._undo = contextlib.AsyncExitStack()
        self.bus = EventBus()
        self.conditions = Conditions()
        self.transport: Transport | None = None
        self.port = 0

    async def start(self) -> int:
        """Start everything; returns the port of the gRPC server.

        Raises:
            PortInUse: the address is taken.
            ScopelessMethod: an RPC names no scope.
        """
        settings = self._settings
        # In a thread: it imports exporters.
        self.telemetry = await asyncio.to_thread(
            telemetry.build, settings, measured(self._manifests)
        )
        self._undo.callback(self.telemetry.close)
        self.database = Database(
            settings.database_url,
            self._clock,
            pool_size=settings.pool_size,
            wake=self.bus.wake,
            scheduled=self.bus.scheduled,
            pooled=settings.pooled,
            conditions=self.conditions,
            telemetry=self.telemetry,
        )
        self._undo.push_async_callback(self.database.close)
        loops.observe(self.telemetry, self.conditions)
        self.violations = ViolationReporter(self.database)
        self.tokens = MeshTokens(settings.mesh_secret.get_secret_value())
        known: dict[str, methods.Method] = {}
        folder = settings.storage_dir
        self.storage = Storage(
            settings.storage_free_bytes_min,
            self.conditions,
            None if folder is None else partial(room_in, folder),
        )
        await self.storage.start()
        self._undo.push_async_callback(self.storage.stop)
        self.keys = KeyRing(self.database)
        self.pipeline = Pipeline(
            settings,
            known,
            self.keys,
            self.tokens,
            self.telemetry,
            self.violations,
            self.storage,
        )
        self._server = Server(self.pipeline, settings.connections_max)
        self.port = self._server.bind(settings.listen)
        if not settings.peers:
            settings = settings.model_copy(update={"peers": f"*=127.0.0.1:{self.port}"})
        # In threads: catalogues are read, rules compiled, and the loop has signals to hear.
        self._services = await asyncio.to_thread(self._built, settings)
        self._register()
        names = [servicer.full_name for s in self._services for servicer in s.servicers]
        known.update(methods.describe(names))
        types = methods.request_types(names)
        await asyncio.to_thread(validation.warm_up, [message() for message in types])
        reactions = [reaction for s in self._services for reaction in s.reactions]
        self.backbone = EventBackbone(
            settings.relay_url,
            reactions,
            bus=self.bus,
            clock=self._clock,
            pooled=settings.pooled,
            retention_days=settings.event_retention_days,
            telemetry=self.telemetry,
            conditions=self.conditions,
        )
        self._undo.push_async_callback(self.backbone.stop)
        await self.violations.start()
        self._undo.push_async_callback(self.violations.stop)
        await self._prepare_transport(settings)
        await self.backbone.start()
        if self.transport is not None:
            self.transport.start()
        self.timers = TimerPump(
            settings.relay_url,
            bus=self.bus,
            clock=self._clock,
            pooled=settings.pooled,
            conditions=self.conditions,
            telemetry=self.telemetry,
        )
        self._undo.push_async_callback(self.timers.stop)
        await self.timers.start()
        for service in self._services:
            if service.stop is not None:
                self._undo.push_async_callback(service.stop)
        self._undo.push_async_callback(self._server.drain)
        self._undo.callback(self.bus.close)
        await self._server.start(names)
        for service in self._services:
            if service.start is not None:
                await service.start()
        await self._tell_readiness(names)
        return self.port

    async def _tell_readiness(self, names: Sequence[str]) -> None:
        """Say what serves from now on, and when that changes; the first thing that ends is that."""
        settings = self._settings
        probe = DatabaseProbe(settings.database_url)
        following = [s_.full_name for s in self._services if s.follows_feed for s_ in s.servicers]
        self.readiness = Readiness(
            self._server.set_serving,
            names,
            following,
            why_gone=probe.why_gone,
            conditions=self.conditions,
            feed=Feed(
                lambda: self.backbone.stalled_seconds,
                lambda: self.backbone.failing_seconds,
                self.backbone.reconnect,
                settings.feed_stall_seconds,
            ),
            timers_stalled_seconds=lambda: self.timers.stalled_seconds,
            outlasting={
                name: is_taken for s in self._services for name, is_taken in s.outlasting.items()
            },
        )
        self.telemetry.observe("tollmesh.serving", self._serving)
        self.telemetry.observe("tollmesh.database.silent_s", lambda: [(probe.silent_seconds, {})])
        self.telemetry.observe("tollmesh.storage.free_bytes", self._free_bytes)
        self.telemetry.observe(
            "tollmesh.storage.low", lambda: [(float(self.conditions.storage_low), {})]
        )
        await self._server.set_serving(TIMERS, serving=False)
        probe.start()
        self._undo.callback(probe.stop)
        await self.readiness.look()
        self.readiness.start()
        self._undo.push_async_callback(self._server.retire, settings.drain_notice_seconds)
        self._undo.push_async_callback(self.readiness.stop)

    def _serving(self) -> list[tuple[float, dict[str, str]]]:
        states = self.readiness.states.items()
        return [(float(serving), {"service": name or "all"}) for name, serving in states]

    def _free_bytes(self) -> list[tuple[float, dict[str, str]]]:
        room = self.storage.room
        return [] if room is None else [(float(room.free_bytes), {})]

    async def _prepare_transport(self, settings: Settings) -> None:
        """Join NATS, if there is one: its subscription first, then the backbone, which fills it."""
        options = TransportOptions.of(settings)
        if options is None:
            return
        self.transport = Transport(
            options,
            settings.relay_url,
            bus=self.bus,
            violations=self.violations,
            pooled=settings.pooled,
            conditions=self.conditions,
            telemetry=self.telemetry,
        )
        self._undo.push_async_callback(self.transport.stop)
        await self.transport.subscribe()

    def _built(self, settings: Settings) -> list[Service]:
        declared = manifests.declared(self._manifests)
        built = []
        for service in self._manifests:
            channels = Channels(settings, self.tokens, service.name, service.needs)
            self._undo.push_async_callback(channels.close)
            runtime = Runtime(
                settings=settings,
                database=self.database,
                commands=Commands(self.database),
                channels=channels,
                clock=self._clock,
                violations=self.violations,
                bus=self.bus,
                telemetry=self.telemetry,
                contracts=declared,
                keys=self.keys,
            )
            built.append(service.load()(runtime))
        return built

    def _register(self) -> None:
        for service in self._services:
            for servicer in service.servicers:
                servicer.add_to_server(servicer.instance, self._server.grpc)

    async def drain_events(self) -> None:
        """Wait until every event published so far was handled."""
        await self.violations.drain()
        await self.backbone.drain()

    async def stop(self) -> None:
        """End the running calls, the background work and every connection, in this order.

        What fails to end keeps nothing else from ending; it is raised at last.
        """
        await self._undo.aclose()


async def until_signalled() -> None:
    """Wait for SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    try:
        await asked.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):
                loop.remove_signal_handler(number)
