#!/usr/bin/env bash
# Writes the first inputs of every fuzz target to fuzz/corpus/TARGET: small files of our own making, good ones and
# damaged ones. Inputs that fuzzing has found stay.
#
#     scripts/fuzz_corpus.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."

exec python3 fuzz/seed_corpora.py "${1:-fuzz/corpus}"
