#!/usr/bin/env python3
"""What people and programs that operate a server rely on: a catalogue file of
any size is applied whole or not at all, JSON is one document, probes are
answered beside idle connections, a model directory that was wiped and trained
anew is served, text that is not UTF-8 is named, a disk that failed is forgiven."""
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import live  # noqa: E402
import grpc  # noqa: E402


def ctl(server, *arguments, expect=0):
    """(standard output, standard error) of adrankctl."""
    done = subprocess.run(
        [str(live.BIN / "adrankctl"), "--server", server.grpc, "--admin",
         server.admin, *map(str, arguments)],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == expect, (arguments, done.returncode, done.stderr[-500:])
    return done.stdout, done.stderr


def a_catalog(ads):
    """As JSON: more entities than go into 4 MiB, and large ones."""
    return {
        "advertisers": [{"id": "v"}],
        "campaigns": [{"id": f"c{i}", "advertiser_id": "v"} for i in range(3000)],
        "ad_groups": [{"id": f"g{i}", "campaign_id": f"c{i}", "bid_micros": 1000}
                      for i in range(3000)],
        "ads": [{"id": f"a{i}", "ad_group_id": f"g{i % 3000}",
                 "landing_url": "https://example.com/" + "x" * 1000}
                for i in range(ads)]}


def check_catalog_file(server, directory):
    path = directory / "catalog.json"
    catalog = a_catalog(ads=6000)
    path.write_text(json.dumps(catalog))
    out, _ = ctl(server, "catalog", "apply", "--file", path, "--validate-only")
    assert "12001 operations, 0 applied, 0 failed" in out, out
    # The last ad is wrong: nothing of the file may stay.
    wrong = dict(catalog, ads=catalog["ads"] + [{"id": "bad", "ad_group_id": "none"}])
    path.write_text(json.dumps(wrong))
    _, err = ctl(server, "catalog", "apply", "--file", path, expect=2)
    assert 'ad "bad": ad_group "none" does not exist' in err, err[-500:]
    out, _ = ctl(server, "catalog", "list", "--json")
    assert json.loads(out) == {}, out[:200]
    path.write_text('advertisers { id: "z" name: "one" } advertisers { id: "z" }')
    _, err = ctl(server, "catalog", "apply", "--file", path, expect=2)
    assert f'{path}:1: advertiser "z" is in the files twice, first at {path}:1' in err, err
    path.write_text(
        'advertisers { id: "v" } campaigns { id: "c" advertiser_id: "v" }'
        'ad_groups { id: "g" campaign_id: "c" bid_micros: 9223372036854775807 }')
    _, err = ctl(server, "catalog", "apply", "--file", path, expect=2)
    assert 'ad_group "g": bid_micros' in err, err
    _, err = ctl(server, "catalog", "apply", "--file", directory / "none", expect=2)
    assert "none" in err, err
    path.write_text(json.dumps(catalog))
    out, _ = ctl(server, "catalog", "apply", "--file", path)
    assert "12001 operations, 12001 applied, 0 failed; catalog version 1" in out, out


def check_json(server):
    listed = json.loads(ctl(server, "catalog", "list", "--type", "ad", "--json")[0])
    ids = [e["ad"]["id"] for e in listed["entities"]]
    assert len(ids) == 6000 == len(set(ids)), len(ids)
    assert json.loads(ctl(server, "catalog", "get", "ad", "a7", "--json")[0])["ad"]["id"] == "a7"
    removed = json.loads(ctl(server, "catalog", "remove", "ad", "a7", "--json")[0])
    assert removed["applied"] == 1, removed
    for words in ["status", "models list", "models status", "rank", "explain",
                  "predict --candidate a8", "catalog history ad a7"]:
        json.loads(ctl(server, *words.split(), "--json")[0])


def check_pages_fit_any_client(server):
    """gRPC's clients take 4 MiB unless told otherwise."""
    catalog = live.stub("catalog_service_pb2")
    stub = live.stub("catalog_service_pb2_grpc").CatalogServiceStub(server.channel)
    seen, token = [], ""
    while True:
        page = stub.List(catalog.ListCatalogRequest(
            type=live.stub("catalog_pb2").ENTITY_TYPE_AD, page_size=10000,
            page_token=token), timeout=20)
        seen += [e.ad.id for e in page.entities]
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == 5999 == len(set(seen)), len(seen)


def check_probes(server):
    host, port = server.http.split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(3)]
    for s in idle[:2]:
        s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        s.recv(4096)
    start = time.monotonic()
    assert server.get("/healthz") == "ok\n"
    took = time.monotonic() - start
    for s in idle:
        s.close()
    assert took < 0.9, f"/healthz took {took:.1f} s behind idle connections"


def check_bad_text(server):
    ranking = live.stub("ranking_service_pb2")
    events = live.stub("events_pb2")
    request = ranking.RankRequest()
    request.context.query = "QQQQ"
    request.context.attributes.add(name="a", text=["good", "TTTT"])

    def refusal(method, message, good):
        call = server.channel.unary_unary(method)
        try:
            call(message.SerializeToString().replace(good, b"\xff\xfe\xfd\xfc"),
                 timeout=10)
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError(f"{method} took bytes that are not UTF-8")

    rank = "/adrank.v1.RankingService/Rank"
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    got = refusal(rank, request, b"QQQQ")
    assert got == (invalid, "context.query: not valid UTF-8"), got
    got = refusal(rank, request, b"TTTT")
    assert got == (invalid, "context.attributes[0].text[1]: not valid UTF-8"), got
    log = live.stub("event_service_pb2").LogEventsRequest()
    log.events.add(decision_id="0" * 24, position=1, type=events.EVENT_TYPE_CLICK)
    log.events.add(decision_id="DDDD")
    got = refusal("/adrank.v1.EventService/LogEvents", log, b"DDDD")
    assert got == (invalid, "events[1].decision_id: not valid UTF-8"), got
    stream = server.channel.stream_stream(
        "/adrank.v1.EventService/StreamEvents",
        response_deserializer=events.EventResult.FromString)
    good, bad = (e.SerializeToString() for e in log.events)
    results = list(stream(iter([bad.replace(b"DDDD", b"\xff\xfe\xfd\xfc"), good]),
                          timeout=10))
    assert [r.code for r in results] == [events.EventResult.CODE_INVALID,
                                         events.EventResult.CODE_UNKNOWN_DECISION], results
    assert results[0].message == "decision_id: not valid UTF-8", results[0]
    assert server.metric('grpc_server_handled_total{grpc_code="InvalidArgument",'
                         'grpc_method="Rank"') == 2


def check_failing_disk(directory):
    """A catalogue whose disk refused a write takes changes again without a
    restart; ads are ranked all the time; nothing acknowledged is lost."""
    catalog = live.stub("catalog_service_pb2")
    rpc = live.stub("catalog_service_pb2_grpc")
    ranking = live.stub("ranking_service_pb2")
    with live.LiveServer(directory) as server:
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE,
                         (1 << 20, limits[1]))
        stub = rpc.CatalogServiceStub(server.admin_channel)
        rank = live.stub("ranking_service_pb2_grpc").RankingServiceStub(server.channel)

        def change(i):
            request = catalog.MutateRequest()
            for k in range(100):
                advertiser = request.operations.add().upsert.advertiser
                advertiser.id, advertiser.name = f"v{i}_{k}", "x" * 900
            try:
                return stub.Mutate(request, timeout=20).catalog_version
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAVAILABLE, error
                return None
        versions = [change(i) for i in range(30)]
        assert None in versions, "the disk never failed"
        rank.Rank(ranking.RankRequest(), timeout=5)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
        after = change(100)
        assert after is not None, "no change was taken after the disk was well"
        rank.Rank(ranking.RankRequest(), timeout=5)
        server.stop()
        server.start()
        listed = json.loads(ctl(server, "catalog", "list", "--json")[0])["entities"]
        there = {e["advertiser"]["id"].split("_")[0] for e in listed}
        told = {f"v{i}" for i, v in enumerate(versions) if v is not None} | {"v100"}
        assert told <= there, told - there
        assert len(listed) == 100 * len(there), "a change was applied in part"


TRAINER = """
data_dir: "{d}/market" model_dir: "{d}/models" seed: {seed}
feature_spec {{ fields {{ name: "ad" source: "ad.id" }} }}
logistic {{ alpha: {alpha} }}
gate {{ min_examples: 1 min_clicks: 1 max_ne: 10 min_calibration: 0.01 max_calibration: 100 }}
"""


def check_models_wiped(directory):
    """Wiped and trained anew, the directory has another version 1."""
    market = directory / "m.textproto"
    market.write_text("seed: 1 decisions_per_day: 2000")
    live.run("adrank-simulate", "generate", "--config", market, "--days", 3,
             "--data", directory / "market")
    config = directory / "t.textproto"

    def train(alpha):
        config.write_text(TRAINER.format(d=directory, seed=1, alpha=alpha))
        live.run("adrank-trainer", "--config", config)
    train(0.05)
    home = directory / "served"
    home.mkdir()
    (home / "models").symlink_to(directory / "models")
    shutil.copytree(directory / "market", home / "data")
    with live.LiveServer(home, poll_ms=50) as server:
        ad = json.loads(ctl(server, "catalog", "list", "--type", "ad", "--json")[0])[
            "entities"][0]["ad"]["id"]

        def logit():
            got = json.loads(ctl(server, "predict", "--candidate", ad, "--json")[0])
            assert got["model_version"] == "1", got
            return got["predictions"][0]["logit"]
        before = logit()
        shutil.rmtree(directory / "models" / "ctr")
        time.sleep(0.2)
        assert logit() == before, "a deleted version must be served on"
        train(0.5)
        for _ in range(100):
            if logit() != before:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the old version 1 is served although another "
                                 "one lies in its place")
        _, err = ctl(server, "models", "rollback", expect=1)
        assert "no version was served before" in err, err


def main():
    with live.Scratch() as scratch:
        home = scratch.path / "home"
        home.mkdir()
        with live.LiveServer(home) as server:
            check_catalog_file(server, home)
            check_json(server)
            check_pages_fit_any_client(server)
            check_probes(server)
            check_bad_text(server)
        failing = scratch.path / "failing"
        failing.mkdir()
        check_failing_disk(failing)
        check_models_wiped(scratch.path)
    print("operator_test: passed")


if __name__ == "__main__":
    main()
