#!/usr/bin/env python3
"""Builds the C interface and its example, and compares the example's digests with those of the Rust programs.

The header must be what cbindgen makes of the source. The example is built by this machine's C and C++ compilers and
for a Cortex-M4F, on which QEMU runs it; warnings are errors. All functions of the header are linked there, and none of them
may panic.

    scripts/ffi.py [--header-only | --update-header]

Needs cbindgen, gcc, g++, arm-none-eabi-gcc, QEMU (Debian: gcc-arm-none-eabi, qemu-system-arm) and the target
(`rustup target add thumbv7em-none-eabihf`).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FFI = ROOT / "ffi"
HEADER = FFI / "include" / "query_adapter.h"
EXAMPLES = FFI / "examples"
TARGET = "thumbv7em-none-eabihf"
STRICT = ["-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror", "-O2"]
PANIC_SYMBOLS = ("panicking", "rust_begin_unwind")
MACHINE = ["-march=armv7e-m", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
# What the platforms' libraries are that a Rust standard library needs.
HOST_LIBRARIES = ["-lpthread", "-ldl", "-lm"]
SECONDS = 300


class Refused(Exception):
    """A sentence for the person who runs this."""


def run(*command: str | Path, where: Path = ROOT) -> str:
    """The output of a command that must succeed."""
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False, timeout=SECONDS)
    except FileNotFoundError:
        raise Refused(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"{command[0]} did not end in {SECONDS} s") from None
    if done.returncode != 0:
        raise Refused(f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def header() -> str:
    return run("cbindgen", "--quiet", "--config", "cbindgen.toml", where=FFI)


def target_directory() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()


def library(*options: str, target: str | None = None) -> Path:
    """Builds the static library: its path."""
    profile = "device" if target else "release"
    where = ["--target", target] if target else []
    run("cargo", "build", "--locked", "--quiet", "--profile", profile, "--package", "query-adapter-ffi", *where, *options)
    return target_directory() / (target or "") / profile / "libquery_adapter_ffi.a"


def expected_digests(images: Path) -> dict[str, str]:
    """What the Rust programs print, and the adapter they include: workload -> digest."""
    lines = run(
        "cargo", "run", "--locked", "--quiet", "--release", "--package", "query-adapter-expected", "--", images,
        where=ROOT / "firmware",
    ).splitlines()
    return {workload: digest for _, workload, digest in map(str.split, lines)}


def digests(output: str) -> dict[str, str]:
    return dict(line.split() for line in output.splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--header-only", action="store_true", help="check the header and nothing else")
    only.add_argument("--update-header", action="store_true", help="write the header and do nothing else")
    options = parser.parse_args()
    if options.update_header:
        HEADER.write_text(header(), encoding="utf-8")
        return 0
    if header() != HEADER.read_text(encoding="utf-8"):
        raise Refused("ffi/include/query_adapter.h is not what cbindgen writes: run scripts/ffi.py --update-header")
    if options.header_only:
        return 0

    wrong, found = [], {}
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        expected = expected_digests(work)
        for name in ("square", "square-int8"):
            source = work / f"{name.replace('-', '_')}.h"
            run(
                "cargo", "run", "--locked", "--quiet", "--release", "--",
                "export", work / f"{name}.qad", "--format", "c", "--output", source,
            )
        include = ["-I", FFI / "include", "-I", EXAMPLES, "-I", work]
        sources = [EXAMPLES / "workload.c", EXAMPLES / "host.c"]
        host = library()
        for compiler, standard, language in (("gcc", "c99", "c"), ("gcc", "c11", "c"), ("g++", "c++11", "c++")):
            program = work / "program"
            run(
                compiler, f"-std={standard}", *STRICT, *include, "-x", language, *sources,
                "-x", "none", host, *HOST_LIBRARIES, "-o", program,
            )
            found[f"{compiler} {standard}"] = digests(run(program))
        elf = work / "device.elf"
        device = library("--no-default-features", "--features", "train", target=TARGET)
        # Called by the example or not.
        every = sorted(set(re.findall(r"\bqad_\w+(?=\()", HEADER.read_text(encoding="utf-8"))))
        run(
            "arm-none-eabi-gcc", "-std=c11", *MACHINE, *STRICT, "-ffreestanding", "-nostdlib", "-Wl,--gc-sections",
            *(f"-Wl,--undefined={function}" for function in every), *include,
            EXAMPLES / "workload.c", EXAMPLES / "cortex_m.c", device, "-lgcc", "-T", EXAMPLES / "cortex_m.ld", "-o", elf,
        )
        found["arm-none-eabi-gcc c11, Cortex-M4F in QEMU"] = digests(run(
            "qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none",
            "-chardev", "stdio,id=console", "-semihosting-config", "enable=on,target=native,chardev=console",
            "-kernel", elf,
        ))
        symbols = run("arm-none-eabi-nm", "--demangle", elf).splitlines()
        wrong += [f"the program can panic: {symbol}" for symbol in symbols if any(p in symbol for p in PANIC_SYMBOLS)]

    for who, table in found.items():
        print(who)
        for workload, digest in table.items():
            print(f"  {workload} {digest}")
            if expected.get(workload) != digest:
                wrong.append(f"{workload} by {who} is {digest}, in Rust {expected.get(workload)}")
        if not table:
            wrong.append(f"{who} printed no digest")
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Refused as refused:
        sys.exit(f"error: {refused}")
