#!/usr/bin/env bash
# Exit codes and messages of adrank-trainer.
set -u
trainer=${ADRANK_BIN:?}/adrank-trainer
[ -x "$trainer" ] || { echo "no $trainer: skipped"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

# expect CODE TEXT ARGS...: the exit code, and a text in stdout or stderr.
expect() {
  local code=$1 text=$2 got output
  shift 2
  output=$("$trainer" "$@" 2>&1)
  got=$?
  if [ "$got" != "$code" ] || ! grep -qF -- "$text" <<<"$output"; then
    echo "FAILED: adrank-trainer $*: exit $got, not $code with \"$text\":"
    echo "$output"
    failed=1
  fi
}

config() {
  cat >"$dir/$1" <<EOF
data_dir: "$dir/log"
model_dir: "$dir/models"
feature_spec { fields { name: "device" } }
$2
EOF
}

expect 2 "--config is required"
expect 2 'unknown argument "--fast"' --fast
expect 0 "usage: adrank-trainer" --help
expect 2 "none.textproto" --config "$dir/none.textproto"
config typo 'logistic { alhpa: 1 }'
expect 2 "$dir/typo:4:" --config "$dir/typo" --check_config
config range 'logistic { alpha: -1 }'
expect 2 "$dir/range: logistic.alpha: -1" --config "$dir/range"
config good ''
expect 0 "attribution_window_s: 86400" --config "$dir/good" --check_config
[ -e "$dir/models" ] && { echo "FAILED: --check_config wrote"; failed=1; }
expect 1 "$dir/log" --config "$dir/good"
grep -q 'verdict="failed"} 1' "$dir/models/ctr/trainer.prom" || {
  echo "FAILED: a failed run is not in trainer.prom"
  failed=1
}

simulate=${ADRANK_BIN}/adrank-simulate
if [ -x "$simulate" ]; then
  cat >"$dir/market" <<EOF
decisions_per_day: 3000
EOF
  "$simulate" generate --config "$dir/market" --data "$dir/log" --days 2 \
    >/dev/null 2>&1 || { echo "FAILED: adrank-simulate"; failed=1; }
  config learn 'data { train_end: "2026-01-06" calibration_end: "2026-01-06 12:00" }
gate { min_calibration: 0.1 max_calibration: 9 max_ne: 2 }'
  expect 0 "PUBLISHED version 1" --config "$dir/learn"
  config strict 'data { train_end: "2026-01-06" calibration_end: "2026-01-06 12:00" }
gate { min_examples: 100000000 }'
  expect 3 "version 1 stays live" --config "$dir/strict"
  config late 'data { train_begin: "2027-01-01" }'
  expect 3 "NOTHING TO TRAIN" --config "$dir/late"
  grep -q '"verdict": "NOTHING_TO_TRAIN"' "$dir/models/ctr/last_report.json" || {
    echo "FAILED: last_report.json is not of the last run"
    failed=1
  }
  config search 'search { parameters { path: "logistic.alpha" low: 0.01 high: 0.3 log: true }
  parameters { path: "logistic.l1" values: ["0", "4"] } rungs: 2 }'
  expect 0 "logistic.alpha" --config "$dir/search"
  grep -q 'best$' "$dir/models/ctr/search.tsv" || {
    echo "FAILED: no best trial in search.tsv"
    failed=1
  }
  expect 0 "attribution_window_s: 86400" \
    --config "$dir/models/ctr/best.trainer.textproto" --check_config
  config unknown 'search { parameters { path: "logistic.alhpa" values: "1" } }'
  expect 2 'search.parameters[0].path: "logistic.alhpa": no field' \
    --config "$dir/unknown"
  config repack 'search { parameters { path: "logistic.min_count" values: "1" } }'
  expect 2 "logistic.min_count decides what is packed" --config "$dir/repack" \
    --check_config
  [ "$(cat "$dir/models/ctr/published")" = 1 ] || failed=1
fi
[ $failed = 0 ] && echo "exit codes and messages: OK"
exit $failed
