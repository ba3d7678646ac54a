#!/usr/bin/env bash
# Tests under the thread sanitizer, with an Abseil that it sees through: of the
# one that Debian ships, the sanitizer does not know that a Mutex orders anything.
# The same version's sources are built into build/tsan/abseil and take the place of
# the installed libraries for the time of the tests only.
#   tests/tsan.sh [TEST_BINARY [gtest arguments...]]
# Without arguments: storage_test and server_test. JOBS: how many compilers at
# once.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$PWD/build/tsan
abseil=$dir/abseil
jobs=${JOBS:-$(nproc)}
version=$(dpkg-query -W -f '${Version}' libabsl-dev)

# From where the machine's packages come.
fetch_abseil() {
  mkdir -p "$abseil/lists" "$abseil/sources"
  for file in /etc/apt/sources.list.d/*.sources; do
    [ ! -e "$file" ] || sed 's/^Types:.*/Types: deb-src/' "$file" \
      > "$abseil/sources/$(basename "$file")"
  done
  [ ! -e /etc/apt/sources.list ] || sed -n 's/^deb /deb-src /p' \
    /etc/apt/sources.list > "$abseil/sources/main.list"
  local options=(-o Dir::Etc::sourcelist=/dev/null
    -o "Dir::Etc::sourceparts=$abseil/sources" -o "Dir::State::lists=$abseil/lists"
    -o APT::Get::List-Cleanup=0)
  apt-get "${options[@]}" -qq update
  (cd "$abseil" && apt-get "${options[@]}" -qq source --download-only "abseil=$version")
  dpkg-source --no-check -x "$abseil"/abseil_*.dsc "$abseil/source"
}

if [ ! -e "$abseil/built-$version" ]; then
  rm -rf "$abseil"
  fetch_abseil
  # 17, as Debian builds it; programs of 20 may use it.
  cmake -G Ninja -S "$abseil/source" -B "$abseil/build" -DBUILD_SHARED_LIBS=ON \
    -DCMAKE_CXX_STANDARD=17 -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DCMAKE_CXX_FLAGS='-fsanitize=thread -O1 -g1' > /dev/null
  cmake --build "$abseil/build" -j "$jobs"
  mkdir -p "$abseil/lib"
  find "$abseil/build" -name 'libabsl_*.so.*' -exec cp -P {} "$abseil/lib" \;
  touch "$abseil/built-$version"
fi

binaries=(storage_test server_test)
if [ $# -gt 0 ]; then
  binaries=("$1")
  shift
fi
cmake --preset tsan > /dev/null
cmake --build --preset tsan -j "$jobs" --target "${binaries[@]}"
export LD_LIBRARY_PATH=$abseil/lib
export TSAN_OPTIONS="suppressions=$PWD/tests/tsan.supp history_size=4 ${TSAN_OPTIONS:-}"
for binary in "${binaries[@]}"; do
  "$(find "$dir" -name "$binary" -type f -executable | head -n 1)" "$@"
done
