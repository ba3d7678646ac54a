#!/usr/bin/env python3
"""The whole loop, seen by a client that shares no code with the server.

Simulates a market, trains, serves; a Python client ranks, reports what users did
and reads the metrics; a second night learns from what the server logged, is
killed at random moments, then publishes, and the server swaps without a failed
request.
"""
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
from grpc_health_probe import check_health, list_services  # noqa: E402

MARKET = """seed: 11 users: 800 words: 100 decisions_per_day: 4000 base_ctr: 0.2
"""


def trainer_config(scratch, extra=""):
    base = (live.ROOT / "deploy/examples/simulated_market.trainer.textproto")
    lines = [line for line in base.read_text().splitlines()
             if not line.startswith(("data_dir:", "model_dir:"))]
    path = scratch.path / "trainer.textproto"
    path.write_text("\n".join([
        f'data_dir: "{scratch.path}/data"', f'model_dir: "{scratch.path}/models"',
        *lines,
        # The simulated days alone: clicks of a die, as below, are no evidence for
        # or against a model.
        'data { train_end: "2026-01-06" calibration_end: "2026-01-07" '
        'evaluation_end: "2026-01-08" }',
        # A tiny market: keep only the bounds that matter here.
        "gate { min_examples: 100 min_clicks: 10 max_ne_increase: 0.5 "
        "min_calibration: 0.5 max_calibration: 2 max_ne: 2 }", extra]) + "\n")
    return path


def rank_some(server, scratch, count):
    """Ranks, sees and clicks as a frontend does; returns impressions, clicks."""
    ranking = live.stub("ranking_service_pb2")
    common = live.stub("common_pb2")
    events = live.stub("events_pb2")
    event_service = live.stub("event_service_pb2")
    rank = live.stub("ranking_service_pb2_grpc").RankingServiceStub(server.channel)
    log = live.stub("event_service_pb2_grpc").EventServiceStub(server.channel)
    rng = random.Random(5)
    impressions = clicks = 0
    for i in range(count):
        request = ranking.RankRequest(
            request_id=f"r{i}",
            context=common.Context(user_id=f"u{rng.randrange(100)}", attributes=[
                common.Attribute(name="device", text=["mobile"]),
                common.Attribute(name="country", text=["DE"])]),
            placements=[ranking.Placement(id="top", count=2)])
        answer = rank.Rank(request, timeout=10)
        assert answer.request_id == f"r{i}" and len(answer.decision_id) == 24
        ads = answer.placements[0].ads
        if not ads:
            assert answer.placements[0].no_ad_reason != 0, answer
            continue
        for ad in ads:
            assert 0 < ad.pctr < 1 and 0 < ad.price_micros <= ad.bid_micros, ad
        assert ads[0].score >= ads[-1].score
        batch = [events.Event(decision_id=answer.decision_id, position=ad.position,
                              type=events.EVENT_TYPE_IMPRESSION) for ad in ads]
        if rng.random() < 0.3:
            batch.append(events.Event(decision_id=answer.decision_id, position=1,
                                      type=events.EVENT_TYPE_CLICK))
            clicks += 1
        impressions += len(ads)
        results = log.LogEvents(event_service.LogEventsRequest(events=batch),
                                timeout=10).results
        assert all(r.code == events.EventResult.CODE_ACCEPTED for r in results), results
        again = log.LogEvents(event_service.LogEventsRequest(events=batch[:1]),
                              timeout=10).results
        assert again[0].code == events.EventResult.CODE_DUPLICATE, again
    return impressions, clicks


def kill_trainers(scratch, config, rounds):
    """kill -9 of the trainer at random moments of its run."""
    rng = random.Random(9)
    start = time.time()
    full = subprocess.run([str(live.BIN / "adrank-trainer"), "--config", str(config),
                           "--check_config"], stdout=subprocess.DEVNULL)
    assert full.returncode == 0
    length = max(0.3, scratch.training_seconds)
    for _ in range(rounds):
        trainer = subprocess.Popen(
            [str(live.BIN / "adrank-trainer"), "--config", str(config)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, length))
        trainer.kill()
        trainer.wait()
    print(f"{rounds} trainers killed in {time.time() - start:.1f} s")


def main():
    with live.Scratch() as scratch:
        market = scratch.path / "market.textproto"
        market.write_text(MARKET)
        live.run("adrank-simulate", "generate", "--config", market, "--days", 3,
                 "--data", scratch.path / "data")
        config = trainer_config(scratch)
        start = time.time()
        live.run("adrank-trainer", "--config", config)
        scratch.training_seconds = time.time() - start

        with live.LiveServer(scratch.path) as server:
            assert check_health(server.channel) == "SERVING"
            services = list_services(server.channel)
            assert "adrank.v1.RankingService" in services, services
            assert "adrank.v1.ModelService" not in services, services
            impressions, clicks = rank_some(server, scratch, 300)
            assert impressions > 100 and clicks > 10, (impressions, clicks)
            assert server.metric("adrank_model_version ") == 1
            accepted = 'adrank_events_total{result="accepted",type='
            assert server.metric(accepted + '"impression"') == impressions
            assert server.metric(accepted + '"click"') == clicks
            assert server.metric(
                'grpc_server_handled_total{grpc_code="OK",grpc_method="Rank"') == 300
            status = json.loads(server.get("/status"))
            assert status["model"]["serving_version"] == 1, status

            # Bad input names the field.
            ranking = live.stub("ranking_service_pb2")
            rank = live.stub("ranking_service_pb2_grpc").RankingServiceStub(
                server.channel)
            try:
                rank.Rank(ranking.RankRequest(placements=[
                    ranking.Placement(id="a"), ranking.Placement(id="a")]))
                raise AssertionError("a duplicate placement was accepted")
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
                assert "placements[1]" in error.details(), error.details()

            # The server answers while trainers die and the model is swapped.
            failures, answers, done = [], [0], threading.Event()

            def keep_asking():
                while not done.is_set():
                    try:
                        rank.Rank(ranking.RankRequest(), timeout=10)
                        answers[0] += 1
                    except grpc.RpcError as error:
                        failures.append(error)

            asker = threading.Thread(target=keep_asking)
            asker.start()
            try:
                kill_trainers(scratch, config, 20)
                before = server.metric("adrank_model_version ")
                live.run("adrank-trainer", "--config", config)
                for _ in range(200):
                    if server.metric("adrank_model_version ") > before:
                        break
                    time.sleep(0.05)
                assert server.metric("adrank_model_version ") > before
            finally:
                done.set()
                asker.join()
            assert not failures, failures[0]
            assert answers[0] > 100, answers
            assert server.metric('adrank_model_load_total{result="refused"}') == 0

        # What adrankctl prints for scripts is JSON.
        with live.LiveServer(scratch.path) as server:
            models = json.loads(live.run(
                "adrankctl", "--admin", server.admin, "--json", "models", "list"))
            assert len(models["versions"]) >= 2, models
            assert int(models["versions"][0]["version"]) >= 2, models
            ranked = json.loads(live.run("adrankctl", "--server", server.grpc,
                                         "--json", "rank", "--placement", "top:2"))
            assert ranked["decision_id"], ranked
            live.run("adrankctl", "--admin", server.admin, "models", "rollback",
                     expect=1)  # nothing was served before, since the start
        print(f"foreign client: {impressions} impressions, {clicks} clicks, "
              f"{answers[0]} requests answered over the swap")


if __name__ == "__main__":
    main()
