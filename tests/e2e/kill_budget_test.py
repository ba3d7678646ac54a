#!/usr/bin/env python3
"""kill -9 of the server, again and again, while ads are ranked and clicked.

After every restart the ledger is balanced and no campaign has spent more than
its budget. In the end, what a campaign has spent and what went unbilled for want
of budget are the prices of exactly those of its clicks (impressions, with CPM)
that the event log holds.
"""
import collections
import json
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import grpc  # noqa: E402
import live  # noqa: E402

ROUNDS = int(os.environ.get("ADRANK_KILL_ROUNDS", "8"))
CLIENTS = 3
# Half as long as a click may take: some find no reservation.
RESERVATION_SECONDS = 1
MILLION = 1_000_000

# Budgets that run out early, late and never; unpaced, so that they do.
CAMPAIGNS = {
    "small": None,  # see write_catalog
    "large": f"delivery: ACCELERATED total_micros: {400 * MILLION * (1 + ROUNDS // 8)}",
    "both": "delivery: ACCELERATED daily_micros: 900000000 total_micros: 300000000",
    "free": "",
}


SMALL = 60 * MILLION


def write_catalog(path, small=SMALL):
    bid_types = {"small": "BID_TYPE_CPC", "large": "BID_TYPE_CPC",
                 "both": "BID_TYPE_CPA", "free": "BID_TYPE_CPM"}
    lines = []
    for number, (name, budget) in enumerate(CAMPAIGNS.items()):
        if name == "small":
            budget = f"delivery: ACCELERATED daily_micros: {small}"
        kind = bid_types[name]
        # The smaller the budget, the more is bid.
        bid = (6 - number) * 100_000 * (1000 if kind == "BID_TYPE_CPM" else 1)
        rate = "conversion_rate: 0.9" if kind == "BID_TYPE_CPA" else ""
        lines.append(f"""
advertisers {{ id: "v-{name}" }}
campaigns {{
  id: "{name}" advertiser_id: "v-{name}" budget {{ {budget} }}
  time_zone: "Asia/Kathmandu"
}}
ad_groups {{
  id: "g-{name}" campaign_id: "{name}" bid_micros: {bid} bid_type: {kind} {rate}
}}
ads {{ id: "a1-{name}" ad_group_id: "g-{name}" }}
ads {{ id: "a2-{name}" ad_group_id: "g-{name}" }}
""")
    path.write_text("".join(lines))


class Client:
    """Ranks, and reports events of what it was given, until the server dies."""

    def __init__(self, server, seed, attempted):
        self.rng = random.Random(seed)
        self.attempted = attempted
        ranking = live.stub("ranking_service_pb2_grpc")
        service = live.stub("event_service_pb2_grpc")
        self.rank = ranking.RankingServiceStub(server.channel)
        self.events = service.EventServiceStub(server.channel)
        self.later = collections.deque()
        self.ranked = 0
        self.failure = None

    def run(self, seconds=float("inf")):
        end = time.time() + seconds
        try:
            while time.time() < end:
                self.step()
        except (grpc.RpcError, ValueError):  # the latter of a closed channel
            if seconds != float("inf"):
                self.failure = "the server is gone"
        except AssertionError as error:
            self.failure = error

    def step(self):
        messages = live.stub("ranking_service_pb2")
        common = live.stub("common_pb2")
        types = live.stub("events_pb2")
        request = messages.RankRequest(placements=[
            messages.Placement(id="top", count=self.rng.randint(1, 8))])
        answer = self.rank.Rank(request, timeout=10)
        self.ranked += 1
        now = time.time()
        for placement in answer.placements:
            for ad in placement.ads:
                impression = ad.bid_type == common.BID_TYPE_CPM
                for kind in (types.EVENT_TYPE_IMPRESSION, types.EVENT_TYPE_CLICK):
                    if self.rng.random() > 0.5:
                        continue
                    billable = impression == (kind == types.EVENT_TYPE_IMPRESSION)
                    event = types.Event(decision_id=answer.decision_id,
                                        position=ad.position, type=kind)
                    delay = self.rng.choice((0, 0, 0, 2 * RESERVATION_SECONDS))
                    charge = (ad.campaign_id, ad.price_micros) if billable else None
                    self.later.append((now + delay * self.rng.random(), event, charge))
        due = [item for item in self.later if item[0] <= now]
        self.later = collections.deque(i for i in self.later if i[0] > now)
        if not due:
            return
        for _, event, charge in due:
            if charge is not None:
                key = (event.decision_id, event.position, event.type)
                self.attempted[key] = charge
        self.report([event for _, event, _ in due])

    def report(self, events):
        service = live.stub("event_service_pb2")
        results = self.events.LogEvents(service.LogEventsRequest(events=events),
                                        timeout=30).results
        codes = live.stub("events_pb2").EventResult
        for result in results:
            if result.code not in (codes.CODE_ACCEPTED, codes.CODE_DUPLICATE):
                raise AssertionError(f"unexpected result {result}")


def budgets(server):
    messages = live.stub("budget_service_pb2")
    service = live.stub("budget_service_pb2_grpc")
    call = service.BudgetServiceStub(server.channel)
    return call, call.ListBudgets(messages.ListBudgetsRequest(), timeout=30).campaigns


def check(server):
    """The books are balanced, and nobody paid more than agreed."""
    call, campaigns = budgets(server)
    audit = call.Audit(live.stub("budget_service_pb2").AuditRequest(), timeout=60)
    assert audit.balanced, audit
    assert audit.debits_micros == audit.credits_micros
    for c in campaigns:
        if c.daily_micros:
            assert c.spent_today_micros <= c.daily_micros, c
        if c.total_micros:
            assert c.spent_total_micros <= c.total_micros, c
    return audit


def logged_events(server, attempted):
    """Of the billable events, those that the log holds with their decision."""
    types = live.stub("events_pb2")
    service = live.stub("event_service_pb2")
    stub = live.stub("event_service_pb2_grpc").EventServiceStub(server.channel)
    keys = sorted(attempted)
    logged = []
    for begin in range(0, len(keys), 500):
        part = keys[begin:begin + 500]
        request = service.LogEventsRequest(events=[
            types.Event(decision_id=d, position=p, type=t) for d, p, t in part])
        codes = types.EventResult
        for key, result in zip(part, stub.LogEvents(request, timeout=60).results):
            if result.code in (codes.CODE_ACCEPTED, codes.CODE_DUPLICATE):
                logged.append(key)
            else:
                # The decision was answered, but not yet on disk.
                assert result.code == codes.CODE_UNKNOWN_DECISION, result
    return logged


def check_charges(server, attempted):
    logged = logged_events(server, attempted)
    time.sleep(0.5)  # late ones are charged in the background
    check(server)
    expected = collections.Counter()
    for key in logged:
        campaign, price = attempted[key]
        expected[campaign] += price
    _, campaigns = budgets(server)
    for c in campaigns:
        charged = c.spent_total_micros + c.unbilled_micros
        assert charged == expected[c.campaign_id], (
            f"{c.campaign_id}: {charged} charged or unbilled, "
            f"{expected[c.campaign_id]} logged\n{c}")
    return logged, {c.campaign_id: c for c in campaigns}


def run_clients(server, number, attempted, during, seconds=float("inf")):
    clients = [Client(server, 1000 * number + i, attempted) for i in range(CLIENTS)]
    threads = [threading.Thread(target=c.run, args=(seconds,)) for c in clients]
    for thread in threads:
        thread.start()
    during()
    for thread in threads:
        thread.join()
    for client in clients:
        assert client.failure is None, client.failure
    return sum(c.ranked for c in clients)


def wait_for_catalog(server):
    live.run("adrankctl", "--admin", server.admin, "catalog", "apply", "--file",
             server.directory / "catalog.textproto")
    for _ in range(500):
        if server.metric("adrank_catalog_ads") == 2 * len(CAMPAIGNS):
            return
        time.sleep(0.01)
    raise AssertionError("the catalogue never became live")


def main():
    rng = random.Random(20260311)
    with live.Scratch() as scratch:
        server = live.LiveServer(scratch.path)
        server.config.write_text(
            server.config.read_text()
            + f"budget {{ reservation_seconds: {RESERVATION_SECONDS} }}\n")
        write_catalog(scratch.path / "catalog.textproto")
        attempted = {}
        ranked = 0
        start = time.time()
        with server:
            wait_for_catalog(server)
        for number in range(ROUNDS):
            server.start()
            check(server)

            def kill():
                time.sleep(rng.uniform(0.05, 1.0))
                server.kill()
            ranked += run_clients(server, number, attempted, kill)
        # A raised budget is spent too; clicks come after their reservation.
        write_catalog(scratch.path / "catalog.textproto", small=2 * SMALL)
        with server:
            check(server)
            ranked += run_clients(server, ROUNDS, attempted,
                                  lambda: wait_for_catalog(server), seconds=4)
            check(server)
            assert server.metric("adrank_budget_late_events_total") > 0
            logged, campaigns = check_charges(server, attempted)
            shown = json.loads(live.run("adrankctl", "--server", server.grpc,
                                        "--json", "budgets", "small"))
            assert int(shown.get("spent_total_micros", 0)) == (
                campaigns["small"].spent_total_micros)
            assert "balanced" in live.run("adrankctl", "--server", server.grpc,
                                          "budgets", "--audit")
            assert "small" in live.run("adrankctl", "--server", server.grpc,
                                       "budgets")
        # The same after a restart: nothing is charged twice. (Events without a
        # decision are known by now, but as little charged as before.)
        with server:
            check_charges(server, {key: attempted[key] for key in logged})
        print(f"{ROUNDS} kills in {time.time() - start:.0f} s: {ranked} requests, "
              f"{len(logged)} of {len(attempted)} billable events in the log; "
              + "; ".join(f"{name} spent {c.spent_total_micros}, unbilled "
                          f"{c.unbilled_events}" for name, c in campaigns.items()))
        assert len(logged) > 10 * ROUNDS, "too few events to mean anything"
        assert campaigns["small"].spent_total_micros > SMALL, "it did not resume"


if __name__ == "__main__":
    main()
