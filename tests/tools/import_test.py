"""adrankctl import of separate impression and click files in iPinYou's format,
made here with all that goes wrong in real ones, against an independent count;
and what the trainer finds in the log."""
import gzip
import os
import random
import tempfile

import import_run
import ipinyou_count

MAPPING = os.path.join(import_run.EXAMPLES, "ipinyou.mapping.textproto")
# Many bad rows on purpose.
LENIENT = "max_bad_share: 0.5\n"


def row(rng, bid, time, kind):
    tags = ",".join(str(rng.randrange(10000, 10100))
                    for _ in range(rng.randrange(4)))
    return [bid, str(time), kind, "u%d" % rng.randrange(50),
            "Mozilla/5.0 (t\u00e9st)", "10.0.0.*", str(rng.randrange(5)), "1",
            rng.choice(["1", "2", "null"]), "d%d" % rng.randrange(9), "url",
            "null", "slot%d" % rng.randrange(4), "300", "250", "FirstView",
            "Na", rng.choice(["0", "12.5", "null"]), "c%d" % rng.randrange(6),
            str(rng.randrange(300)), str(rng.randrange(100)), "page", "2821",
            tags or "null"]


def spoil(rng, cells):
    """A row that is bad, in one of many ways, as bytes."""
    way = rng.randrange(9)
    if way == 0:
        cells[1] = rng.choice(["", "2013", "20131321000000000", "2013102125",
                               "2013102x", "20130230000000000"])
    elif way == 1:
        cells[0] = rng.choice(["", "null"])
    elif way == 2:
        cells = cells[:-1]
    elif way == 3:
        cells.append("more")
    elif way == 4:
        cells[18] = "NULL"
    elif way == 5:
        cells[rng.choice([17, 19, 20])] = rng.choice(["cheap", "nan", "inf"])
    elif way == 6:
        cells[20] = "-3"
    elif way == 7:
        cells[18] = "c" * 129
    else:
        return "\t".join(cells).encode().replace("\u00e9".encode(), b"\xe9\xff")
    return "\t".join(cells).encode()


def write(path, lines, rng):
    data = b""
    for line in lines:
        data += line + rng.choice([b"\n", b"\n", b"\r\n", b"\n\n"])
    opened = gzip.open(path, "wb") if path.endswith(".gz") else open(path, "wb")
    with opened as f:
        f.write(data[:-1] if data.endswith(b"\n") else data)
    return path


def make_files(rng, directory):
    impressions, clicks = [], []
    for i in range(4000):
        time = 20131021000000000 + i * 997
        time += (time % 100000 // 60000) * 40000  # seconds stay below 60
        cells = row(rng, "b%d" % i, time, "1")
        impressions.append("\t".join(cells).encode())
        if rng.random() < 0.05:  # reported again
            impressions.append(impressions[-1])
        if rng.random() < 0.02:
            impressions.append(spoil(rng, cells))
        chance = 0.25 if cells[18] < "c3" else 0.08
        if rng.random() < chance:
            cells[2] = "2"
            for _ in range(rng.choice([1, 1, 1, 2])):
                clicks.append("\t".join(cells).encode())
            if rng.random() < 0.05:
                clicks.append(spoil(rng, cells))
        if rng.random() < 0.03:
            clicks.append("\t".join(
                row(rng, "lost%d" % rng.randrange(60), time, "2")).encode())
    half = len(impressions) // 2
    return ([write(os.path.join(directory, "imp.1.txt"), impressions[:half],
                   rng),
             write(os.path.join(directory, "imp.2.txt.gz"), impressions[half:],
                   rng)],
            [write(os.path.join(directory, "clk.txt"), clicks, rng)])


def check_counts(got, expected):
    for name, value in expected.items():
        assert got[name] == value, (name, got, expected)


def main():
    rng = random.Random(20260105)
    with tempfile.TemporaryDirectory() as work:
        mapping = os.path.join(work, "mapping.textproto")
        with open(MAPPING) as f, open(mapping, "w") as out:
            out.write(f.read() + LENIENT)
        impressions, clicks = make_files(rng, work)
        expected = ipinyou_count.count(impressions, clicks)
        assert min(expected.values()) > 10, expected
        log = os.path.join(work, "log")
        got, errors = import_run.import_log(mapping, log, impressions, clicks)
        check_counts(got, expected)
        assert got["new_decisions"] == expected["impressions"], got
        assert errors.count("bad row: ") == 20, errors

        # Again: the same counts, and nothing that was not there.
        again, _ = import_run.import_log(mapping, log, impressions, clicks)
        check_counts(again, expected)
        assert again["new_decisions"] == again["new_events"] == 0, again

        # The strict mapping refuses the same files and writes nothing of them.
        refused = os.path.join(work, "refused")
        _, errors = import_run.import_log(MAPPING, refused, impressions, clicks,
                                          expect=1)
        assert "rows are bad, more than max_bad_share" in errors, errors

        # The join of the log finds what the import counted.
        report = import_run.train("ipinyou.trainer.textproto", log,
                                  os.path.join(work, "models"),
                                  os.path.join(work, "trainer.textproto"),
                                  expect=(0, 3))
        join = {k: int(v) for k, v in report["join"].items()}
        assert join["joined_impressions"] == expected["impressions"], join
        assert join["joined_clicks"] == expected["joined_clicks"], join
        assert join["orphan_clicks"] == expected["orphan_clicks"], join
        print("import and join equal the independent count:", expected)


if __name__ == "__main__":
    main()
