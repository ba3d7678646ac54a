#!/usr/bin/env python3
"""Catalogue files that break things and admins who do not know of each other:
every error names file, line and field, nothing is half applied, and whatever was
accepted can be served after a restart."""
import os
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import live  # noqa: E402
import grpc  # noqa: E402

BASE = """advertisers { id: "v" }
campaigns { id: "c" advertiser_id: "v" }
ad_groups { id: "g" campaign_id: "c" bid_micros: 1000 }
ads { id: "a" ad_group_id: "g" }
"""


class Admin:
    """adrankctl catalog on one server, with a file of its own."""

    def __init__(self, server, path):
        self.server, self.path = server, path

    def __call__(self, verb, *arguments, expect=0):
        done = subprocess.run(
            [str(live.BIN / "adrankctl"), "--server", self.server.grpc,
             "--admin", self.server.admin, "catalog", verb,
             *map(str, arguments)],
            capture_output=True, timeout=120)
        text = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == expect, (verb, arguments, done.returncode, text)
        return text

    def apply(self, content, *options, expect=0):
        data = content if isinstance(content, bytes) else content.encode()
        self.path.write_bytes(data)
        return self("apply", self.path, *options, expect=expect)


def nested(depth):
    return (BASE + 'ad_groups { id: "d" campaign_id: "c" bid_micros: 1 targeting {'
            + "none_of { expressions { " * depth
            + 'in_set { attribute: "a" values: "b" }' + "} }" * depth + "} }")


def check_files(admin):
    path = admin.path

    def wrong(content, *words):
        text = admin.apply(content, expect=2)
        missing = [w for w in words if w not in text]
        assert not missing, (missing, text[-500:])

    wrong(BASE.encode() + b'ads { id: "b\xff" ad_group_id: "g" }\n',
          f"{path}:5: not valid UTF-8")
    wrong(BASE + 'ads { id: "b"\n ad_group_id: "g"\n'
          ' attributes { name: "x"\n  text: "y"\n  text: "\\377" } }',
          f"{path}:9: ads[1].attributes[0].text[1]: not valid UTF-8")
    wrong(b'{"ads": [{"id": "\xc3"}]}', f"{path}:1: not valid UTF-8")
    wrong(nested(40), f"{path}:5: ", "deeper than 32")
    for depth in 60, 5000, 200000:
        wrong(nested(depth), f"{path}:5:", "recursion limit")
    wrong(BASE + 'campaigns { id: "d" advertiser_id: "v"\n'
          ' frequency_caps { impressions: 1 }\n'
          ' frequency_caps { unit: WEEK }\n}',
          f'{path}:7: campaign "d": frequency_caps[1].impressions 0')
    wrong(BASE + 'campaigns { id: "d" advertiser_id: "v"\n'
          ' budget { daily_micros: 1\n  delivery: 7 } }',
          f'{path}:7: campaign "d": budget.delivery 7 is not a known delivery')
    wrong(BASE + "".join(f'ads {{ id: "x{i}" ad_group_id: "g" }}\n'
                         for i in range(50000))
          + 'ads { id: "y" ad_group_id: "no" }',
          f'{path}:50005: ad "y": ad_group "no" does not exist')
    assert "catalog version 1" in admin.apply(BASE), "something stayed of the above"


def check_expected_version(admin):
    path = admin.path
    changed = BASE.replace("1000", "2000")
    path.write_text(changed)
    assert "catalog version 1:" in admin("diff", path, expect=3)
    # Somebody else is quicker.
    admin.apply(BASE + 'ads { id: "b" ad_group_id: "g" }')
    text = admin.apply(changed, "--expected-version", 1, expect=1)
    assert "has version 2, not the expected 1; nothing was applied" in text, text
    assert "2000" not in admin("get", "ad_group", "g")
    admin.apply(changed, "--expected-version", 2, "--validate-only")
    assert "catalog version 3" in admin.apply(changed, "--expected-version", 2)
    # What is pruned is what was read.
    assert "catalog version 4" in admin.apply(BASE, "--prune")
    admin.apply(BASE, "--prune", "--expected-version", 3, expect=1)


def check_many_admins(server):
    """Each sees its own version; who asks for a version wins it alone."""
    catalog = live.stub("catalog_service_pb2")
    stub = live.stub("catalog_service_pb2_grpc").CatalogServiceStub(
        server.admin_channel)
    start = stub.Mutate(catalog.MutateRequest(), timeout=20).catalog_version
    won, lost = [], []

    def run(name):
        version = start
        for i in range(40):
            request = catalog.MutateRequest(expected_version=version)
            ad = request.operations.add().upsert.ad
            ad.id, ad.ad_group_id = f"{name}_{i}", "g"
            try:
                version = stub.Mutate(request, timeout=20).catalog_version
                won.append(version)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.ABORTED, error
                lost.append(version)
                version = int(error.details().split("version ")[1].split(",")[0])

    threads = [threading.Thread(target=run, args=(f"t{k}",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(start + 1, start + 1 + len(won))), won
    assert len(won) + len(lost) == 160 and lost, (len(won), len(lost))


def check_vectors(server):
    """Lengths that no index can hold together are never both accepted, however
    fast they come; the server starts again with what it has."""
    catalog = live.stub("catalog_service_pb2")
    stub = live.stub("catalog_service_pb2_grpc").CatalogServiceStub(
        server.admin_channel)

    def put(name, size):
        request = catalog.MutateRequest()
        ad = request.operations.add().upsert.ad
        ad.id, ad.ad_group_id = name, "g"
        ad.embedding.extend([1.0] * size)
        return stub.Mutate(request, timeout=20)

    accepted = [put(f"e{i}", 8 + i % 3).applied for i in range(30)]
    assert accepted == [1, 0, 0] * 10, accepted
    assert put("e1", 9).results[0].error == (
        'ad "e1": embedding has 9 components, the catalogue\'s have 8; for '
        'another length clear those first')
    server.stop()
    server.start()
    ranking = live.stub("ranking_service_pb2")
    rank = live.stub("ranking_service_pb2_grpc").RankingServiceStub(server.channel)
    rank.Rank(ranking.RankRequest(query_embedding=[1.0] * 8), timeout=20)
    try:
        rank.Explain(ranking.ExplainRequest(
            request=ranking.RankRequest(query_embedding=[1.0] * 9)), timeout=20)
        raise AssertionError("a vector of another length was taken")
    except grpc.RpcError as error:
        assert error.details() == ("request.query_embedding: 9 components, the "
                                   "ads' vectors have 8"), error.details()


def main():
    with live.Scratch() as scratch, live.LiveServer(scratch.path) as server:
        admin = Admin(server, scratch.path / "catalog.textproto")
        check_files(admin)
        check_expected_version(admin)
        check_many_admins(server)
        check_vectors(server)
    print("hostile catalogue: every error has its place, nothing is half applied")


if __name__ == "__main__":
    main()
