#!/usr/bin/env bash
# Fails if, for a bare-metal target, any crate the kernel depends on has its feature `std` or `alloc` switched on.
# The build against `core` alone would fail as well; this says which crate it is and who asked for it.
#
#   scripts/cross/check_graph.sh TARGET
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${1:?usage: scripts/cross/check_graph.sh TARGET}
features=$(scripts/cross/features.sh | paste -sd,)
tree=(cargo tree --package query-adapter --target "$target" --no-default-features --features "$features")

# One line a crate: its name, a tab, its features with a comma before and after each.
crates=$("${tree[@]}" --edges normal,no-proc-macro --prefix none --no-dedupe --format $'{p}\t,{f},' | sort -u)
hosted=$(grep -E $'\t.*,(use[-_])?(std|alloc),' <<<"$crates" || true)

if [[ -n $hosted ]]; then
    echo "these crates of the kernel's graph for $target are not built without std and alloc:"
    echo "$hosted"
    echo "who asks for it:"
    "${tree[@]}" --edges features,normal,no-proc-macro
    exit 1
fi
echo "$(wc -l <<<"$crates") crates, none with std or alloc"
