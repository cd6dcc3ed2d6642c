#!/usr/bin/env bash
# Runs the kernel's whole test suite for another processor, in an emulator:
#
#   scripts/cross/test_kernel.sh TARGET [ARGUMENT…]    arguments go to `cargo test`
#
# Exit code 77 says that this machine lacks something for it, which the last line names.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/cross/toolchain.sh

target=${1:?usage: scripts/cross/test_kernel.sh TARGET [ARGUMENT…]}
shift
processor=${target%%-*}
linker=$processor-linux-gnu-gcc
command -v "$linker" >/dev/null || { echo "$linker is not installed"; exit 77; }
emulator=$(scripts/cross/emulator.sh "$processor") || { echo "$emulator"; exit 77; }
cross_prepare_std "$target" || { echo "no standard library for $target"; exit 77; }

key=$(tr a-z- A-Z_ <<<"$target")
export "CARGO_TARGET_${key}_LINKER=$linker"
export "CARGO_TARGET_${key}_RUNNER=$emulator -L /usr/$processor-linux-gnu"
# An emulator takes a hundred times as long; every test runs, on fewer random inputs.
export PROPTEST_CASES=${PROPTEST_CASES:-8}
"$CROSS_CARGO" test --quiet --package query-adapter --features std,train,image --target "$target" "$@"
