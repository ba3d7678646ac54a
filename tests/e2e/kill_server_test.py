#!/usr/bin/env python3
"""kill -9 of the server, again and again, while events come in.

With GROUP_COMMIT an acknowledged event is on disk: after every kill each one is
there, once.
"""
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import grpc  # noqa: E402
import live  # noqa: E402

ROUNDS = int(os.environ.get("ADRANK_KILL_ROUNDS", "50"))
SENDERS = 4


def sender(server, number, rounds_done, acknowledged, attempted):
    """Reports new events until the server dies; notes what it acknowledged."""
    events = live.stub("events_pb2")
    service = live.stub("event_service_pb2")
    call = live.stub("event_service_pb2_grpc").EventServiceStub(server.channel)
    batch = 0
    try:
        while True:
            batch += 1
            keys = [(f"{rounds_done:012x}{number:04x}{batch:08x}", position)
                    for position in range(1, 8)]
            request = service.LogEventsRequest(events=[
                events.Event(decision_id=d, position=p,
                             type=events.EVENT_TYPE_IMPRESSION, time_ms=1700000000000)
                for d, p in keys])
            attempted.update(keys)
            results = call.LogEvents(request, timeout=10).results
            for key, result in zip(keys, results):
                # Their decisions are unknown: stored all the same.
                if result.code == events.EventResult.CODE_UNKNOWN_DECISION:
                    acknowledged.add(key)
                elif result.code != events.EventResult.CODE_UNAVAILABLE:
                    raise AssertionError(f"unexpected result {result}")
    except grpc.RpcError:
        pass  # the server is gone


def check(server, acknowledged, attempted):
    """Every acknowledged event is known; nothing is stored that was not sent."""
    events = live.stub("events_pb2")
    service = live.stub("event_service_pb2")
    call = live.stub("event_service_pb2_grpc").EventServiceStub(server.channel)
    stored = server.metric("adrank_event_log_events ")
    assert len(acknowledged) <= stored <= len(attempted), (
        f"{len(acknowledged)} acknowledged, {stored} stored, "
        f"{len(attempted)} attempted")
    keys = sorted(acknowledged)
    for begin in range(0, len(keys), 1000):
        part = keys[begin:begin + 1000]
        request = service.LogEventsRequest(events=[
            events.Event(decision_id=d, position=p,
                         type=events.EVENT_TYPE_IMPRESSION, time_ms=1700000000000)
            for d, p in part])
        for key, result in zip(part, call.LogEvents(request, timeout=30).results):
            assert result.code == events.EventResult.CODE_DUPLICATE, (
                f"acknowledged event {key} was lost: {result}")
    # Reporting them again stored nothing new.
    assert server.metric("adrank_event_log_events ") == stored


def main():
    rng = random.Random(20260105)
    with live.Scratch() as scratch:
        server = live.LiveServer(scratch.path)
        acknowledged, attempted = set(), set()
        start = time.time()
        for number in range(ROUNDS):
            server.start()
            threads = [threading.Thread(target=sender,
                                        args=(server, i, number + 1, acknowledged,
                                              attempted))
                       for i in range(SENDERS)]
            for thread in threads:
                thread.start()
            time.sleep(rng.uniform(0.01, 0.25))
            server.kill()
            for thread in threads:
                thread.join()
        with server:
            check(server, acknowledged, attempted)
        print(f"{ROUNDS} kills in {time.time() - start:.0f} s: "
              f"{len(acknowledged)} acknowledged events, each there once "
              f"({len(attempted)} attempted)")
        assert len(acknowledged) > 10 * ROUNDS, "too few events to mean anything"


if __name__ == "__main__":
    main()
