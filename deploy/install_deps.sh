#!/usr/bin/env bash
# Installs what adrank builds and runs with, from Debian 12's packages. Does
# nothing when all is there; needs root or sudo otherwise.
set -euo pipefail

packages=(
  # Toolchain.
  build-essential cmake ninja-build ccache pkg-config
  # RPC, storage, metrics.
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
  libabsl-dev libc-ares-dev libre2-dev libssl-dev
  librocksdb-dev libsnappy-dev libbz2-dev liblz4-dev libzstd-dev zlib1g-dev
  libcurl4-openssl-dev prometheus-cpp-dev libcpp-httplib-dev
  # Text, hashing, logging, command lines.
  libicu-dev libstemmer-dev libxxhash-dev libgoogle-glog-dev libgflags-dev libcli11-dev
  rapidjson-dev tzdata
  # Tests and benchmarks; the Python client stands for a foreign one.
  libgtest-dev libgmock-dev libbenchmark-dev libdnnl-dev
  curl python3 python3-grpcio python3-protobuf
)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = \
    installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

sudo=
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "install_deps.sh: run as root, or install sudo: missing ${missing[*]}" >&2
    exit 1
  }
  sudo=sudo
fi
echo "install_deps.sh: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
