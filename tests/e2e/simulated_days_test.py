#!/usr/bin/env python3
"""Twenty simulated days: the learnt model is about as good as a main-effects model
can be, and as many clicks come as it says.

Learns on 19 days, calibrates on the twentieth, is held against the planted truth
on the day after. Calibration is judged against the true click rates: the chance
of one day's 2,200 clicks alone is +-2 %.
"""
import json
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import live  # noqa: E402

WINDOWS = ('data { train_end: "2026-01-24" calibration_end: "2026-01-25" '
           'evaluation_end: "2026-01-26" }')


def main():
    examples = live.ROOT / "deploy/examples"
    with tempfile.TemporaryDirectory(prefix="adrank_e2e.") as name:
        directory = pathlib.Path(name)
        print(live.run("adrank-simulate", "generate", "--days", 21, "--config",
                       examples / "simulated_market.market.textproto", "--data",
                       directory / "data").splitlines()[-1])
        config = directory / "trainer.textproto"
        lines = (examples / "simulated_market.trainer.textproto").read_text()
        config.write_text("\n".join(
            [f'data_dir: "{directory}/data"', f'model_dir: "{directory}/models"',
             WINDOWS]
            + [line for line in lines.splitlines()
               if not line.startswith(("data_dir:", "model_dir:"))]))
        live.run("adrank-trainer", "--config", config)
        report = json.loads(live.run(
            "adrank-simulate", "report", "--data", directory / "data", "--models",
            directory / "models", "--from-day", 20, "--to-day", 20,
            "--regret-share", 0, "--json"))
    model = [p for p in report["predictors"] if p["name"].startswith("model")][0]
    gap = model["ne_over_main_effects"]
    calibration = model["calibration_to_truth"]
    print(f"NE {model['normalized_entropy']:.5f}, {100 * gap:+.2f} % over the planted "
          f"main effects; calibration {calibration:.4f} to the truth, "
          f"{model['calibration_ratio']:.4f} to the clicks")
    assert gap < 0.03, gap
    assert 0.98 < calibration < 1.02, calibration


if __name__ == "__main__":
    main()
