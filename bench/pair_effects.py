#!/usr/bin/env python3
"""How much of the planted pair effects one pass of training recovers.

Generates a simulated market without drift and without new ads, trains a model of
main effects, a factorization machine, an FwFM and an FvFM on it, one pass each,
and holds each against the true click rates of a day that none of them saw. A
line's value is the model's expected normalized entropy (over the true rates, so without the
noise of one day's clicks), the floor is the truth's; `recovered` is the share of
the gap between the model of main effects and the truth.

  bash bench/run.sh pair_effects [--impressions N] [--pair-effect-std S]
      [--base-ctr P] [--seed N] [--models logistic,fm,fwfm,fvfm]
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("ADRANK_BIN", ROOT / "build" / "bin"))
EXAMPLES = ROOT / "deploy" / "examples"
DAYS = 21
WINDOWS = ('data { train_end: "2026-01-24" calibration_end: "2026-01-25" '
           'evaluation_end: "2026-01-26" }')
CONFIGS = {"logistic": "simulated_market.trainer.textproto",
           "fm": "simulated_market.fm.trainer.textproto",
           "fwfm": "simulated_market.fwfm.trainer.textproto",
           "fvfm": "simulated_market.fvfm.trainer.textproto"}


def run(program, *arguments):
    done = subprocess.run([str(BIN / program), *map(str, arguments)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"{program}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def generate(directory, impressions, pair_effect_std, base_ctr, seed):
    """The log of DAYS days of three impressions a decision."""
    market = directory / "market.textproto"
    market.write_text(
        f'seed: {seed} first_day: "2026-01-05" slots: 3\n'
        f"decisions_per_day: {impressions // (3 * DAYS)}\n"
        f"base_ctr: {base_ctr} pair_effect_std: {pair_effect_std}\n"
        "drift_per_day: -1 new_ad_share: -1\n")
    run("adrank-simulate", "generate", "--days", DAYS, "--config", market,
        "--data", directory / "data")


def train(directory, name):
    """Expected NE of {truth, main_effects, model}, seconds and rows of learning."""
    config = directory / f"{name}.textproto"
    lines = (EXAMPLES / CONFIGS[name]).read_text().splitlines()
    config.write_text("\n".join(
        [f'data_dir: "{directory}/data"', f'model_dir: "{directory}/models"',
         f'model_name: "{name}"', WINDOWS]
        + [line for line in lines if not line.startswith(
            ("data_dir:", "model_dir:", "model_name:"))]))
    run("adrank-trainer", "--config", config)
    truth = json.loads(run(
        "adrank-simulate", "report", "--data", directory / "data", "--models",
        directory / "models", "--model-name", name, "--from-day", DAYS - 1,
        "--to-day", DAYS - 1, "--regret-share", 0, "--json"))
    training = json.loads(
        (directory / "models" / name / "last_report.json").read_text())
    entropy = {p["name"].split()[0]: p["expected_normalized_entropy"]
               for p in truth["predictors"]}
    return entropy, training["seconds"]["learn"], int(training["training_examples"])


def measure(directory, options):
    """One result a model, `recovered` beside each but the logistic one."""
    generate(directory, options.impressions, options.pair_effect_std,
             options.base_ctr, options.seed)
    results, floor = [], None
    for name in options.models.split(","):
        entropy, seconds, rows = train(directory, name)
        if floor is None:
            floor = entropy["model"]  # the first: main effects
        truth = entropy["truth"]
        results.append({
            "name": f"pair_effects/{name}", "value": entropy["model"],
            "unit": "expected NE", "floor": truth,
            "ratio": entropy["model"] / truth,
            "recovered": (floor - entropy["model"]) / (floor - truth),
            "planted_main_effects": entropy["main_effects"],
            "params": {"rows": rows, "learn_s": seconds,
                       "pair_effect_std": options.pair_effect_std,
                       "base_ctr": options.base_ctr, "seed": options.seed}})
    return results


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impressions", type=int, default=5_260_500)
    parser.add_argument("--pair-effect-std", type=float, default=1)
    parser.add_argument("--base-ctr", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", default="logistic,fm,fwfm,fvfm",
                        help="the first is what the others are held against")
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="adrank_bench.") as name:
        for result in measure(pathlib.Path(name), options):
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
