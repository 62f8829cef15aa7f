"""What was made before a fork stays the parent's: the child is told so, at once, and harms nothing."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from payments_sdk.payments.billing.v1 import Charge, CreateChargeResponse
from payments_sdk.payments.events.v1 import TailEventsResponse
from payments_sdk.payments.metering.v1 import IngestEventsRequest, IngestEventsResponse

from tests.support.sdk.packages import clean
from tests.support.sdk.scripted import Script, serving

WITHIN_S = 60
CHARGED = bytes(CreateChargeResponse(charge=Charge(charge_id="chg_1")))

# Begins every program. `in_child` forks, and fails if the child does or does not end.
PROGRAM = """
import asyncio, os, signal, sys, threading, time, warnings
from payments_sdk.payments.billing.v1 import CreateChargeRequest
from payments_sdk.payments.events.v1 import TailEventsRequest
from payments_sdk.payments.metering.v1 import UsageEvent
from tollmesh_client import *

warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, about forks beside threads
address, folder = sys.argv[1:]
quick = IngestOptions(batch_seconds=0.01, wait_first=0.01, wait_max=0.1)

def event(name):
    return UsageEvent(request_id=name, sku="tokens")

def refused(*uses):
    for number, use in enumerate(uses):
        try:
            use()
        except UsedAfterFork as error:
            assert "after the fork" in str(error) or "before the first" in str(error), error
        else:
            raise AssertionError(f"use {number} was not refused")

def ended(process_id):
    for _ in range(300):
        found, status = os.waitpid(process_id, os.WNOHANG)
        if found:
            assert status == 0, status
            return
        time.sleep(0.1)
    os.kill(process_id, signal.SIGKILL)
    raise AssertionError("the child hangs")
"""


def run(
    address: str, program: str, folder: Path, *, supported: bool = False
) -> subprocess.CompletedProcess[str]:
    environment = clean({"GRPC_ENABLE_FORK_SUPPORT": str(int(supported)), "GRPC_VERBOSITY": "NONE"})
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program, address, folder],
        env=environment,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def accepted(payload: bytes) -> bytes:
    return bytes(IngestEventsResponse(accepted=len(IngestEventsRequest.parse(payload).events)))


def stored(script: Script) -> Counter[str]:
    return Counter(
        event.request_id
        for payload in script.payloads
        for event in IngestEventsRequest.parse(payload).events
    )


INGESTER = """
spool = SpoolOptions(folder) if {spooled} else None
client = Client(address)
with UsageIngester(client, quick, spool=spool) as usage:
    held, forked = threading.Event(), threading.Event()
    def hold():  # a lock that another thread holds at the fork is never free in the child
        with usage._state:
            held.set()
            forked.wait()
    holder = threading.Thread(target=hold)
    usage.add(event("before"))
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        refused(
            lambda: usage.add(event("child")),
            lambda: usage.add_many([]),
            usage.flush,
            usage.close,
            lambda: usage.stats,
            lambda: UsageIngester(client),
        )
        sys.exit(0)  # through the block, and through what runs at exit
    forked.set()
    for number in range(300):
        usage.add(event(f"r-{{number}}"))
    ended(child)
    usage.add(event("after"))
    usage.flush(30)
    print(usage.close().accepted)
"""


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_an_ingester_of_the_parent_is_refused_in_the_child_and_goes_on_in_the_parent(
    spooled: bool, tmp_path: Path
) -> None:
    script = Script([accepted])
    with serving(script) as address:
        done = run(address, INGESTER.format(spooled=spooled), tmp_path)
    assert done.stdout == "302\n"
    assert stored(script) == dict.fromkeys(
        ["before", "after", *(f"r-{number}" for number in range(300))], 1
    )
    assert list(tmp_path.glob("*.seg")) == []
    assert done.stderr == ""


def test_a_child_that_lives_on_does_not_keep_the_spool_of_a_parent_that_died(
    tmp_path: Path,
) -> None:
    # The first one dies, its child lives: the spool is free for the next one.
    program = """
ours, theirs = os.pipe()
started = os.fork()
if started == 0:
    usage = UsageIngester(Client("127.0.0.1:1"), quick, spool=SpoolOptions(folder))
    usage.add(event("left"))
    child = os.fork()
    if child == 0:
        signal.pause()
    os.write(theirs, str(child).encode())
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(started, 0)
child = int(os.read(ours, 100))
try:
    os.kill(child, 0)
    with Client(address) as client, UsageIngester(client, quick, spool=SpoolOptions(folder)) as usage:
        usage.flush(30)
        print(usage.stats.accepted)
finally:
    os.kill(child, signal.SIGKILL)
"""
    script = Script([accepted])
    with serving(script) as address:
        assert run(address, program, tmp_path).stdout == "1\n"
    assert stored(script) == {"left": 1}


CLIENT = """
request = CreateChargeRequest()
client = Client(address)
unread = client.event.tail_events(TailEventsRequest())
tail = client.event.tail_events(TailEventsRequest())
next(tail)
assert client.charge.create_charge(request).charge.charge_id == "chg_1"
child = os.fork()
if child == 0:
    with client:
        refused(
            lambda: client.charge.create_charge(request),
            lambda: client.event.tail_events(TailEventsRequest()),
            lambda: client.metering.stream_events([]),
            lambda: next(tail),
            lambda: next(unread),
        )
    client.close()
    tail.close()
    sys.exit(0)
ended(child)
assert client.charge.create_charge(request).charge.charge_id == "chg_1"
assert [answer.cursor for answer in tail] == ["2", "3"]
client.close()
"""


def test_a_client_of_the_parent_is_refused_in_the_child_and_goes_on_in_the_parent(
    tmp_path: Path,
) -> None:
    def events() -> list[bytes]:
        return [bytes(TailEventsResponse(cursor=cursor)) for cursor in "123"]

    script = Script([events(), events(), CHARGED])
    with serving(script) as address:
        run(address, CLIENT, tmp_path)


NEW_IN_CHILD = """
with Client(address) as client:
    client.charge.create_charge(CreateChargeRequest())
    child = os.fork()
    if child == 0:
        def bill():
            with Client(address) as mine, UsageIngester(mine, quick) as usage:
                usage.add(event("child"))
                usage.flush(20)
        async def abill():
            async with AsyncClient(address) as mine, AsyncUsageIngester(mine, quick) as usage:
                await usage.add(event("child"))
        {use}
        sys.exit(0)
    ended(child)
    client.charge.create_charge(CreateChargeRequest())
"""


@pytest.mark.parametrize(
    ("supported", "use"),
    [(False, "refused(bill, lambda: asyncio.run(abill()))"), (True, "bill()")],
    ids=["refused", "supported"],
)
def test_a_new_client_in_the_child_works_where_grpc_supports_it_and_is_refused_where_it_hangs(
    supported: bool, use: str, tmp_path: Path
) -> None:
    def answer(payload: bytes) -> bytes:
        return accepted(payload) if b"child" in payload else CHARGED

    script = Script([answer])
    with serving(script) as address:
        run(address, NEW_IN_CHILD.format(use=use), tmp_path, supported=supported)
    assert sum(b"child" in payload for payload in script.payloads) == int(supported)


ASYNC = """
async def main():
    client = AsyncClient(address)
    async with AsyncUsageIngester(client, quick) as usage:
        await client.charge.create_charge(CreateChargeRequest())
        await usage.add(event("before"))
        child = os.fork()
        if child == 0:
            uses = (
                lambda: client.charge.create_charge(CreateChargeRequest()),
                lambda: usage.add(event("child")),
                lambda: usage.add_many([]),
                usage.flush,
                usage.close,
            )
            for use in uses:
                try:
                    await use()
                except UsedAfterFork:
                    continue
                raise AssertionError("not refused")
            refused(lambda: usage.stats, lambda: client.event.tail_events(TailEventsRequest()))
            await client.close()
            await usage.__aexit__()
            os._exit(0)  # the loop is the parent's as well
        await asyncio.to_thread(ended, child)
        await usage.add(event("after"))
        await usage.flush(30)
        print((await usage.close()).accepted)
    await client.charge.create_charge(CreateChargeRequest())
    await client.close()

asyncio.run(main())
"""


def test_what_is_for_asyncio_is_refused_in_the_child_too(tmp_path: Path) -> None:
    def answer(payload: bytes) -> bytes:
        return CHARGED if b"tokens" not in payload else accepted(payload)

    script = Script([answer])
    with serving(script) as address:
        assert run(address, ASYNC, tmp_path).stdout == "2\n"


def test_an_asynchronous_client_that_was_not_used_yet_belongs_to_whoever_uses_it_first(
    tmp_path: Path,
) -> None:
    program = """
client = AsyncClient(address)
child = os.fork()
async def bill():
    async with client:
        assert (await client.charge.create_charge(CreateChargeRequest())).charge.charge_id == "chg_1"
asyncio.run(bill())
if child:
    ended(child)
"""
    script = Script([CHARGED])
    with serving(script) as address:
        run(address, program, tmp_path)
    assert len(script.payloads) == 2
