#!/usr/bin/env python3
"""Builds the programs of firmware/ for Cortex-M, runs each in QEMU, and compares their digests with this machine's.

Prints a table of digests, a row for each target and each SIMD level of this machine, and a table of what the programs
take. Fails when two digests of a workload differ, when a program ends with another exit code than 0, when the linker
finds no room in 1 MB of flash and 256 KB of RAM, or when a program that must not panic can.

    scripts/firmware.py [--target TRIPLE]

Needs QEMU (Debian: qemu-system-arm), readelf, and the target (`rustup target add thumbv7em-none-eabihf`).
"""

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

FIRMWARE = Path(__file__).resolve().parent.parent / "firmware"
# ARMv8-M executes what is compiled for ARMv7E-M, so one target serves all four cores.
TARGET = "thumbv7em-none-eabihf"
SECONDS_PER_PROGRAM = 120
# What a Rust program can panic through, beside the handler itself, has this in its name.
PANIC_SYMBOLS = ("panicking", "begin_unwind")


class Machine(NamedTuple):
    core: str
    memory: str  # the file of firmware/memory
    options: tuple[str, ...]
    # Where the core looks for its stack and its first instruction, if that is not where flash begins.
    vectors: int | None = None


class Program(NamedTuple):
    name: str
    features: tuple[str, ...]


MACHINES = (
    Machine("Cortex-M4F", "mps2-an386", ("-M", "mps2-an386")),
    Machine("Cortex-M7", "mps2-an500", ("-M", "mps2-an500")),
    Machine("Cortex-M33", "mps2-an505", ("-M", "mps2-an505")),
    Machine("Cortex-M55", "mps3-an547", ("-M", "mps3-an547"), vectors=0),
)
PROGRAMS = (
    Program("arithmetic", ()),
    Program("apply", ("image",)),
    Program("refuse", ("image",)),
    Program("train", ("train",)),
)
# The check for panics is seen to find this one.
PANICKING = Program("panics", ("panics",))


class Refused(Exception):
    """A sentence for the person who runs this."""


def target_directory() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", FIRMWARE / "target")).resolve()


def run(*command: str | Path, **environment: str) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(
        command, cwd=FIRMWARE, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Refused(f"{' '.join(map(str, command))} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def build(program: Program, machine: Machine, target: str) -> Path:
    """Links a program into the memory of a machine: the path of its ELF file."""
    features = ("--features", ",".join(program.features)) if program.features else ()
    run(
        "cargo", "build", "--locked", "--quiet", "--release", "--package", "query-adapter-programs",
        "--bin", program.name, "--target", target, *features,
        FIRMWARE_MACHINE=machine.memory,
    )
    return target_directory() / target / "release" / program.name


def digests_of_device(program: Program, machine: Machine, elf: Path) -> dict[str, str]:
    """Runs a program: workload -> digest."""
    command = [
        "qemu-system-arm", *machine.options, "-nographic", "-monitor", "none", "-serial", "none",
        "-semihosting-config", "enable=on,target=native", "-kernel", elf,
    ]
    with tempfile.NamedTemporaryFile() as vectors:
        if machine.vectors is not None:
            vectors.write(first_bytes(elf, 8))
            vectors.flush()
            command += ["-device", f"loader,file={vectors.name},addr={machine.vectors},force-raw=on"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS_PER_PROGRAM, check=False
            )
        except subprocess.TimeoutExpired:
            raise Refused(f"{program.name} on {machine.core} did not end in {SECONDS_PER_PROGRAM} s") from None
    if done.returncode != 0:
        raise Refused(
            f"{program.name} on {machine.core} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return dict(line.split() for line in done.stdout.splitlines())


def digests_of_host() -> dict[str, dict[str, str]]:
    """level -> workload -> digest, of this machine."""
    levels: dict[str, dict[str, str]] = {}
    output = run("cargo", "run", "--locked", "--quiet", "--release", "--package", "query-adapter-expected")
    for line in output.splitlines():
        level, workload, digest = line.split()
        levels.setdefault(level, {})[workload] = digest
    return levels


def first_bytes(elf: Path, count: int) -> bytes:
    """The first bytes of a program's first segment: in a Cortex-M's, the vector table."""
    data = elf.read_bytes()
    (program_headers,) = struct.unpack_from("<I", data, 28)
    (offset,) = struct.unpack_from("<I", data, program_headers + 4)
    return data[offset : offset + count]


def panics(elf: Path) -> list[str]:
    """The symbols of a program that it could panic through."""
    symbols = (line.split() for line in run("readelf", "-sW", elf).splitlines())
    functions = (fields[7] for fields in symbols if len(fields) == 8 and fields[3] == "FUNC")
    return sorted(name for name in functions if any(part in name for part in PANIC_SYMBOLS))


def sections(elf: Path) -> dict[str, int]:
    """The bytes in a program's sections."""
    sizes = {}
    for line in run("readelf", "-SW", elf).splitlines():
        fields = line.partition("]")[2].split()
        if len(fields) > 4 and fields[0].startswith("."):
            sizes[fields[0]] = int(fields[4], 16)
    return sizes


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=TARGET, help=f"the compilation target [{TARGET}]")
    target = parser.parse_args().target
    for tool in ("qemu-system-arm", "readelf"):
        if not shutil.which(tool):
            raise Refused(f"{tool} is not installed")

    wrong = []
    expected = digests_of_host()
    found = {f"this machine, {level}": digests for level, digests in expected.items()}
    footprint = []
    for machine in MACHINES:
        digests = found[f"{machine.core} in QEMU"] = {}
        for program in PROGRAMS:
            elf = build(program, machine, target)
            digests |= digests_of_device(program, machine, elf)
            if machine is not MACHINES[0]:
                continue
            wrong += [f"{program.name} can panic: {symbol}" for symbol in panics(elf)]
            sizes = sections(elf)
            numbers = [sizes.get(name, 0) for name in (".text", ".rodata", ".data", ".bss")]
            footprint.append([program.name, *(f"{number:,}" for number in numbers)])
    if not panics(build(PANICKING, MACHINES[0], target)):
        wrong.append("the check for panics does not find the one in the program that is there to be found")

    workloads = list(next(iter(expected.values())))
    for workload in workloads:
        if len({digests.get(workload) for digests in found.values()}) != 1:
            wrong.append(f"the digests of {workload} differ")
    rows = [[who, *(digests.get(workload, "missing") for workload in workloads)] for who, digests in found.items()]
    print(table(["", *workloads], rows))
    print()
    print(table(["program", "code", "constants", "initialised RAM", "other static RAM"], footprint))
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Refused as refused:
        sys.exit(f"error: {refused}")
