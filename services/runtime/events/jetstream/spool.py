"""A stream that holds what cannot be stored now: each message is acknowledged once it lies in a file, and leaves the
stream only when whoever stored it says so.

Nothing is dropped to make room: a full stream refuses. A message of a name that the stream holds already is not put in
again, however long ago the first one came: the condition of the publish says so, not a memory of ids that ends after
a while. Messages are read by their sequence from the stream's leader, so there is no consumer whose acknowledgements
could settle what another process works on.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import structlog
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from services.runtime.crashpoints import crashpoint
from services.runtime.events.jetstream.broker import (
    REQUEST_SECONDS,
    Broker,
    BrokerAway,
    BrokerUnfit,
)
from services.runtime.events.jetstream.options import Options

_PREFIX = "spool"
_OWNER = "tollmesh.mesh"
# The last message of the name is not the expected one: there is one. A cluster says the other while one is on its way.
_HELD_ALREADY = frozenset({10071, 10164})
_FULL = frozenset({10047, 10077, 10023})
_NOT_CLUSTERED = 10074
_NO_STORAGE = 10047
_NO_MESSAGE = 10037
# Headers and what the server keeps beside a message.
_ROOM_BYTES = 1024
# How long nobody tries again to connect, once somebody failed.
AWAY_SECONDS = 0.5

_log = structlog.get_logger(__name__)


class SpoolFull(BrokerAway):
    """The stream takes nothing more until something left it."""


class TooLarge(Exception):
    """A message is larger than NATS takes.

    Attributes:
        bytes_max: what one may weigh.
    """

    def __init__(self, size_bytes: int, bytes_max: int) -> None:
        super().__init__(f"a message of {size_bytes:,} bytes; NATS takes {bytes_max:,}")
        self.bytes_max = bytes_max


@dataclass(frozen=True, slots=True)
class Message:
    """What the stream holds.

    Attributes:
        sequence: its place in the stream.
        group: whose it is; nothing of one group is read as another's.
        name: tells it from others of its group.
        item: another id of it.
        put_at: when NATS took it.
        payload: its bytes.
    """

    sequence: int
    group: str
    name: str
    item: str
    put_at: datetime
    payload: bytes


@dataclass(frozen=True, slots=True)
class SpoolState:
    """A spool.

    Attributes:
        made_at: when; a stream that was deleted and made again has another moment.
        messages: how many it holds.
        size_bytes: what they weigh.
        bytes_max: what they may weigh; -1 for no limit.
        first, last: sequences of the oldest message that it holds and of the newest that there ever was.
        replicas: copies of each.
        oldest_at: when the oldest one was put in; None while it is empty.
    """

    made_at: datetime
    messages: int
    size_bytes: int
    bytes_max: int
    first: int
    last: int
    replicas: int
    oldest_at: datetime | None


def stream_of(site: str) -> str:
    """Return the name of a site's spool."""
    return f"tollmesh-spool-{site}"


class SpoolStream:
    """A site's spool.

    Args:
        options: where NATS is.
        owner: the mesh whose it is; another one's is not touched.
    """

    def __init__(self, options: Options, owner: str) -> None:
        self._options = options
        self._owner = owner
        self._site = options.site
        self.broker = Broker(options)
        self.name = stream_of(options.site)
        # 0 until the stream was checked.
        self._message_bytes_max = 0
        # When the first message was put in, by which one that is.
        self._oldest: tuple[tuple[datetime, int] | None, datetime | None] = (None, None)
        self._connecting = asyncio.Lock()
        self._away_at = float("-inf")
        self._away_said = ""

    async def close(self) -> None:
        """Close the connection."""
        await self.broker.close()

    async def ensure(self) -> SpoolState:
        """Create the stream, or check the existing one, whose limits are its operator's.

        Raises:
            BrokerAway: NATS cannot be reached or cannot answer now.
            BrokerUnfit: the stream would lose what it acknowledged, or is somebody else's.
        """
        jetstream = await self._jetstream()
        try:
            try:
                info = await jetstream.stream_info(self.name)
            except NotFoundError:
                info = await self._make(jetstream)
            self._check(info.config)
            limits = [(await self.broker.client()).max_payload, info.config.max_msg_size or -1]
            self._message_bytes_max = min(limit for limit in limits if limit > 0) - _ROOM_BYTES
            return await self._state(jetstream, info)
        except (NatsError, APIError, TimeoutError) as error:
            self._message_bytes_max = 0
            raise _away(error) from error
        except BrokerUnfit:
            self._message_bytes_max = 0
            raise

    async def look(self) -> SpoolState | None:
        """Return what the stream holds, without making one; None when there is none.

        Raises:
            BrokerAway: NATS cannot be reached or cannot answer now.
        """
        jetstream = await self._jetstream()
        try:
            return await self._state(jetstream, await jetstream.stream_info(self.name))
        except NotFoundError:
            return None
        except (NatsError, APIError, TimeoutError) as error:
            raise _away(error) from error

    async def put(self, group: str, name: str, item: str, payload: bytes) -> Message | int:
        """Put a message in; returns its sequence, or the message of this name that the stream holds already.

        It lies in the stream once this returns. After an error it may, or may not.

        Raises:
            BrokerAway: NATS cannot be reached or cannot answer now.
            BrokerUnfit: the stream must not be used as it is.
            SpoolFull: the stream is full.
            TooLarge: the message is larger than NATS takes.
        """
        if not self._message_bytes_max:
            await self.ensure()
        if len(payload) > self._message_bytes_max:
            raise TooLarge(len(payload), self._message_bytes_max)
        jetstream = await self._jetstream()
        same = self._subject(group, name, "*")
        crashpoint("spool.before_publish")
        try:
            answer = await jetstream.publish(
                self._subject(group, name, item),
                payload,
                stream=self.name,
                headers={
                    "Nats-Expected-Last-Subject-Sequence": "0",
                    "Nats-Expected-Last-Subject-Sequence-Subject": same,
                },
            )
        except APIError as error:
            if error.err_code not in _HELD_ALREADY:
                raise _away(error) from error
            held = await self._last(jetstream, same)
            if held is None:
                raise BrokerAway("the same message is on its way into the spool") from error
            return held
        except MaxPayloadError as error:
            limit = (await self.broker.client()).max_payload - _ROOM_BYTES
            raise TooLarge(len(payload), limit) from error
        except NoStreamResponseError as error:
            # Made again, and checked, before the next one is put in.
            self._message_bytes_max = 0
            raise BrokerAway(f"stream {self.name} is gone, or has no leader now") from error
        except (NatsError, TimeoutError) as error:
            raise _away(error) from error
        crashpoint("spool.after_publish")
        return answer.seq

    async def next(self, sequence: int) -> Message | None:
        """Return the first message behind a sequence; None when there is none.

        Raises:
            BrokerAway: NATS cannot be reached or cannot answer now.
        """
        jetstream = await self._jetstream()
        try:
            found = await jetstream.get_msg(
                self.name, seq=sequence + 1, subject=self._subject("*", "*", "*"), next=True
            )
        except NotFoundError as error:
            self._refuse_missing(error)
            return None
        except (NatsError, APIError, TimeoutError) as error:
            raise _away(error) from error
        return _message(found)

    async def find(self, group: str, item: str) -> Message | None:
        """Return the message of a group that has an id; None when the stream has none.

        Raises:
            BrokerAway: NATS cannot be reached or cannot answer now.
        """
        return await self._last(await self._jetstream(), self._subject(group, "*", item))

    async def holds(self, group: str) -> bool:
        """Whether the stream holds anything of a group.

        Raises:
            BrokerAway: NATS cannot be reached or cannot answer now.
        """
        last = await self._last(await self._jetstream(), self._subject(group, "*", "*"))
        return last is not None

    async def remove(self, sequence: int) -> None:
        """Take a message out; does nothing when it is out already.

        Raises:
            BrokerAway: NATS cannot be reached or cannot answer now.
        """
        await self._jetstream()
        client = await self.broker.client()
        # What lay there may stay in the file until its block goes: to overwrite it costs a sync of the disk each time.
        asked = json.dumps({"seq": sequence, "no_erase": True}).encode()
        try:
            said = await client.request(
                f"$JS.API.STREAM.MSG.DELETE.{self.name}", asked, REQUEST_SECONDS
            )
        except (NatsError, TimeoutError) as error:
            raise _away(error) from error
        refusal = json.loads(said.data).get("error")
        if refusal is None:
            return
        # Another process may have taken it out; the server has one code for whatever keeps it from that.
        still = await self.next(sequence - 1)
        if still is not None and still.sequence == sequence:
            raise BrokerAway(f"{refusal.get('description')} ({refusal.get('err_code')})")

    async def _jetstream(self) -> JetStreamContext:
        # One tries for all: those that came meanwhile hear what it heard, and do not each wait as long.
        async with self._connecting:
            if time.monotonic() - self._away_at < AWAY_SECONDS:
                raise BrokerAway(self._away_said)
            try:
                return await self.broker.jetstream()
            except BrokerAway as error:
                self._away_at, self._away_said = time.monotonic(), str(error)
                raise
            except (NatsError, TimeoutError, OSError) as error:
                raise _away(error) from error

    async def _last(self, jetstream: JetStreamContext, subject: str) -> Message | None:
        try:
            return _message(await jetstream.get_last_msg(self.name, subject))
        except NotFoundError as error:
            self._refuse_missing(error)
            return None
        except (NatsError, APIError, TimeoutError) as error:
            raise _away(error) from error

    def _refuse_missing(self, error: NotFoundError) -> None:
        """No message and no stream are both `not found`. Raises BrokerAway."""
        if error.err_code != _NO_MESSAGE:
            raise BrokerAway(f"stream {self.name} is gone") from error

    async def _state(self, jetstream: JetStreamContext, info: api.StreamInfo) -> SpoolState:
        assert info.created is not None, "every server tells it"
        first = info.state.first_seq if info.state.messages else 0
        if first and self._oldest[0] != (info.created, first):
            found = await self.next(first - 1)
            self._oldest = ((info.created, first), None if found is None else found.put_at)
        oldest = self._oldest[1] if first else None
        return SpoolState(
            made_at=info.created,
            messages=info.state.messages,
            size_bytes=info.state.bytes,
            bytes_max=info.config.max_bytes or -1,
            first=info.state.first_seq,
            last=info.state.last_seq,
            replicas=info.config.num_replicas or 1,
            oldest_at=oldest,
        )

    def _check(self, config: api.StreamConfig) -> None:
        owner = (config.metadata or {}).get(_OWNER)
        if owner != self._owner:
            raise BrokerUnfit(
                f"stream {self.name} is the spool of another mesh, or of this one before its mesh secret was changed: "
                "give each site a name of its own"
            )
        faults = [
            said
            for wrong, said in (
                (config.storage != api.StorageType.FILE, "storage must be file"),
                (config.discard != api.DiscardPolicy.NEW, "discard must be new"),
                (config.retention != api.RetentionPolicy.LIMITS, "retention must be limits"),
                (bool(config.max_age), "max_age must be 0"),
                ((config.max_msgs_per_subject or -1) > 0, "max_msgs_per_subject must be -1"),
                (bool(config.no_ack), "no_ack must be false"),
                (bool(config.deny_delete), "deny_delete must be false"),
                (config.subjects != [self._subject("*", "*", "*")], "its subjects are not ours"),
            )
            if wrong
        ]
        if faults:
            raise BrokerUnfit(
                f"stream {self.name} does not keep what it acknowledges: {'; '.join(faults)}"
            )

    async def _make(self, jetstream: JetStreamContext) -> api.StreamInfo:
        config = api.StreamConfig(
            name=self.name,
            description=f"usage that Tollmesh's site {self._site} holds while its database is away",
            subjects=[self._subject("*", "*", "*")],
            storage=api.StorageType.FILE,
            retention=api.RetentionPolicy.LIMITS,
            # What was acknowledged stays: who sends more than there is room for is told so.
            discard=api.DiscardPolicy.NEW,
            max_bytes=self._options.stream_bytes_max,
            num_replicas=self._options.replicas or 3,
            metadata={_OWNER: self._owner},
        )
        try:
            return await jetstream.add_stream(config)
        except APIError as error:
            if error.err_code == _NO_STORAGE:
                raise BrokerUnfit(
                    f"NATS cannot reserve {self._options.stream_bytes_max} bytes for stream {self.name}: raise "
                    "max_file of its servers, or lower TOLLMESH_SPOOL_BYTES_MAX"
                ) from error
            if error.err_code != _NOT_CLUSTERED or self._options.replicas:
                raise
        config.num_replicas = 1
        _log.warning(
            "the spool has only one copy, because this NATS is not a cluster: what its disk loses is lost",
            stream=self.name,
        )
        return await jetstream.add_stream(config)

    def _subject(self, group: str, name: str, item: str) -> str:
        return f"{_PREFIX}.{self._site}.{_token(group)}.{_token(name)}.{_token(item)}"


def _token(text: str) -> str:
    """Write a text as one token of a subject."""
    return text if text == "*" else quote(text, safe="").replace(".", "%2E")


def _message(found: api.RawStreamMsg) -> Message:
    assert found.subject is not None and found.seq is not None and found.time is not None
    # As they are: they are compared with what the payload says, and never taken for true by themselves.
    group, name, item = found.subject.split(".")[2:5]
    return Message(found.seq, group, name, item, found.time, found.data or b"")


def group_of(text: str) -> str:
    """Return the group of a message as its subject spells it."""
    return _token(text)


def _away(error: BaseException) -> BrokerAway:
    if isinstance(error, APIError):
        text = f"{error.description} ({error.err_code})"
        return SpoolFull(text) if error.err_code in _FULL else BrokerAway(text)
    if isinstance(error, asyncio.TimeoutError):
        return BrokerAway(f"NATS did not answer within {REQUEST_SECONDS:g} s")
    return BrokerAway(f"{type(error).__name__}: {error}")
