#!/usr/bin/env bash
# Installs what is missing, builds and runs all tests.
#   tests/run.sh [PRESET] [ctest arguments...]
# PRESET: release (default), debug, asan-ubsan or tsan.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
  preset=$1
  shift
fi

bash deploy/install_deps.sh
configure=$(cmake --preset "$preset" 2>&1) || { echo "$configure"; exit 1; }
cmake --build --preset "$preset"
dir=build
[ "$preset" = release ] || dir=build/$preset
ctest --test-dir "$dir" --output-on-failure "$@"
