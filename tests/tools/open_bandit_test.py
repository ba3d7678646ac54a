"""adrankctl evaluate-policy --obd against the formulas of OBP written out here:
on made-up logs always, on Open Bandit's own when they are there
($ADRANK_DATA, or shared/data beside the repository)."""
import csv
import gzip
import json
import math
import os
import random
import subprocess
import tempfile

import import_run

PRIOR_ROWS = 100.0


def read(path):
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rt") as f:
        return [(int(r["item_id"]), int(r["position"]), int(r["click"]),
                 float(r["propensity_score"])) for r in csv.DictReader(f)]


def uniform(log):
    items = sorted({r[0] for r in log})
    return {(p, a): 1.0 / len(items) for a in items for p in {r[1] for r in log}}


def frequencies(log):
    rows, count = {}, {}
    for item, position, _, _ in log:
        rows[position] = rows.get(position, 0) + 1
        count[position, item] = count.get((position, item), 0) + 1
    return {k: c / rows[k[0]] for k, c in count.items()}


def fold_rates(log, fold):
    """Click rate of an item outside the fold, drawn to the mean."""
    kept = [r for i, r in enumerate(log) if i % 3 != fold]
    base = sum(r[2] for r in kept) / len(kept)
    rows, clicks = {}, {}
    for item, _, click, _ in kept:
        rows[item] = rows.get(item, 0) + 1
        clicks[item] = clicks.get(item, 0) + click
    return lambda a: ((clicks.get(a, 0) + PRIOR_ROWS * base) /
                      (rows.get(a, 0) + PRIOR_ROWS))


def oracle(log, target):
    """OBP's estimators (obp/ope/estimators.py, 0.5.5)."""
    n = len(log)
    rate = [fold_rates(log, f) for f in range(3)]
    positions = {r[1] for r in log}
    value = [{p: math.fsum(pr * rate[f](a) for (q, a), pr in target.items()
                           if q == p) for p in positions} for f in range(3)]
    iw = [target.get((p, a), 0.0) / ps for a, p, _, ps in log]
    r = [row[2] for row in log]
    q = [rate[i % 3](row[0]) for i, row in enumerate(log)]
    v = [value[i % 3][row[1]] for i, row in enumerate(log)]
    mean = lambda x: math.fsum(x) / n
    m, root = mean(iw), math.sqrt(n)
    lam = 1 / root
    dr = lambda g: mean(v[i] + g(iw[i]) * (r[i] - q[i]) for i in range(n))
    ips = lambda g: mean(g(iw[i]) * r[i] for i in range(n))
    return {
        "ips": ips(lambda w: w),
        "snips": ips(lambda w: w / m),
        "direct": mean(v),
        "dr": dr(lambda w: w),
        "sndr": dr(lambda w: w / m),
        "ips-clipped": ips(lambda w: min(w, root)),
        "ips-subgaussian": ips(lambda w: w / (1 - lam + lam * w)),
        "dr-clipped": dr(lambda w: min(w, root)),
        "switch-dr": dr(lambda w: w * (w <= root)),
        "dr-os": dr(lambda w: n * w / (w * w + n)),
    }, {
        "effective_sample_size": math.fsum(iw)**2 / math.fsum(
            w * w for w in iw),
        "max_weight": max(iw),
        "mean_weight": m,
    }


def evaluate(*args):
    done = subprocess.run(
        [import_run.binary("adrankctl"), "--json", "evaluate-policy", *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stdout, done.stderr


def check(path, target_path, *args):
    """The report, each figure compared with the oracle's."""
    target = "uniform" if target_path is None else target_path
    code, out, err = evaluate("--obd", path, "--obd-target", target, *args)
    assert code == 0, (code, err)
    report = json.loads(out)
    log = read(path)
    values, weights = oracle(
        log, uniform(log) if target_path is None else
        frequencies(read(target_path)))
    got = {e["estimator"]: e for e in report["outcomes"][0]["estimates"]}
    assert set(got) == set(values), (set(got), set(values))
    for name, want in values.items():
        assert abs(got[name]["value"] - want) < 1e-9, (name, got[name], want)
        assert got[name]["low"] <= got[name]["high"], got[name]
    for name, want in weights.items():
        assert abs(report["weights"][name] - want) <= 1e-9 * want, (name, want)
    return report, got


def write_log(path, rng, rows, probabilities, rates):
    items = list(range(len(rates)))
    with open(path, "w") as f:
        f.write(",timestamp,item_id,position,click,propensity_score,extra\n")
        for i in range(rows):
            a = rng.choices(items, probabilities)[0]
            f.write('%d,2019-11-24 00:00:00+00:00,%d,%d,%d,%r,"a, b"\n' %
                    (i, a, rng.randint(1, 3), rng.random() < rates[a],
                     probabilities[a]))


def made_up(work):
    rng = random.Random(6)
    rates = [0.02 + 0.02 * i for i in range(8)]
    flat = [1 / 8] * 8
    steep = [2.0**i / 255 for i in range(8)]
    a, b = os.path.join(work, "a.csv"), os.path.join(work, "b.csv")
    write_log(a, rng, 6000, flat, rates)
    write_log(b, rng, 6000, steep, rates)
    truth = {a: sum(rates) / 8, b: sum(p * r for p, r in zip(steep, rates))}
    for log, target, want in ((a, b, truth[b]), (b, None, truth[a])):
        _, got = check(log, target)
        for name in ("ips", "snips", "dr", "sndr"):
            assert got[name]["low"] <= want <= got[name]["high"], (name, want,
                                                                   got[name])
    again = [evaluate("--obd", a, "--seed", "3")[1] for _ in range(2)]
    assert again[0] == again[1]
    refusals(work, a)


def refusals(work, log):
    code, out, err = evaluate("--obd", log, "--min-ess", "1e9")
    assert code == 3 and "effective sample size" in err, (code, err)
    assert "outcomes" not in json.loads(out)
    bad = os.path.join(work, "bad.csv")
    for row, word in (("1,1,0,0", "propensity_score"), ("x,1,0,1", "item_id"),
                      ("1,1,2,1", "click"), ("1,1,0", ":2")):
        with open(bad, "w") as f:
            f.write("item_id,position,click,propensity_score\n" + row + "\n")
        code, _, err = evaluate("--obd", bad)
        assert code == 2 and word in err and "bad.csv:2" in err, (code, err)


def real(data):
    random_log = os.path.join(data, "obd/random/men/men.csv.gz")
    bts_log = os.path.join(data, "obd/bts/men/men.csv.gz")
    for log, target, about in ((random_log, bts_log, "random -> bts"),
                               (bts_log, None, "bts -> random")):
        report, got = check(log, target, "--min-ess", "10")
        on_policy = read(target if target else random_log)
        want = sum(r[2] for r in on_policy) / len(on_policy)
        print("Open Bandit, men, %s: on-policy %.5f; ESS %.0f of %s" %
              (about, want, report["weights"]["effective_sample_size"],
               report["decisions"]))
        for name in ("ips", "snips", "dr", "sndr", "dr-os"):
            e = got[name]
            print("  %-6s %.5f [%.5f, %.5f]" % (name, e["value"], e["low"],
                                                e["high"]))
            assert e["low"] <= want * 1.25 and e["high"] >= want * 0.75, e


def main():
    with tempfile.TemporaryDirectory() as work:
        made_up(work)
    data = os.environ.get("ADRANK_DATA") or os.path.join(
        import_run.REPO, "..", "shared", "data")
    if os.path.isdir(os.path.join(data, "obd")):
        real(data)
    else:
        print("no Open Bandit log in", data)


if __name__ == "__main__":
    main()
