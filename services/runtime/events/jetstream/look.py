"""Looks at a NATS from outside of a node."""

from __future__ import annotations

from datetime import UTC, datetime

from nats.errors import Error as NatsError

from services.runtime.events.jetstream import message
from services.runtime.events.jetstream.broker import Broker, BrokerAway, BrokerUnfit
from services.runtime.events.jetstream.options import Options
from services.runtime.events.jetstream.spool import SpoolStream, stream_of
from services.runtime.interruptions import error_summary


async def look_at(options: Options) -> tuple[bool, str]:
    """Return whether NATS can carry events, and what is to be said of it and of this site's stream."""
    broker = Broker(options)
    try:
        version = (await broker.client()).connected_server_version
        state = await broker.state(options.site)
        place = f"NATS {version.major}.{version.minor}.{version.patch} at {broker.place}"
    except (BrokerAway, BrokerUnfit) as error:
        return False, str(error)
    except (NatsError, TimeoutError) as error:
        return False, f"NATS at {broker.place} does not offer JetStream: {error_summary(error)}"
    finally:
        await broker.close()
    stream = message.stream_of(options.site)
    if state is None:
        return True, f"{place}; stream {stream} is created by up"
    return True, f"{place}; stream {stream}: {state.messages} messages, {state.replicas} replicas"


async def look_at_spool(options: Options) -> tuple[bool, str]:
    """Return whether NATS holds usage while the database is away, and what is to be said of the spool."""
    spool = SpoolStream(options, "")
    try:
        version = (await spool.broker.client()).connected_server_version
        state = await spool.look()
        place = f"NATS {version.major}.{version.minor}.{version.patch} at {spool.broker.place}"
    except (BrokerAway, BrokerUnfit) as error:
        return False, str(error)
    except (NatsError, TimeoutError) as error:
        return False, f"NATS at {spool.broker.place} does not answer: {error_summary(error)}"
    finally:
        await spool.close()
    stream = stream_of(options.site)
    if state is None:
        return True, f"{place}; stream {stream} is created by up"
    room = "no limit" if state.bytes_max < 0 else f"{state.bytes_max // 2**20:,} MiB"
    said = (
        f"{place}; stream {stream}: {state.messages} batches, {state.size_bytes:,} bytes of {room}"
    )
    if state.oldest_at is not None:
        age_s = (datetime.now(UTC) - state.oldest_at).total_seconds()
        said += f", the oldest {age_s:.0f} s old"
    is_full = 0 <= state.bytes_max <= state.size_bytes
    return not is_full, f"{said}, {state.replicas} replicas"
