"""Looks at a NATS from outside of a node."""

from __future__ import annotations

from nats.errors import Error as NatsError

from services.runtime.events.jetstream import message
from services.runtime.events.jetstream.broker import Broker, BrokerAway, BrokerUnfit
from services.runtime.events.jetstream.options import Options
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
