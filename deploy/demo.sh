#!/usr/bin/env bash
# The whole loop on this machine: installs what is missing, builds, simulates an
# ad market, learns a model from its log, serves it, ranks, explains, reports
# impressions and clicks until a budget is spent, learns again and swaps.
#
#   deploy/demo.sh [--keep] [--dir DIR]
#     --keep     leave the server running at the end
#     --dir DIR  work here instead of build/demo (replaced at every run)
set -euo pipefail
cd "$(dirname "$0")/.."

keep=false
dir=build/demo
while [ $# -gt 0 ]; do
  case $1 in
    --keep) keep=true ;;
    --dir) dir=${2:?--dir needs a directory}; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "demo.sh: unknown argument $1; see --help" >&2; exit 2 ;;
  esac
  shift
done

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
show() { printf '\033[2m$ %s\033[0m\n' "$*"; "$@"; }

say "Install what is missing and build"
bash deploy/install_deps.sh
configure=$(cmake --preset release 2>&1) || { echo "$configure"; exit 1; }
cmake --build --preset release --target \
  adrank-server adrank-trainer adrankctl adrank-simulate
export PATH=$PWD/build/bin:$PATH

# Only a directory that this script made is replaced.
if [ -e "$dir" ] && [ ! -e "$dir/.adrank-demo" ]; then
  echo "demo.sh: $dir exists and is not a demo's directory" >&2
  exit 2
fi
if [ -f "$dir/server.pid" ] && kill -0 "$(cat "$dir/server.pid")" 2>/dev/null &&
  grep -q adrank-server "/proc/$(cat "$dir/server.pid")/cmdline"; then
  echo "stopping the server of the demo before"
  kill "$(cat "$dir/server.pid")"
  while kill -0 "$(cat "$dir/server.pid")" 2>/dev/null; do sleep 0.1; done
fi
rm -rf "$dir"
mkdir -p "$dir"
touch "$dir/.adrank-demo"
dir=$(cd "$dir" && pwd)

say "Simulate the last five days of an ad market into the event log"
{
  sed -e '/^first_day:/d' deploy/examples/simulated_market.market.textproto
  echo "first_day: \"$(date -u -d '5 days ago' +%F)\""
} >"$dir/market.textproto"
show adrank-simulate generate --config "$dir/market.textproto" --days 5 \
  --data "$dir/data"

say "Learn a model from the logged impressions and clicks"
{
  echo "data_dir: \"$dir/data\""
  echo "model_dir: \"$dir/models\""
  sed -e '/^data_dir:/d' -e '/^model_dir:/d' \
    deploy/examples/simulated_market.trainer.textproto
} >"$dir/trainer.textproto"
show adrank-trainer --config "$dir/trainer.textproto"

say "Start the server"
cat >"$dir/server.textproto" <<CONFIG
storage { data_dir: "$dir/data" }
model { model_dir: "$dir/models" }
rank { reserve_micros: 10000 max_ads_per_advertiser: 1 }
listen {
  grpc_port: -1
  http_port: -1
  admin_port: -1
  ports_file: "$dir/ports"
}
CONFIG
adrank-server --config "$dir/server.textproto" >"$dir/server.log" 2>&1 &
server=$!
echo $server >"$dir/server.pid"
stop() {
  if kill -0 $server 2>/dev/null; then
    kill $server
    wait $server || true
  fi
  rm -f "$dir/server.pid"
}
trap stop EXIT
for _ in $(seq 200); do
  [ -f "$dir/ports" ] && break
  kill -0 $server 2>/dev/null || { cat "$dir/server.log"; exit 1; }
  sleep 0.1
done
eval "$(cat "$dir/ports")"
ctl=(adrankctl --server "127.0.0.1:$grpc" --admin "127.0.0.1:$admin")
show "${ctl[@]}" status

say "Rank: who wins this visitor's page, at what price"
request=(--user u17 --attr country=DE --attr device=phone --placement top:3)
show "${ctl[@]}" rank "${request[@]}"

say "The same visitor types a query: keywords match too"
word=$("${ctl[@]}" --json catalog list --type ad_group |
  awk -F'"' '/"text":/ { last = $4 } END { print last }')
show "${ctl[@]}" rank "${request[@]}" --query "cheap $word online"

say "Explain: where a score comes from, and why an ad is missing"
missing=$("${ctl[@]}" --json catalog list --type ad |
  sed -n 's/.*"id": "\([^"]*\)".*/\1/p' | tail -1)
show "${ctl[@]}" explain "${request[@]}" --ad "$missing"

say "An advertiser comes: keywords, targeting, a frequency cap, a small budget"
show cat deploy/examples/espresso.catalog.textproto
show "${ctl[@]}" catalog apply --file deploy/examples/espresso.catalog.textproto
for _ in $(seq 100); do  # a change is live within a second
  [[ $("${ctl[@]}" status) =~ version\ ([0-9]+)\ \(serving\ ([0-9]+) ]]
  [ "${BASH_REMATCH[1]}" = "${BASH_REMATCH[2]}" ] && break
  sleep 0.1
done
page=(--attr country=DE --attr device=phone --placement top:3)
query="best espresso machine"
show "${ctl[@]}" rank --user u17 "${page[@]}" --query "$query"

# What an explanation says of one ad.
explain_espresso() {
  printf '\033[2m$ %s\033[0m\n' "${ctl[*]} explain $* --ad espresso-1"
  "${ctl[@]}" explain "$@" --ad espresso-1 |
    awk '$1 == "espresso-1:" { on = 1 } /^$/ { on = 0 } on'
}

say "What set the price of its click"
explain_espresso --user u17 "${page[@]}" --query "$query"

say "Why it is not shown in France: the first condition that fails"
explain_espresso --user u17 --attr country=FR --attr device=phone \
  --placement top:3 --query "$query"

say "This visitor has seen it three times today: its frequency cap"
for _ in 1 2; do
  "${ctl[@]}" rank --user u17 "${page[@]}" --query "$query" >/dev/null
done
show "${ctl[@]}" caps u17
explain_espresso --user u17 "${page[@]}" --query "$query"

say "Others click it until its budget of the day is spent"
show "${ctl[@]}" budgets espresso
for visitor in $(seq 100 140); do
  answer=$("${ctl[@]}" rank --user "u$visitor" "${page[@]}" --query "$query")
  position=$(awk '$3 == "espresso-1" { print $2 }' <<<"$answer")
  [ -n "$position" ] || break
  shown=$(sed -n 's/^decision \([0-9a-f]*\).*/\1/p' <<<"$answer")
  "${ctl[@]}" events impression "$shown" "$position" >/dev/null
  "${ctl[@]}" events click "$shown" "$position" >/dev/null
  echo "  visitor u$visitor clicked"
done
explain_espresso --user u200 "${page[@]}" --query "$query"
show "${ctl[@]}" budgets espresso

say "Report an impression and a click of the first ad, the click twice"
decision=$("${ctl[@]}" --json rank "${request[@]}" |
  sed -n 's/.*"decision_id": "\([^"]*\)".*/\1/p')
show "${ctl[@]}" events impression "$decision" 1
show "${ctl[@]}" events click "$decision" 1
show "${ctl[@]}" events click "$decision" 1

say "Today: users visit, the server ranks, they see and click"
show adrank-simulate drive --data "$dir/data" --server "127.0.0.1:$grpc" \
  --now --count 20000

say "The night after: learn again from what the server logged, swap"
# Today is a sixth of the log; keep most of it to learn from.
echo "data { calibration_share: 0.05 evaluation_share: 0.05 }" \
  >>"$dir/trainer.textproto"
show adrank-trainer --config "$dir/trainer.textproto"
for _ in $(seq 100); do
  [[ $("${ctl[@]}" models status) == *"serving 2,"* ]] && break
  sleep 0.1
done
show "${ctl[@]}" models list
show "${ctl[@]}" rank "${request[@]}"

say "What an operator sees"
curl -s "http://127.0.0.1:$http/metrics" |
  grep -E '^(grpc_server_handled_total.*OK.*(Rank|LogEvents)|adrank_(model_version|events_total.*(accepted|duplicate)|served_ads|catalog_servable))' |
  grep -v ' 0$'

say "Against the planted truth"
show adrank-simulate report --data "$dir/data" --models "$dir/models" \
  --from-day 4 --to-day 5

say "What to try next"
cat <<NEXT
  bash deploy/demo.sh --keep          the same, and the server stays up
  adrankctl --help                    everything a person can ask a server
  adrankctl import --help             your own log; deploy/examples has mappings
                                      for Criteo, Avazu, iPinYou and KuaiRand
  bash tests/run.sh                   all tests
  bash bench/run.sh --help            the benchmarks
NEXT
if $keep; then
  trap - EXIT
  cat <<KEPT

The server runs on: grpc 127.0.0.1:$grpc, http 127.0.0.1:$http, admin 127.0.0.1:$admin
  stop it with: kill $server
  its log:      $dir/server.log
KEPT
fi
