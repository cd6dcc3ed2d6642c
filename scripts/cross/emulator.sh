#!/usr/bin/env bash
# Prints the emulator of a processor for programs of Linux, or why there is none that computes rightly:
#
#   scripts/cross/emulator.sh PROCESSOR
#
# QEMU_USER names a folder to look in first; by itself that is the one to which fetch_emulator.sh fetches.
set -euo pipefail

processor=${1:?usage: scripts/cross/emulator.sh PROCESSOR}
repository=$(cd "$(dirname "$0")/../.." && pwd)
fetched=$(cd "$repository" && realpath -m "${CARGO_TARGET_DIR:-target}/cross/emulators")
PATH=${QEMU_USER:-$fetched}:$PATH
emulator=$(command -v "qemu-$processor" "qemu-$processor-static" | head -n 1) ||
    { echo "qemu-$processor is not installed"; exit 1; }
# QEMU 7.2 reads the first operand of the instruction MDEBR as if it had 64 bits, so that 3 × 5 is 160; 10.0 does not. To
# that instruction the f64 product of two f32 compiles, in the software form of fused multiply-add.
if [[ $processor == s390x ]]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cat >"$work/product.c" <<'END'
int main(void)
{
    volatile float three = 3, five = 5;
    float a = three, b = five;
    double product;
    __asm__("ler %%f4,%1\n\tmdebr %%f4,%2\n\tldr %0,%%f4" : "=&f"(product) : "f"(a), "f"(b) : "f4");
    return product != 15;
}
END
    s390x-linux-gnu-gcc -O1 "$work/product.c" -o "$work/product" &&
        "$emulator" -L /usr/s390x-linux-gnu "$work/product" ||
        { echo "$emulator multiplies wrongly by MDEBR, as QEMU 7.2 does; a newer one is needed"; exit 1; }
fi
echo "$emulator"
