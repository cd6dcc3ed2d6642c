#!/usr/bin/env bash
# Prints how many lines of the product each fuzz target's corpus reaches, file by file, and fails when the `image` target
# reaches less of a file of kernel/src/image than it should. Corpora are made by scripts/fuzz_corpus.sh and grow with
# `cargo +nightly fuzz run`.
#
#     scripts/fuzz_coverage.sh [TARGET…]
#
# Needs cargo-fuzz, a nightly toolchain and its llvm-tools: rustup component add llvm-tools --toolchain nightly
set -euo pipefail
cd "$(dirname "$0")/.."

readonly least_of_image=80

host=$(rustc +nightly -vV | sed -n 's/^host: //p')
tools=$(rustc +nightly --print sysroot)/lib/rustlib/$host/bin
[[ -x $tools/llvm-cov ]] || { echo "llvm-cov is missing: rustup component add llvm-tools --toolchain nightly" >&2; exit 2; }
build=${CARGO_TARGET_DIR:-fuzz/target}/coverage-build

# What a target is about; other files it reaches are left out of its table.
files_of() {
    case $1 in
        image) echo kernel/src/image.rs kernel/src/image/{header,metadata,payload,section,spec}.rs ;;
        dataset_json) echo host-cli/src/{dataset,dataset/qa_json,dataset/sections,json,ids,retrieval_task,retrieval_task/judged,defects}.rs ;;
        dataset_rows) echo host-cli/src/{dataset,dataset/form,dataset/rows,json,ids,retrieval_task/judged}.rs ;;
        qrels) echo host-cli/src/{qrels,trec,dataset/label_lists,dataset/sections}.rs ;;
        vector_file) echo host-cli/src/vectors/{found,json_vectors,components,id_list,npy,npz,parquet,parquet/sizes,safetensors}.rs ;;
        npy) echo host-cli/src/vectors/npy.rs ;;
        kernel_ops) echo kernel/src/{forward,lanes,linear,math,normalize,retrieve,sample,schedule,tile,transpose}.rs ;;
        training) echo kernel/src/{adam,cross_entropy,forward,normalize,schedule,tile,train,transpose}.rs ;;
        *) echo "unknown target: $1" >&2 && return 1 ;;
    esac
}

# `file covered lines percent` for each file of a target.
report() {
    local files
    read -ra files <<<"$(files_of "$1")"
    cargo +nightly fuzz coverage --sanitizer none --target-dir "$build" "$1" "fuzz/corpus/$1" >/dev/null 2>"$log" ||
        { tail -n 20 "$log" >&2; return 1; }
    "$tools/llvm-cov" export "$build/$host/release/$1" --summary-only \
        --instr-profile "fuzz/coverage/$1/coverage.profdata" --sources "${files[@]}" |
        python3 -c '
import json, os, sys

for file in json.load(sys.stdin)["data"][0]["files"]:
    lines = file["summary"]["lines"]
    print(os.path.relpath(file["filename"]), lines["covered"], lines["count"], "%.1f" % lines["percent"])
'
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
targets=("$@")
((${#targets[@]})) || targets=(image dataset_json dataset_rows qrels vector_file npy kernel_ops training)
status=0
for target in "${targets[@]}"; do
    [[ -d fuzz/corpus/$target ]] || scripts/fuzz_corpus.sh
    table=$(report "$target")
    echo "$target"
    while read -r file covered lines percent; do
        printf '  %-36s %5d of %5d lines  %5s %%\n' "$file" "$covered" "$lines" "$percent"
        if [[ $target == image && ${percent%.*} -lt $least_of_image ]]; then
            echo "  too little: at least $least_of_image % of $file must be reached"
            status=1
        fi
    done <<<"$table"
done
exit $status
