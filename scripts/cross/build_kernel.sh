#!/usr/bin/env bash
# Builds the kernel for a bare-metal target against `core` alone, warnings denied:
#
#   scripts/cross/build_kernel.sh TARGET [FEATURE,FEATURE…|every]
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/cross/toolchain.sh

target=${1:?usage: scripts/cross/build_kernel.sh TARGET [FEATURE,FEATURE…|every]}
features=${2:-}
if [[ $features == every ]]; then
    features=$(scripts/cross/features.sh | paste -sd,)
fi

cross_prepare "$target"
"$CROSS_CARGO" rustc --quiet --release --package query-adapter --lib --target "$target" \
    --no-default-features --features "$features" -- -D warnings
