#!/usr/bin/env bash
# Builds and runs one benchmark: bench/run.sh NAME [arguments...]
# Each line of output is a JSON object (see bench/README.md).
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ] || [ "$1" = --help ]; then
  echo "usage: bench/run.sh NAME [arguments...]; names:"
  for f in bench/*_bench.cc bench/*.py; do
    name=$(basename "${f%.*}")
    echo "  ${name%_bench}"
  done
  exit 2
fi
name=$1
shift
if [ ! -f "bench/${name}_bench.cc" ] && [ ! -f "bench/$name.py" ]; then
  echo "bench/run.sh: no benchmark \"$name\"" >&2
  exit 2
fi
if [ "${1:-}" = --torch ] && [ "$name" = deep_throughput ]; then
  shift
  if ! /usr/bin/python3 -c "import torch" 2>/dev/null; then
    echo "bench/run.sh: no torch; Debian: apt-get install python3-torch libopenblas0-pthread" >&2
    exit 1
  fi
  exec /usr/bin/python3 bench/rivals/torch_ctr.py "$@"
fi
bash deploy/install_deps.sh
configure=$(cmake --preset release 2>&1) || { echo "$configure" >&2; exit 1; }
if [ -f "bench/$name.py" ]; then  # of the programs, as a user runs them
  cmake --build --preset release --target adrank-simulate adrank-trainer >&2
  exec python3 "bench/$name.py" "$@"
fi
cmake --build --preset release --target "bench_$name" >&2
exec "build/bin/bench_$name" "$@"
