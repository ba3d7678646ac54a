#!/usr/bin/env python3
"""kill -9 of the server, again and again, while users are served and report.

C1 over restarts: whatever the server answered counts, so that no user was shown
more of an ad, ad group or campaign than its caps allow, in any window.
"""
import bisect
import collections
import json
import os
import random
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import grpc  # noqa: E402
import live  # noqa: E402

ROUNDS = int(os.environ.get("ADRANK_KILL_CAPS_ROUNDS", "5"))
SENDERS = 4
# A kill falls this long after the server began to answer, in seconds.
KILL_AFTER = (0.05, float(os.environ.get("ADRANK_KILL_CAPS_SECONDS", "1.5")))
USERS = 40
# Then others come: these have seen all that their caps allow.
ROUNDS_OF_USERS = 5
MINUTE = 60_000
# (entity field, caps): impressions and window in milliseconds.
CAPS = {"campaign_id": [(12, MINUTE), (30, 60 * MINUTE)],
        "ad_group_id": [(7, 2 * MINUTE), (16, 24 * 60 * MINUTE)],
        "ad_id": [(3, MINUTE), (9, 7 * 24 * 60 * MINUTE)]}
PROTO_CAPS = {
    "campaign_id": [{"impressions": 12, "unit": "MINUTE"},
                    {"impressions": 30, "unit": "HOUR"}],
    "ad_group_id": [{"impressions": 7, "unit": "MINUTE", "length": 2},
                    {"impressions": 16, "unit": "DAY"}],
    "ad_id": [{"impressions": 3, "unit": "MINUTE"},
              {"impressions": 9, "unit": "WEEK"}]}


def a_catalog():
    """Two campaigns, two ad groups each, four ads each; every level capped."""
    return {
        "advertisers": [{"id": "v"}],
        "campaigns": [{"id": f"c{i}", "advertiser_id": "v",
                       "frequency_caps": PROTO_CAPS["campaign_id"]}
                      for i in range(2)],
        "ad_groups": [{"id": f"g{i}", "campaign_id": f"c{i // 2}",
                       "bid_micros": 1_000_000 + i,
                       "frequency_caps": PROTO_CAPS["ad_group_id"]}
                      for i in range(4)],
        "ads": [{"id": f"a{i}", "ad_group_id": f"g{i // 4}",
                 "frequency_caps": PROTO_CAPS["ad_id"]} for i in range(16)]}


def apply(server, directory):
    path = directory / "catalog.json"
    path.write_text(json.dumps(a_catalog()))
    subprocess.run([str(live.BIN / "adrankctl"), "--admin", server.admin, "catalog",
                    "apply", "--file", str(path)], check=True,
                   stdout=subprocess.DEVNULL)
    for _ in range(500):
        if server.metric("adrank_catalog_servable_ads ") == 16:
            return
        time.sleep(0.01)
    raise AssertionError("the catalogue never became live")


def sender(server, seed, users, answers, reports):
    """Asks for pages and reports what was shown, some of it again or never,
    until the server dies."""
    rng = random.Random(seed)
    ranking = live.stub("ranking_service_pb2")
    events = live.stub("events_pb2")
    service = live.stub("event_service_pb2")
    rank = live.stub("ranking_service_pb2_grpc").RankingServiceStub(server.channel)
    log = live.stub("event_service_pb2_grpc").EventServiceStub(server.channel)
    seen = []
    try:
        while True:
            request = ranking.RankRequest(placements=[
                ranking.Placement(id="top", count=rng.randint(1, 2)),
                ranking.Placement(id="side", count=1)])
            request.context.user_id = f"{users}u{rng.randrange(USERS)}"
            answer = rank.Rank(request, timeout=10)
            # It was told us: it counts, whatever happens next.
            answers.append((request.context.user_id, answer))
            if rng.random() < 0.7:
                for placement in answer.placements:
                    seen += [(answer.decision_id, ad.position)
                             for ad in placement.ads]
            if rng.random() < 0.3 and seen:
                some = [rng.choice(seen) for _ in range(5)]
                log.LogEvents(service.LogEventsRequest(events=[
                    events.Event(decision_id=d, position=p,
                                 type=events.EVENT_TYPE_IMPRESSION)
                    for d, p in some]), timeout=10)
                reports.extend(some)
    except (grpc.RpcError, ValueError):
        pass  # the server is gone, and the channel with it


def check(answers):
    """Every window of every user and entity; returns windows that were full."""
    times = collections.defaultdict(list)
    for user, answer in answers:
        ms = int(answer.decision_id[:12], 16)
        for placement in answer.placements:
            for ad in placement.ads:
                for level in CAPS:
                    times[user, level, getattr(ad, level)].append(ms)
    full = 0
    for (user, level, entity), at in times.items():
        at.sort()
        for impressions, window in CAPS[level]:
            for end, ms in enumerate(at):
                count = end + 1 - bisect.bisect_right(at, ms - window)
                assert count <= impressions, (
                    f"user {user} was shown {level} {entity} {count} times within "
                    f"{window} ms; the cap is {impressions}")
                full += count == impressions
    return full


def main():
    rng = random.Random(20260106)
    with live.Scratch() as scratch:
        server = live.LiveServer(scratch.path)
        answers, reports = [], []
        with server:
            apply(server, scratch.path)
        start = time.time()
        for number in range(ROUNDS):
            server.start()
            threads = [threading.Thread(target=sender,
                                        args=(server, 1000 * number + i,
                                              number // ROUNDS_OF_USERS, answers,
                                              reports))
                       for i in range(SENDERS)]
            for thread in threads:
                thread.start()
            time.sleep(rng.uniform(*KILL_AFTER))
            server.kill()
            for thread in threads:
                thread.join()
        full = check(answers)
        with server:
            table = subprocess.run(
                [str(live.BIN / "adrankctl"), "--admin", server.admin, "caps", "0u1"],
                check=True, text=True, stdout=subprocess.PIPE).stdout
            assert "campaign" in table and "30 an hour" in table, table
        ads = sum(len(p.ads) for _, a in answers for p in a.placements)
        print(f"{ROUNDS} kills in {time.time() - start:.0f} s: {len(answers)} answers, "
              f"{ads} ads, {len(reports)} reports, no cap exceeded "
              f"({full} windows at their cap)")
        assert full > 100, "no cap was ever reached"


if __name__ == "__main__":
    main()
