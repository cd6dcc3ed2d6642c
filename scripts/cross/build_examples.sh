#!/usr/bin/env bash
# Compiles the kernel's examples for a bare-metal target against `core` alone. They are not linked: where memory is, a
# program's own linker script says.
#
#   scripts/cross/build_examples.sh TARGET
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/cross/toolchain.sh

target=${1:?usage: scripts/cross/build_examples.sh TARGET}
cross_prepare "$target"
for example in kernel/examples/*.rs; do
    "$CROSS_CARGO" rustc --quiet --release --package query-adapter --example "$(basename "$example" .rs)" \
        --target "$target" --no-default-features --features image,train -- -D warnings --emit=obj
done
