#!/usr/bin/env bash
# Nine nights on a real log: what nightly retraining is worth.
#
#   bash deploy/kuairand_nights.sh DATA.csv.gz [WORKDIR]
#
# DATA is KuaiRand-Pure's standard log of 25 April to 5 May 2022 as one CSV with
# the columns of deploy/examples/kuairand.mapping.textproto. Imports it, then
# each night d = 26 April .. 4 May:
#   trains to the end of day d (the first night from the start of the log; then
#   a warm start from last night's bundle and optimizer state over day d alone),
#   publishes, and predicts day d + 1.
# Beside it a model that is frozen after the first night predicts the same
# rows. Prints AUC, NE and calibration ratio (sum of pctr / clicks) of both for
# every day, all of them measured by adrank-trainer.
#
# WORKDIR gets the log, the models, the configs and each night's report; it may
# hold the log of an earlier run, but no models. Without it a temporary
# directory is used and removed. ADRANK_BIN names another place of the binaries.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ] || [ ! -f "$1" ]; then
  echo "usage: bash deploy/kuairand_nights.sh DATA.csv.gz [WORKDIR]" >&2
  exit 2
fi
repo=$(cd "$(dirname "$0")/.." && pwd)
data=$(realpath "$1")
bin=${ADRANK_BIN:-$repo/build/bin}
if [ $# -eq 2 ]; then
  mkdir -p "$2"
  work=$(realpath "$2")
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
if [ -e "$work/models" ]; then
  echo "kuairand_nights.sh: $work/models exists; move it away first" >&2
  exit 2
fi
if [ ! -x "$bin/adrankctl" ] || [ ! -x "$bin/adrank-trainer" ]; then
  echo "building adrankctl and adrank-trainer"
  bash "$repo/deploy/install_deps.sh"
  (cd "$repo" && cmake --preset release >/dev/null &&
    cmake --build --preset release --target adrankctl adrank-trainer)
fi

"$bin/adrankctl" import --input "$data" --log "$work/log" \
  --mapping "$repo/deploy/examples/kuairand.mapping.textproto"

# The example's features and learner with other windows. Day d + 1 is not known
# on night d: nothing is fitted on it, and the gate only guards against a broken
# model.
config() { # NAME MODEL TRAIN_BEGIN TRAIN_END EVALUATION_END EXTRA
  awk '/^(data|calibration|gate) \{/ { skip = 1 }
       !skip && !/^(data_dir|model_dir):/ && !/^#/
       /^\}/ || (skip && /\}$/) { skip = 0 }' \
    "$repo/deploy/examples/kuairand.trainer.textproto" >"$work/$1.textproto"
  cat >>"$work/$1.textproto" <<EOF
data_dir: "$work/log"
model_dir: "$work/models"
model_name: "$2"
data { train_begin: "$3" train_end: "$4" evaluation_end: "$5" }
calibration { method: NONE }
gate { min_calibration: 0.7 max_calibration: 1.4 max_ne_increase: 0.01 }
$6
EOF
}
train() { # NAME: publishes, or is refused by the gate (3), or fails
  local rc=0
  "$bin/adrank-trainer" --config "$work/$1.textproto" \
    >"$work/$1.txt" 2>"$work/$1.log" || rc=$?
  if [ $rc -ne 0 ]; then head -5 "$work/$1.txt" >&2; fi
  if [ $rc -ne 0 ] && [ $rc -ne 3 ]; then
    tail -5 "$work/$1.log" >&2
    return $rc
  fi
}
day() { date -u -d "2022-04-26 + $1 days" +%F; }

for night in 1 2 3 4 5 6 7 8 9; do
  begin=$(day $((night - 1))) end=$(day "$night") next=$(day $((night + 1)))
  [ "$night" -gt 1 ] || begin=
  config "night$night" retrained "$begin" "$end" "$next" "warm_start: true"
  train "night$night"
  cp "$work/models/retrained/last_report.json" "$work/night$night.json"
  if [ "$night" -eq 1 ]; then
    config frozen retrained "" "$end" "$next" ""
    sed -i 's/^model_name: .*/model_name: "frozen"/' "$work/frozen.textproto"
    train frozen
  fi
  config "frozen$night" frozen "$begin" "$end" "$next" "evaluate_only: true"
  train "frozen$night"
  cp "$work/models/frozen/last_evaluation.json" "$work/frozen$night.json"
  echo "night $night: trained to $(day $((night - 1))), predicted $end"
done

python3 - "$work" <<'EOF'
import datetime, json, sys

def report(name):
    with open("%s/%s.json" % (sys.argv[1], name)) as f:
        return json.load(f)

print("\n%-10s %9s %7s | %-27s | %-27s | %s" % (
    "", "", "", "retrained every night", "frozen after the first", "verdict"))
print("%-10s %9s %7s | %9s%9s%9s | %9s%9s%9s |" % (
    ("predicted", "examples", "CTR") + ("AUC", "NE", "calibr.") * 2))
sums = {"retrained": [0.0] * 3, "frozen": [0.0] * 3}
for night in range(1, 10):
    trained, frozen = report("night%d" % night), report("frozen%d" % night)
    a, b = trained["candidate"], frozen["candidate"]
    assert a["examples"] == b["examples"] and a["clicks"] == b["clicks"]
    cells = []
    for name, m in (("retrained", a), ("frozen", b)):
        values = [m["auc"], m["normalized_entropy"], m["calibration_ratio"]]
        cells.append("%9.4f%9.4f%9.4f" % tuple(values))
        sums[name] = [s + v / 9 for s, v in zip(sums[name], values)]
    day = datetime.date(2022, 4, 26) + datetime.timedelta(days=night)
    print("%-10s %9s %7.4f | %s | %s | %s" % (
        day, a["examples"], a["ctr"], cells[0], cells[1], trained["verdict"]))
print("%-10s %9s %7s | %9.4f%9.4f%9.4f | %9.4f%9.4f%9.4f |" % (
    ("mean", "", "") + tuple(sums["retrained"]) + tuple(sums["frozen"])))
EOF
