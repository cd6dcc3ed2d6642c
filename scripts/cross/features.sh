#!/usr/bin/env bash
# Prints the kernel's features that work without `std`, one a line, as its manifest has them.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo metadata --no-deps --format-version 1 | python3 -c '
import json, sys

packages = json.load(sys.stdin)["packages"]
kernel = next(package for package in packages if package["name"] == "query-adapter")
print(*sorted(kernel["features"].keys() - {"default", "std"}), sep="\n")
'
