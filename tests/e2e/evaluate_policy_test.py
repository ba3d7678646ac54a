"""adrankctl evaluate-policy over a live server's log, against planted click
rates: what it says of other policies is what they bring."""
import json
import random
import sys
import time

import live

ADS = 8
DECISIONS = 4000
# The best by click is not the best by bid.
RATES = [0.05 + 0.4 * ((5 * i) % ADS) / ADS for i in range(ADS)]
BIDS = [100000 + 10000 * i for i in range(ADS)]
EXPLORE = 'rank { exploration { policy: EPSILON_GREEDY epsilon: 0.6 } }\n'


def catalogue(path):
    lines = []
    for i in range(ADS):
        lines.append(f'''
advertisers {{ id: "v{i}" }}
campaigns {{ id: "c{i}" advertiser_id: "v{i}" }}
ad_groups {{ id: "g{i}" campaign_id: "c{i}" bid_micros: {BIDS[i]} }}
ads {{ id: "ad{i}" ad_group_id: "g{i}" landing_url: "https://e.com/{i}" }}''')
    path.write_text("".join(lines))


def drive(server, rng):
    """Two slots a page, clicks by the planted rates; clicks a decision."""
    ranking = live.stub("ranking_service_pb2")
    events = live.stub("events_pb2")
    stub = live.stub("ranking_service_pb2_grpc").RankingServiceStub(
        server.channel)
    reports = live.stub("event_service_pb2_grpc").EventServiceStub(
        server.channel)
    clicks = 0
    for _ in range(DECISIONS):
        answer = stub.Rank(ranking.RankRequest(
            placements=[ranking.Placement(id="p", count=2)]))
        report = live.stub("event_service_pb2").LogEventsRequest()
        for ad in answer.placements[0].ads:
            kinds = [events.EVENT_TYPE_IMPRESSION]
            if rng.random() < RATES[int(ad.ad_id[2:])]:
                kinds.append(events.EVENT_TYPE_CLICK)
                clicks += 1
            for kind in kinds:
                report.events.add(decision_id=answer.decision_id,
                                  position=ad.position, type=kind)
        reports.LogEvents(report)
    return clicks / DECISIONS


def evaluate(server, *args, expect=0):
    out = live.run("adrankctl", "--admin", server.admin,
                   "--json", "evaluate-policy", *args, expect=expect)
    return json.loads(out)


def check(report, outcome, truth, what):
    found = next(o for o in report["outcomes"] if o["outcome"] == outcome)
    for e in found["estimates"]:
        if e["estimator"] not in ("ips", "snips", "dr", "sndr"):
            continue
        # 95 % intervals, eight of them: half as wide again.
        middle, half = (e["low"] + e["high"]) / 2, (e["high"] - e["low"]) / 2
        assert abs(middle - truth) <= 1.5 * half, (what, outcome, truth, e)
    print(f"{what}: {outcome} {truth:.4f}, snips "
          f"{found['estimates'][1]['value']:.4f}")


def report_width(report):
    """Of the interval of IPS for clicks."""
    ips = report["outcomes"][0]["estimates"][0]
    return ips["high"] - ips["low"]


def main():
    rng = random.Random(4)
    with live.Scratch() as scratch:
        server = live.LiveServer(scratch.path)
        server.config.write_text(server.config.read_text() + EXPLORE)
        server.start()
        try:
            path = scratch.path / "catalog.textproto"
            catalogue(path)
            live.run("adrankctl", "--admin", server.admin,
                     "--server", server.grpc, "catalog",
                     "apply", "--file", path)
            while server.metric("adrank_catalog_servable") < ADS:
                time.sleep(0.02)
            logged = drive(server, rng)
            # Without a model scores are bids: greedy shows the two highest.
            greedy = RATES[ADS - 1] + RATES[ADS - 2]
            report = evaluate(server, "--exploration", "policy: GREEDY")
            assert report["decisions"] == str(DECISIONS), report["decisions"]
            check(report, "clicks", greedy, "greedy")
            price = RATES[ADS - 1] * BIDS[ADS - 2] + RATES[ADS - 2] * BIDS[
                ADS - 3]
            check(report, "revenue_micros", price, "greedy")
            uniform = 2 * sum(RATES) / ADS
            report = evaluate(server, "--exploration",
                              "policy: EPSILON_GREEDY epsilon: 1")
            check(report, "clicks", uniform, "uniform")
            cascade = report
            # What ran has its own value, and every weight is 1.
            report = evaluate(server)
            assert abs(report["weights"]["effective_sample_size"] -
                       DECISIONS) < 1, report["weights"]
            ips = report["outcomes"][0]["estimates"][0]
            assert abs(ips["value"] - logged) < 1e-3, (ips, logged)
            refused = evaluate(server, "--exploration", "policy: GREEDY",
                               "--min-ess", "1e9", expect=3)
            assert "effective sample size" in refused["refusal"], refused
            # A slot's clicks do depend on its own ad alone here; that the log
            # shows another ad above it changes the second slot's by little.
            alone = evaluate(server, "--exploration",
                             "policy: EPSILON_GREEDY epsilon: 1",
                             "--interaction", "independent")
            check(alone, "clicks", uniform, "independent")
            widths = [report_width(r) for r in (cascade, alone)]
            assert widths[1] < widths[0], widths
            for wrong in (["--alpha", "7"], ["--hours", "nan"],
                          ["--from", "2026-01-02", "--to", "2026-01-01"]):
                live.run("adrankctl", "--admin", server.admin,
                         "evaluate-policy", *wrong, expect=2)
            live.run("adrankctl", "--admin", server.admin,
                     "evaluate-policy", "--model", "99", expect=1)
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
