#!/usr/bin/env python3
"""What adrankctl tells of a live server: catalogue files with their errors where
they stand, diffs, expected reach, why an ad is missing and by how much, past
decisions answered again after the catalogue and the server have changed."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import live  # noqa: E402


def ctl(server, *arguments, expect=0, ports=None):
    done = subprocess.run(
        [str(live.BIN / "adrankctl"),
         *(ports or ["--server", server.grpc, "--admin", server.admin]),
         *map(str, arguments)],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == expect, (arguments, done.returncode, done.stdout,
                                       done.stderr[-800:])
    return done.stdout, done.stderr


CATALOG = """
advertisers { id: "v1" }
advertisers { id: "v2" }
campaigns { id: "c1" advertiser_id: "v1" }
campaigns { id: "c2" advertiser_id: "v2" }
ad_groups {
  id: "g1" campaign_id: "c1" bid_micros: 1120000
  keywords { text: "shoes" }
}
ad_groups {
  id: "g2" campaign_id: "c2" bid_micros: 1370000
  targeting { in_set { attribute: "country" values: "DE" } }
}
ads { id: "a1" ad_group_id: "g1" }
ads { id: "a2" ad_group_id: "g2" }
"""


def check_files(server, directory):
    good = directory / "catalog.textproto"
    good.write_text(CATALOG)
    out, _ = ctl(server, "catalog", "diff", good, expect=3)
    assert '+ ad_group "g2"' in out and "0 of 8 entities are the same" in out, out
    out, _ = ctl(server, "catalog", "apply", good)
    assert "8 operations, 8 applied, 0 failed; catalog version 1" in out, out
    out, _ = ctl(server, "catalog", "diff", good)
    assert "8 of 8 entities are the same" in out, out

    bad = directory / "bad.textproto"
    bad.write_text('ads { id: "a3" ad_group_id: "g1" }\n'
                   'ad_groups {\n  id: "g3"\n  campaign_id: "c1"\n'
                   '  bid_micros: -5\n}\n')
    _, err = ctl(server, "catalog", "apply", bad, expect=2)
    assert f'{bad}:5: ad_group "g3": bid_micros -5 must be > 0' in err, err
    assert "1 operation is wrong; nothing was applied" in err, err
    out, err = ctl(server, "catalog", "apply", bad, "--partial_failure", expect=2)
    assert "2 operations, 1 applied, 1 failed; catalog version 2" in out, out
    assert "the others were applied" in err, err

    # The file is the whole catalogue: what it lacks goes, in the same version.
    out, _ = ctl(server, "catalog", "diff", good, "--prune", expect=3)
    assert out.startswith('- ad "a3"\n'), out
    out, _ = ctl(server, "catalog", "apply", good, "--prune")
    assert "9 operations, 9 applied" in out, out
    ctl(server, "catalog", "diff", good, "--prune")

    good.write_text(CATALOG.replace("1120000", "1100000"))
    out, _ = ctl(server, "catalog", "diff", good, expect=3)
    assert '~ ad_group "g1"\n    bid_micros: 1120000 -> 1100000\n' in out, out
    changes = json.loads(ctl(server, "catalog", "diff", good, "--json", expect=3)[0])
    assert changes["changes"] == [{
        "change": "changed", "type": "ad_group", "id": "g1", "fields": [
            {"path": "bid_micros", "live": "1120000", "file": "1100000"}]}], changes
    # What is exported is what is there.
    exported = directory / "exported.textproto"
    exported.write_text(ctl(server, "catalog", "export")[0])
    ctl(server, "catalog", "diff", exported, "--prune")
    out, _ = ctl(server, "catalog", "list", "ad")
    assert "a2" in out and "c1" not in out, out
    assert "bid_micros: 1370000" in ctl(server, "catalog", "get", "ad_group", "g2")[0]
    history = ctl(server, "catalog", "history", "ad", "a3")[0]
    assert "# version 3" in history and "remove {" in history, history


def wait_for_version(server, version):
    for _ in range(200):
        status = json.loads(ctl(server, "status", "--json")[0])["catalog"]
        if int(status["serving_version"]) >= version:
            return
    raise AssertionError(f"version {version} never became live: {status}")


def rank(server, *arguments):
    return json.loads(ctl(server, "rank", *arguments, "--json")[0])


def check_why_not(server):
    german = ["--query", "red shoes", "--attr", "country=DE"]
    out, _ = ctl(server, "explain", *german, "--ad", "a1")
    assert "stopped at rank: needed bid 1.37" in out, out
    why = json.loads(ctl(server, "explain", *german, "--ad", "a1", "--json")[0])
    lost = why["ads"][1]
    assert lost["stage"] == "RANKING_STAGE_RANK", lost
    assert lost["needed"] in (1370000, 1370001) and lost["had"] == 1120000, lost
    out, _ = ctl(server, "explain", "--query", "shoes", "--attr", "country=FR",
                 "--ad", "a2")
    assert ('targeting in_set(country) of ad_group "g2": needs country is one of '
            '"DE"; the request has "FR"') in out, out
    out, _ = ctl(server, "explain", "--attr", "country=DE", "--ad", "a1")
    assert "stopped at keyword" in out, out


def check_reach(server, directory):
    """Half of the requests of the log name a country."""
    for i in range(20):
        rank(server, "--query", "shoes" if i % 4 else "boats", "--attr",
             f"country={'DE' if i % 2 else 'FR'}")
    change = directory / "change.textproto"
    change.write_text(CATALOG)
    found = json.loads(ctl(server, "catalog", "apply", change, "--validate_only",
                           "--json")[0])
    reach = {r["key"]["id"]: r for r in found["results"]}
    sampled = reach["g1"]["requests_sampled"]
    assert sampled >= 20 and reach["g2"]["requests_sampled"] == sampled, reach
    assert reach["g1"]["requests_matched"] >= 15, reach
    assert reach["g2"]["requests_matched"] >= 10, reach
    assert reach["c2"]["requests_eligible"] == reach["g2"]["requests_eligible"], reach
    out, _ = ctl(server, "catalog", "apply", change, "--validate_only")
    assert "expected reach" in out and "(" in out, out


def check_replay(server, directory):
    before = rank(server, "--query", "shoes", "--attr", "country=DE", "--attr",
                  "age:=30", "--placement", "top:2", "--user", "u")
    decision = before["decision_id"]
    ctl(server, "catalog", "remove", "ad", "a2")
    wait_for_version(server, int(before["catalog_version"]) + 1)
    for restart in (False, True):
        if restart:
            server.stop()
            server.start()
        out, _ = ctl(server, "explain", "--decision", decision, "--ad", "a1")
        assert "replayed: identical to the logged decision" in out, out
        again = json.loads(ctl(server, "explain", "--decision", decision,
                               "--json")[0])
        assert again["replay_identical"], again
        assert (again["response"]["placements"] == before["placements"]), again
    _, err = ctl(server, "explain", "--decision", decision, "--query", "x", expect=2)
    assert "it goes with --ad only" in err, err
    _, err = ctl(server, "explain", "--decision", "0" * 24, expect=1)
    assert "is not in the log" in err, err
    # With another configuration another answer, and it says so.
    server.stop()
    text = server.config.read_text()
    server.config.write_text(text + "rank { reserve_micros: 200000 }\n")
    server.start()
    out, _ = ctl(server, "explain", "--decision", decision, expect=3)
    assert "replayed: NOT the logged decision: " in out, out
    assert "the ranking configuration" in out, out


def check_ports(server):
    """--server alone names the port for every verb; the wrong one is named."""
    admin = ["--server", server.admin]
    ctl(server, "models", "list", ports=admin)
    ctl(server, "catalog", "list", ports=admin)
    _, err = ctl(server, "models", "list", ports=["--server", server.grpc], expect=1)
    assert server.grpc in err and "--admin the admin port" in err, err
    _, err = ctl(server, "catalog", "remove", "ad", "x",
                 ports=["--server", server.grpc], expect=1)
    assert "--admin the admin port" in err, err
    _, err = ctl(server, "rank", ports=admin, expect=1)
    assert "--server names the ranking port" in err, err
    _, err = ctl(server, "models", "list", ports=["--admin", "127.0.0.1:1"], expect=1)
    assert "127.0.0.1:1: " in err and "say where adrank-server listens" in err, err


def main():
    with live.Scratch() as scratch:
        with live.LiveServer(scratch.path) as server:
            check_files(server, scratch.path)
            wait_for_version(server, 3)
            check_why_not(server)
            check_reach(server, scratch.path)
            check_ports(server)
            check_replay(server, scratch.path)
    print("explain_test: passed")


if __name__ == "__main__":
    main()
