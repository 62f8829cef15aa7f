"""What the transport asks of NATS: a stream of a site, its lanes, and readers of it.

A lane's batch is published atomically (ADR-50 of NATS): all of it or nothing, and only if the lane's last message
is still the one that the publisher has seen. That condition is what stops a sink that was paused past its
lease. Conditions on single, pipelined messages would be no alternative: a cluster refuses a second one of a
lane while the first is on its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import UnexpectedEOF
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from services.runtime.events.jetstream import message
from services.runtime.events.jetstream.message import Event
from services.runtime.events.jetstream.options import Options, bare, credentials_of, place_of
from services.runtime.events.lanes import LANES
from services.runtime.ids import new_ulid

# Atomic batches came last of what is used here.
SERVER_VERSION_MIN = (2, 12)
CONNECT_SECONDS = 5.0
REQUEST_SECONDS = 3.0
_CLOSE_SECONDS = 0.5
# Bytes that wait in this process for a connection that is being made again.
_PENDING_BYTES_MAX = 8 * 1024 * 1024
# Below the server's own limit of 1,000 messages a batch. An event weighs up to 1 MiB, so bytes are counted too.
BATCH_MAX = 100
BATCH_BYTES_MAX = 4 * 1024 * 1024
# What a batch adds to a message.
_BATCH_HEADER_BYTES_MAX = 512

_NOT_CLUSTERED = 10074
_NO_STORAGE = 10047
_TAIL_MOVED = frozenset({10071, 10164})
_REPEATED = 10201
# How a pull request ends that has got what it asked for, or whose consumer has another leader by now.
_ENDS = ("Batch Completed", "MaxBytes", "Leadership Change")
# A connection that the server ended; what it said before may be lost with it.
_BROKEN = (ConnectionResetError, BrokenPipeError, UnexpectedEOF)

_log = structlog.get_logger(__name__)


class BrokerAway(Exception):
    """NATS cannot be reached, or cannot answer now."""


class ConsumerGone(BrokerAway):
    """What a reader pulls from was dropped; another one can be made."""


class BrokerUnfit(Exception):
    """NATS answers, but its configuration must change before it can be used. The message says how."""


class TailMoved(Exception):
    """The lane's last message is not the expected one."""


class Repeated(TailMoved):
    """The stream knows an event of the batch: it was published before, a short while ago."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in the stream.

    Attributes:
        sequence: its place in the stream.
        number: its place in its lane.
        identity: tenant, id and generation of its event; None for a message that is none of ours.
    """

    sequence: int
    number: int
    identity: tuple[str, str, int] | None


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream.

    Attributes:
        made_at: when; a stream that was deleted and made again has another moment.
        first: sequence of the oldest message that is left.
        last: sequence of the newest that there ever was.
        messages: how many there are.
        replicas: copies of each.
        message_bytes_max: what one message may weigh in it; -1 for no limit of its own.
    """

    made_at: datetime
    first: int
    last: int
    messages: int
    replicas: int
    message_bytes_max: int


class Broker:
    """One connection to NATS; made at first use, and again whenever it was lost.

    Args:
        options: where NATS is, and which site this is.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._client: Client | None = None
        self._lock = asyncio.Lock()

    @property
    def place(self) -> str:
        """Host and port of the server in use, or of those that are tried."""
        client = self._client
        if client is not None and client.connected_url is not None:
            return place_of(client.connected_url.geturl())
        return ", ".join(map(place_of, self.options.servers))

    async def client(self) -> Client:
        """Return the connection.

        Raises:
            BrokerAway: there is none to be had.
            BrokerUnfit: the server is too old.
        """
        async with self._lock:
            if self._client is None or self._client.is_closed:
                self._client = None
                self._client = await self._connect()
        if not self._client.is_connected:
            raise BrokerAway(f"the connection to NATS at {self.place} is lost")
        return self._client

    async def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connect(self) -> Client:
        client, reason = Client(), ""

        async def on_error(error: Exception) -> None:
            # The client's own callback prints; its errors name no credentials. What the server said outranks a
            # connection that broke, which is how it ends what it refused.
            nonlocal reason
            said = f"{type(error).__name__}: {error}"
            if not reason or not isinstance(error, _BROKEN):
                reason = said
            _log.info("nats says", error=said)

        options = self.options
        given: dict[str, Any] = dict(credentials_of(options.servers))
        if (context := options.tls()) is not None:
            given["tls"] = context
        if options.creds_file is not None:
            given["user_credentials"] = str(options.creds_file)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.connect(
                    servers=[bare(url) for url in options.servers],
                    name=f"tollmesh-{options.site}",
                    error_cb=on_error,
                    connect_timeout=2,
                    reconnect_time_wait=1,
                    max_reconnect_attempts=-1,
                    ping_interval=10,
                    pending_size=_PENDING_BYTES_MAX,
                    **given,
                )
        except (NatsError, OSError, TimeoutError, ValueError) as error:
            await client.close()
            said = reason or f"{type(error).__name__}: {error}"
            if said.startswith(tuple(kind.__name__ for kind in _BROKEN)):
                said += "; a server may also do this if it rejects the login, so check user and password"
            raise BrokerAway(f"no connection to NATS at {self.place}: {said}") from error
        except BaseException:
            await client.close()
            raise
        version = client.connected_server_version
        if (version.major, version.minor) < SERVER_VERSION_MIN:
            await client.close()
            wanted = ".".join(map(str, SERVER_VERSION_MIN))
            found = f"{version.major}.{version.minor}"
            raise BrokerUnfit(f"NATS at {self.place} is {found}; {wanted} or later is required")
        return client

    async def jetstream(self) -> JetStreamContext:
        """Return the connection's JetStream."""
        return (await self.client()).jetstream(timeout=REQUEST_SECONDS)

    # ---- The stream of this site

    async def ensure_stream(self, owner: str) -> StreamState:
        """Create this site's stream, or check the existing one.

        Limits of a stream that exists are its operator's: they are left as they are.

        Args:
            owner: the database whose events it carries; another one's stream is not touched.

        Raises:
            BrokerUnfit: another database writes that stream, or it is made for something else.
        """
        jetstream = await self.jetstream()
        name = message.stream_of(self.options.site)
        try:
            info = await jetstream.stream_info(name)
        except NotFoundError:
            info = await self._make_stream(jetstream, owner)
        config = info.config
        writer = (config.metadata or {}).get("tollmesh.database")
        if writer != owner:
            raise BrokerUnfit(
                f"stream {name} is written by another database ({writer}, this one is {owner}): give each site a "
                "name of its own; or, if this database replaces the other, change the stream's metadata"
            )
        if config.subjects != [message.subjects_of(self.options.site)]:
            raise BrokerUnfit(
                f"stream {name} has the subjects {config.subjects}, which do not belong to its site"
            )
        if not config.allow_atomic:
            raise BrokerUnfit(f"stream {name} does not allow atomic batches: set allow_atomic")
        return _state(info)

    async def _make_stream(self, jetstream: JetStreamContext, owner: str) -> api.StreamInfo:
        options = self.options
        config = api.StreamConfig(
            name=message.stream_of(options.site),
            description=f"events of Tollmesh's site {options.site}",
            subjects=[message.subjects_of(options.site)],
            storage=api.StorageType.FILE,
            retention=api.RetentionPolicy.LIMITS,
            # The log of record is Postgres: what is dropped here can be sent again, while a full stream that
            # takes nothing would hold up the sites that are not behind.
            discard=api.DiscardPolicy.OLD,
            max_bytes=options.stream_bytes_max,
            max_age=options.stream_age_s_max,
            duplicate_window=options.duplicate_window_s,
            num_replicas=options.replicas or 3,
            allow_atomic=True,
            metadata={"tollmesh.database": owner},
        )
        try:
            return await jetstream.add_stream(config)
        except APIError as error:
            if error.err_code == _NO_STORAGE:
                raise BrokerUnfit(
                    f"NATS cannot reserve {options.stream_bytes_max} bytes for stream {config.name}: raise max_file of "
                    "its servers, or lower TOLLMESH_NATS_STREAM_BYTES_MAX"
                ) from error
            if error.err_code != _NOT_CLUSTERED or options.replicas:
                raise
        config.num_replicas = 1
        _log.warning(
            "the stream has only one copy, because this NATS is not a cluster: what it loses has to be sent again",
            stream=config.name,
        )
        return await jetstream.add_stream(config)

    async def tail(self, lane: int) -> Stored | None:
        """Return the last message of a lane of this site; None when it has none."""
        site = self.options.site
        jetstream = await self.jetstream()
        try:
            found = await jetstream.get_last_msg(
                message.stream_of(site), message.subjects_of(site, lane)
            )
        except NotFoundError as error:
            _refuse_missing_stream(error)
            return None
        return _stored(found)

    async def next_of_lane(self, site: str, lane: int, sequence: int) -> Stored | None:
        """Return the first message of a lane from a sequence on; None when there is none."""
        jetstream = await self.jetstream()
        try:
            found = await jetstream.get_msg(
                message.stream_of(site),
                seq=max(sequence, 1),
                subject=message.subjects_of(site, lane),
                next=True,
            )
        except NotFoundError as error:
            _refuse_missing_stream(error)
            return None
        return _stored(found)

    async def publish(self, lane: int, events: Sequence[Event], after: int, number: int) -> int:
        """Publish events to a lane, all or none; returns the sequence of the last.

        Args:
            lane: the lane.
            events: in order, 1 to 100.
            after: sequence of the message that is the lane's last; 0 for none.
            number: place in the lane of the first of them.

        Raises:
            TailMoved: something else was published to the lane.
            TimeoutError: nobody answered; it may have been published or not, now or later.
            BrokerAway: the same, or not even sent.
        """
        client = await self.client()
        batch_id = new_ulid()
        for index, event in enumerate(events):
            headers = message.headers_of(event, number + index)
            headers["Nats-Batch-Id"] = batch_id
            headers["Nats-Batch-Sequence"] = str(index + 1)
            if index == 0:
                headers |= self._condition(lane, after)
            subject = message.subject_of(event, lane)
            if index < len(events) - 1:
                await client.publish(subject, event.payload, headers=headers)
                continue
            headers["Nats-Batch-Commit"] = "1"
            reply = await client.request(subject, event.payload, REQUEST_SECONDS, headers=headers)
        answer = _checked(json.loads(reply.data))
        if answer.get("count") != len(events):
            raise BrokerUnfit(f"NATS took {answer.get('count')} of a batch of {len(events)} events")
        return int(answer["seq"])

    async def publish_one(self, lane: int, event: Event, after: int, number: int) -> int | None:
        """Publish an event by itself, else as `publish`; None when the stream knows that it has it."""
        client = await self.client()
        headers = message.headers_of(event, number) | self._condition(lane, after)
        subject = message.subject_of(event, lane)
        reply = await client.request(subject, event.payload, REQUEST_SECONDS, headers=headers)
        answer = _checked(json.loads(reply.data))
        return None if answer.get("duplicate") else int(answer["seq"])

    def _condition(self, lane: int, after: int) -> dict[str, str]:
        """The headers that let a message in only behind the lane's last one."""
        return {
            "Nats-Expected-Last-Subject-Sequence": str(after),
            "Nats-Expected-Last-Subject-Sequence-Subject": message.subjects_of(
                self.options.site, lane
            ),
        }

    async def message_bytes_max(self, state: StreamState) -> int:
        """Return what an event may weigh, headers and payload."""
        limits = [(await self.client()).max_payload, state.message_bytes_max]
        return min(limit for limit in limits if limit > 0) - _BATCH_HEADER_BYTES_MAX

    # ---- The streams of other sites

    async def state(self, site: str) -> StreamState | None:
        """Return a site's stream; None when there is none."""
        jetstream = await self.jetstream()
        try:
            return _state(await jetstream.stream_info(message.stream_of(site)))
        except NotFoundError:
            return None

    async def reader(self, site: str, share: int, shares: int, after: int) -> Reader:
        """Read a share of another site's lanes, from behind a sequence on.

        Each time by a consumer of its own, kept by one server in memory and dropped once nobody asks for it. Where
        reading goes on is decided by the caller's database, so there is nothing in a consumer that would be worth a
        Raft group; and a process that was paused cannot swallow messages of the one that took its place.
        """
        jetstream = await self.jetstream()
        stream, name = message.stream_of(site), f"{self.options.site}-{share}-{new_ulid()}"
        lanes = range(share, LANES, shares)
        await jetstream.add_consumer(
            stream,
            api.ConsumerConfig(
                name=name,
                description=f"share {share} of {shares} of site {self.options.site}",
                deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=after + 1,
                filter_subjects=[message.subjects_of(site, lane) for lane in lanes],
                # One acknowledgement settles all before it: events are taken in in this order, or not at all.
                ack_policy=api.AckPolicy.ALL,
                ack_wait=Reader.ACK_WAIT_SECONDS,
                max_ack_pending=2 * Reader.BATCH,
                max_deliver=-1,
                inactive_threshold=Reader.FORGOTTEN_AFTER_SECONDS,
                num_replicas=1,
                mem_storage=True,
            ),
        )
        return await Reader.open(await self.client(), stream, name)


class Reader:
    """Pulls messages of a consumer, in order.

    One request stays open, so that a message that is published while nothing waits comes at once.
    """

    BATCH = 250
    BATCH_BYTES_MAX = 8 * 1024 * 1024
    ACK_WAIT_SECONDS = 30.0
    FORGOTTEN_AFTER_SECONDS = 60.0
    _EXPIRES_SECONDS = 10.0
    _HEARTBEAT_SECONDS = 1.0

    def __init__(
        self, client: Client, stream: str, consumer: str, subscription: Any, inbox: str
    ) -> None:
        self._client = client
        self._stream = stream
        self._consumer = consumer
        self._subscription = subscription
        self._inbox = inbox
        self._due = 0

    @classmethod
    async def open(cls, client: Client, stream: str, consumer: str) -> Reader:
        """Make ready to pull."""
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        return cls(client, stream, consumer, subscription, inbox)

    async def close(self) -> None:
        """Take nothing more."""
        with contextlib.suppress(NatsError, TimeoutError):
            await self._subscription.unsubscribe()
            # Else it is forgotten by itself.
            jetstream = self._client.jetstream(timeout=_CLOSE_SECONDS)
            await jetstream.delete_consumer(self._stream, self._consumer)

    async def batch(self) -> list[Any]:
        """Return the messages that are there, at least one unless a heartbeat's time passed without any.

        Raises:
            ConsumerGone: another reader has to be opened.
        """
        found: list[Any] = []
        if self._due <= 0:
            await self._ask()
        while len(found) < self.BATCH and (not found or self._subscription.pending_msgs):
            try:
                received = await self._subscription.next_msg(2.5 * self._HEARTBEAT_SECONDS)
            except TimeoutError:
                # Not even a heartbeat: the request was lost on the way, with a connection or a leader.
                self._due = 0
                break
            status = _status(received)
            detail = str((received.headers or {}).get("Description", ""))
            if not status:
                self._due -= 1
                found.append(received)
            elif status == "100" and not found:
                break
            elif status in {"404", "408"} or any(text in detail for text in _ENDS):
                self._due = 0
                break
            elif status != "100":
                raise ConsumerGone(f"the consumer was interrupted: {status} {detail}")
        return found

    async def _ask(self) -> None:
        wanted = {
            "batch": self.BATCH,
            "max_bytes": self.BATCH_BYTES_MAX,
            "expires": int(self._EXPIRES_SECONDS * 1e9),
            "idle_heartbeat": int(self._HEARTBEAT_SECONDS * 1e9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        await self._client.publish(subject, json.dumps(wanted).encode(), reply=self._inbox)
        self._due = self.BATCH


async def acknowledge(received: Any) -> None:
    """Settle a message and all before it; returns once NATS has it."""
    await received.ack_sync(timeout=REQUEST_SECONDS)


def sequence_of(received: Any) -> int:
    """Return the place of a pulled message in its stream."""
    return int(received.metadata.sequence.stream)


def behind(received: Sequence[Any]) -> int:
    """Return how many messages waited behind those that were pulled together; 0 when none came."""
    return int(received[-1].metadata.num_pending) if received else 0


def _status(received: Any) -> str:
    headers = received.headers or {}
    return str(headers.get("Status", "")) if not received.data else ""


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    error = answer.get("error")
    if not error:
        return answer
    text = f"{error.get('description')} ({error.get('err_code')})"
    if error.get("err_code") == _REPEATED:
        raise Repeated(text)
    raise TailMoved(text) if error.get("err_code") in _TAIL_MOVED else BrokerAway(text)


def _refuse_missing_stream(error: NotFoundError) -> None:
    """No message and no stream are both `not found`."""
    if error.err_code != 10037:
        raise BrokerAway(f"the stream is gone: {error.description}") from error


def _state(info: api.StreamInfo) -> StreamState:
    assert info.created is not None, "every server tells it"
    return StreamState(
        made_at=info.created,
        first=info.state.first_seq,
        last=info.state.last_seq,
        messages=info.state.messages,
        replicas=info.config.num_replicas or 1,
        message_bytes_max=info.config.max_msg_size or -1,
    )


def _stored(found: Any) -> Stored:
    return Stored(found.seq, message.number_of(found.headers), message.identity_of(found.headers))
