#!/bin/bash
# adrank-simulate from the shell: verbs, messages and exit codes.
set -u
simulate=${ADRANK_BIN:-build/bin}/adrank-simulate
[ -x "$simulate" ] || { echo "$simulate is not built"; exit 77; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0

# expect CODE TEXT COMMAND...: the exit code, and a text in the output.
expect() {
  local code=$1 text=$2 output status
  shift 2
  output=$("$@" 2>&1)
  status=$?
  if [ $status -ne "$code" ] || ! grep -qF -- "$text" <<<"$output"; then
    echo "FAILED: $*"
    echo "  expected exit $code and \"$text\"; got exit $status and:"
    echo "$output"
    failures=$((failures + 1))
  fi
}

cat >"$dir/small" <<'C'
seed: 3
advertisers: 10
users: 500
decisions_per_day: 500
C
echo 'position_effect: 0.2' >"$dir/positive"
printf 'seed: 1\npostion_effect: -0.2\n' >"$dir/misspelt"
data=$dir/data

expect 2 'subcommand is required' "$simulate"
expect 2 '--dta' "$simulate" generate --dta "$data"
expect 2 'must name the market' "$simulate" generate --days 1
expect 2 'positive:1: position_effect: 0.2' \
  "$simulate" generate --config "$dir/positive" --data "$data"
expect 2 "$dir/misspelt:2:" \
  "$simulate" generate --config "$dir/misspelt" --data "$data"
expect 2 'postion_effect' \
  "$simulate" generate --config "$dir/misspelt" --data "$data"
expect 2 'days 0' \
  "$simulate" generate --config "$dir/small" --days 0 --data "$data"
expect 2 'excludes' \
  "$simulate" generate --config "$dir/small" --seed 1 --data "$data"
expect 1 'No such file' "$simulate" generate --config "$dir/none" --data "$data"
[ ! -e "$data" ] || { echo "FAILED: a refused run wrote $data"; failures=1; }

expect 0 'days 0 to 1: 1000 decisions' \
  "$simulate" generate --config "$dir/small" --days 2 --data "$data"
expect 0 'days 1 to 1: 500 decisions' \
  "$simulate" generate --start-day 1 --data "$data"
expect 1 'another market' "$simulate" generate --seed 4 --data "$data"
expect 0 '"decisions": "500"' \
  "$simulate" generate --start-day 2 --data "$data" --json
expect 0 '' "$simulate" generate --config "$dir/small" --days 3 \
  --catalog-file "$dir/catalog"
expect 0 'advertisers {' head -1 "$dir/catalog"
expect 0 'main_effects' "$simulate" report --data "$data"
expect 0 'days 1 to 2: 1000 decisions' \
  "$simulate" report --data "$data" --from-day 1
expect 0 '"normalized_entropy"' "$simulate" report --data "$data" --json
expect 1 'no impression' "$simulate" report --data "$data" --from-day 9
expect 1 "is not a simulated market's" "$simulate" report --data "$dir/none"
expect 2 '--data is required' "$simulate" report
expect 1 "$dir/none" "$simulate" report --data "$data" --models "$dir/none"
expect 2 'when to stop' "$simulate" drive --data "$data"
expect 1 '127.0.0.1:1: no server answers' \
  "$simulate" drive --data "$data" --count 1 --server 127.0.0.1:1

[ $failures -eq 0 ] && echo "all passed"
exit $((failures > 0))
