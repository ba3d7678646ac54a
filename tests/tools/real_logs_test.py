"""Real logs through the product: iPinYou's import against an independent count,
KuaiRand's nightly model against what other learners reach.

Needs the data, which is not part of the project: $ADRANK_DATA, or shared/data
beside the repository. Skipped (77) where it is absent."""
import glob
import os
import sys
import tempfile

import import_run
import ipinyou_count


def find_data():
    path = os.environ.get("ADRANK_DATA") or os.path.join(
        import_run.REPO, "..", "shared", "data")
    if not os.path.isdir(os.path.join(path, "ipinyou")):
        print("skipped: no real logs in", path)
        sys.exit(77)
    return path


def example(name):
    return os.path.join(import_run.EXAMPLES, name)


def ipinyou(data, work):
    for season in ("20131021", "*"):
        impressions = sorted(
            glob.glob(os.path.join(data, "ipinyou", "imp.%s*.gz" % season)))
        clicks = sorted(
            glob.glob(os.path.join(data, "ipinyou", "clk.*.gz")))
        expected = ipinyou_count.count(impressions, clicks)
        got, _ = import_run.import_log(
            example("ipinyou.mapping.textproto"),
            os.path.join(work, "ipinyou" + season[:1]), impressions, clicks)
        for name, value in expected.items():
            assert got[name] == value, (name, got, expected)
        print("iPinYou:", expected)


def kuairand(data, work):
    log = os.path.join(work, "kuairand")
    got, _ = import_run.import_log(
        example("kuairand.mapping.textproto"), log,
        glob.glob(os.path.join(data, "kuairand", "days_*.csv.gz")))
    assert got["rows"] == got["impressions"] == got["new_decisions"], got
    report = import_run.train("kuairand.trainer.textproto", log,
                              os.path.join(work, "models"),
                              os.path.join(work, "trainer.textproto"),
                              expect=(0,))
    m = report["candidate"]
    print("KuaiRand, 4 and 5 May: AUC %.5f, logloss %.5f, NE %.5f, calibration "
          "%.4f on %s impressions" %
          (m["auc"], m["logloss"], m["normalized_entropy"],
           m["calibration_ratio"], m["examples"]))
    # xLearn .7247/.6026, Vowpal Wabbit .7213/.6041 on the same days.
    assert m["auc"] >= 0.7240 and m["logloss"] <= 0.6035, m


def main():
    data = find_data()
    with tempfile.TemporaryDirectory() as work:
        ipinyou(data, work)
        kuairand(data, work)


if __name__ == "__main__":
    main()
