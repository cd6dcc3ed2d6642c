#!/usr/bin/env python3
"""Builds the programs of firmware/ for Cortex-M, runs each in QEMU, and compares their digests with this machine's.

Prints a table of digests, a row for each target and each SIMD level of this machine, a table of what the programs
take, and one of the functions in which they execute most instructions. Fails when two digests of a workload differ, when a program ends with another exit code than 0, when the linker
finds no room in 1 MB of flash and 256 KB of RAM, or when a program that must not panic can.

    scripts/firmware.py [--target TRIPLE]

Needs QEMU (Debian: qemu-system-arm), readelf, a C compiler, and the target (`rustup target add thumbv7em-none-eabihf`).
"""

import argparse
import bisect
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

FIRMWARE = Path(__file__).resolve().parent.parent / "firmware"
# ARMv8-M executes what is compiled for ARMv7E-M, so one target serves all four cores.
TARGET = "thumbv7em-none-eabihf"
SECONDS_PER_PROGRAM = 120
# Functions with a smaller share of a program's instructions are left out of the table.
SHOWN_SHARE = 0.02
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


def run_in_qemu(program: Program, machine: Machine, elf: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Runs a program, which must end with exit code 0."""
    command = [
        "qemu-system-arm", *machine.options, "-nographic", "-monitor", "none", "-serial", "none",
        "-semihosting-config", "enable=on,target=native", "-kernel", elf, *more,
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
    return done


def digests_of_device(program: Program, machine: Machine, elf: Path) -> dict[str, str]:
    """workload -> digest."""
    return dict(line.split() for line in run_in_qemu(program, machine, elf).stdout.splitlines())


def build_counter(directory: Path) -> Path:
    """Compiles the plugin that counts executed instructions."""
    plugin = directory / "count.so"
    run("cc", "-O2", "-Wall", "-shared", "-fPIC", "-fvisibility=hidden", "-o", plugin, FIRMWARE / "count.c")
    return plugin


def executed_instructions(program: Program, machine: Machine, elf: Path, plugin: Path) -> Counter[str]:
    """How many instructions a program executes, by function. Counts repeat exactly."""
    starts = sorted((address, name) for name, address in functions(elf).items())
    counts: Counter[str] = Counter()
    for line in run_in_qemu(program, machine, elf, "-plugin", str(plugin)).stderr.splitlines():
        address, count = line.split()
        place = bisect.bisect_right(starts, (int(address, 16), "\x7f")) - 1
        counts[starts[place][1] if place >= 0 else "?"] += int(count)
    return counts


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


def functions(elf: Path) -> dict[str, int]:
    """The functions linked into a program: demangled name -> address."""
    symbols = (line.split(maxsplit=7) for line in run("readelf", "-sWC", elf).splitlines())
    # The lowest bit of the address says that the code is Thumb.
    return {fields[7]: int(fields[1], 16) & ~1 for fields in symbols if len(fields) == 8 and fields[3] == "FUNC"}


def panics(elf: Path) -> list[str]:
    """The functions of a program that it could panic through."""
    return sorted(name for name in functions(elf) if any(part in name for part in PANIC_SYMBOLS))


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
    footprint, executed = [], []
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
    with tempfile.TemporaryDirectory() as directory:
        plugin = build_counter(Path(directory))
        for program in PROGRAMS:
            counts = executed_instructions(program, MACHINES[0], build(program, MACHINES[0], target), plugin)
            executed.append([program.name, "all", f"{counts.total():,}"])
            for name, count in counts.most_common():
                if count >= SHOWN_SHARE * counts.total():
                    executed.append([program.name, f"`{name}`", f"{count:,}"])
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
    print()
    print(table(["program", "function", f"executed instructions, {MACHINES[0].core}"], executed))
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Refused as refused:
        sys.exit(f"error: {refused}")
