#!/usr/bin/env python3
"""Builds the programs of firmware/ for Cortex-M, runs each in QEMU, and compares their digests with this machine's.

Prints a table of digests, a row for each target and each SIMD level of this machine, tables of what the programs and
their operations take on each core, and one of the functions in which they execute most instructions. Fails when
`host-cli check --device-digests` finds a digest that this machine does not compute, when README.md has others, when a
program ends with another exit code than 0, when the linker finds no room in 1 MB of flash and 256 KB of RAM, when a
program that must not panic can, among them one that holds every function a device may call, or when flash, RAM, stack, also of a
build without optimisation, or instructions have grown by more than 5 % over firmware/footprint.json, which has a record for each version of the compiler.

    scripts/firmware.py [--target TRIPLE] [--targets] [--record]

`--targets` adds what other processors of this kind of operating system compute, and WebAssembly, where their emulators
and linkers are installed. `--record` writes the record.

Needs QEMU (Debian: qemu-system-arm), readelf, a C compiler, and the target (`rustup target add thumbv7em-none-eabihf`).
"""

import argparse
import bisect
import json
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
README = FIRMWARE.parent / "README.md"
RECORD = FIRMWARE / "footprint.json"
EMULATOR = FIRMWARE.parent / "scripts" / "cross" / "emulator.sh"
GROWTH = 0.05
"""What a number of the record may grow by."""
MEMORY = ("code", "of it kernel", "constants", "static RAM", "stack")
DEBUG_STACK = "stack, debug build"
# The workloads whose digests README.md shows.
SHOWN = ("apply-383-bias", "apply-383-int8", "train-128-bias", "search-f32", "search-f16", "search-int8")
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


class Target(NamedTuple):
    """A processor on which the host's program runs in an emulator: Node, or where there is a linker QEMU."""

    name: str
    triple: str
    linker: str | None
    flags: str = ""


TARGETS = (
    Target("aarch64", "aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc"),
    # The other byte order.
    Target("s390x", "s390x-unknown-linux-gnu", "s390x-linux-gnu-gcc"),
    Target("wasm32", "wasm32-wasip1", None, "-C target-feature=+simd128"),
)


class Program(NamedTuple):
    name: str
    features: tuple[str, ...]
    profile: str = "device"
    flags: str = ""


MACHINES = (
    Machine("Cortex-M4F", "mps2-an386", ("-M", "mps2-an386")),
    # Its memory is where the former's is, so that it runs the same file.
    Machine("Cortex-M7", "mps2-an386", ("-M", "mps2-an500")),
    Machine("Cortex-M33", "mps2-an505", ("-M", "mps2-an505")),
    Machine("Cortex-M55", "mps3-an547", ("-M", "mps3-an547"), vectors=0),
)
PROGRAMS = (
    Program("arithmetic", ()),
    Program("apply", ("image",)),
    Program("apply_only", ("image",)),
    Program("apply_int8", ("image",)),
    Program("search", ("image",)),
    Program("refuse", ("image",)),
    # By itself `opt-level = "s"` inlines so little that it sees chunk lengths of 0 where none can be, and links a panic.
    Program("train", ("train",), "device-small", "-C llvm-args=-inline-threshold=120"),
)
# Whose instructions are counted and whose memory is recorded.
COUNTED = ("Cortex-M4F", "Cortex-M7", "Cortex-M55")


class Operation(NamedTuple):
    """What a program does between two calls of its `boundary`, so many times, one operation after the other."""

    name: str
    workload: str  # the one that it is part of, under whose name the program prints what stack it took
    times: int
    multiply_adds: int  # of the operation's definition, padding not counted


# 8 queries, 8 documents, 128 components: forward, scores, back to the queries, two Gram matrices, gradient.
STEP_PRODUCTS = 2 * 8 * 128 * 129 + 2 * 8 * 8 * 128 + 2 * 8 * 8 * 128
# AdamW takes 11 additions, multiplications, divisions and roots for each weight.
STEP_UPDATE = 11 * 128 * 129
OPERATIONS = {
    "apply": (
        Operation("apply, f32, 383 → 383", "apply-383-bias", 100, 383 * 383),
        Operation("apply, f32, 96 → 40", "apply-96-to-40", 100, 96 * 40),
    ),
    "apply_only": (Operation("apply, f32, 383 → 383, by its weights alone", "apply-383-only", 100, 383 * 383),),
    "apply_int8": (
        Operation("apply, int8, 383 → 383", "apply-383-int8", 100, 383 * 383),
        Operation("apply through a buffer, f32, 96 → 40", "apply-streamed", 100, 96 * 40),
    ),
    "search": tuple(
        Operation(f"10 best of 500 × 64, {form}", "search-f32", 20, 500 * 64) for form in ("f32", "f16", "int8")
    ),
    "train": (
        Operation("training step, 128 → 128, 8 queries", "train-128-bias", 200, STEP_PRODUCTS + STEP_UPDATE),
    ),
}
# Without optimisation every step of an expression has a place of its own on the stack.
DEBUG_PROFILE = "device-debug"
# Linked to be looked at: what a device's program could be made of.
EVERY_CALL = Program("every_call", ("image", "train"))
# The check for panics is seen to find this one.
PANICKING = Program("panics", ("panics",))


DIGESTS_DIFFER = 5
"""host-cli's exit code for it."""


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
        "cargo", "build", "--locked", "--quiet", "--profile", program.profile, "--package", "query-adapter-programs",
        "--bin", program.name, "--target", target, *features,
        FIRMWARE_MACHINE=machine.memory,
        **{f"CARGO_TARGET_{target.replace('-', '_').upper()}_RUSTFLAGS": program.flags},
    )
    return target_directory() / target / program.profile / program.name


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


def digests_of_device(output: str) -> tuple[dict[str, str], dict[str, int]]:
    """What a program has printed: workload -> digest, and workload -> bytes of stack."""
    digests, stack = {}, {}
    for line in output.splitlines():
        match line.split():
            case [workload, digest]:
                digests[workload] = digest
            case [workload, "stack", number]:
                stack[workload] = int(number)
    return digests, stack


def build_counter(directory: Path) -> Path:
    """Compiles the plugin that counts executed instructions."""
    plugin = directory / "count.so"
    version = run("qemu-system-arm", "--version").split("version ")[1].split(".")[0]
    run(
        "cc", "-O2", "-Wall", "-shared", "-fPIC", "-fvisibility=hidden",
        f"-DPLUGIN_VERSION={1 if int(version) < 9 else 2}", "-o", plugin, FIRMWARE / "count.c",
    )
    return plugin


def plugin_option(plugin: Path, elf: Path) -> tuple[str, str]:
    """What makes QEMU count a program's instructions, and those between calls of its `boundary`, if it has one."""
    boundaries = [address for name, address in functions(elf).items() if "programs::boundary" in name]
    return "-plugin", ",".join([str(plugin), *(f"boundary={address:#x}" for address in boundaries)])


def executed_instructions(output: str, elf: Path) -> tuple[Counter[str], list[int]]:
    """How many instructions a program has executed, by function, and in each of its spans. Counts repeat exactly."""
    starts = sorted((address, name) for name, address in functions(elf).items())
    counts: Counter[str] = Counter()
    spans = []
    for line in output.splitlines():
        place, count = line.split()
        if place == "span":
            spans.append(int(count))
            continue
        index = bisect.bisect_right(starts, (int(place, 16), "\x7f")) - 1
        counts[starts[index][1] if index >= 0 else "?"] += int(count)
    return counts, spans


def mean_of_operations(program: Program, spans: list[int]) -> dict[str, int]:
    """operation -> instructions, the mean of all its times, rounded up."""
    operations = OPERATIONS.get(program.name, ())
    if len(spans) != sum(operation.times for operation in operations):
        raise Refused(f"{program.name} did {len(spans)} operations, which OPERATIONS does not have")
    means, first = {}, 0
    for operation in operations:
        means[operation.name] = -(-sum(spans[first : first + operation.times]) // operation.times)
        first += operation.times
    return means


def digests_of_host() -> dict[str, dict[str, str]]:
    """level -> workload -> digest, of this machine."""
    return by_level(run("cargo", "run", "--locked", "--quiet", "--release", "--package", "query-adapter-expected"))


def digests_of_target(target: Target) -> dict[str, dict[str, str]]:
    """level -> workload -> digest, by an emulator; nothing, said aloud, where it is not installed."""
    missing = [f"{target.linker} is not installed"] if target.linker and not shutil.which(target.linker) else []
    if target.linker:
        found = subprocess.run([EMULATOR, target.name], capture_output=True, text=True, check=False)
        runner = [found.stdout.strip(), "-L", f"/usr/{target.name}-linux-gnu"]
        missing += [found.stdout.strip()] if found.returncode != 0 else []
    else:
        runner = ["node", "--no-warnings", FIRMWARE / "wasi.mjs"]
        missing += [] if shutil.which("node") else ["node is not installed"]
    libraries = subprocess.run(
        ["rustc", "--print", "target-libdir", "--target", target.triple], capture_output=True, text=True, check=False
    ).stdout.strip()
    if not (libraries and Path(libraries).is_dir()):
        missing.append(f"the target {target.triple} is not installed")
    if missing:
        print(f"SKIPPED {target.name}: {'; '.join(missing)}")
        return {}
    key = target.triple.replace("-", "_").upper()
    settings = {"RUSTFLAGS": target.flags} | ({f"CARGO_TARGET_{key}_LINKER": target.linker} if target.linker else {})
    run(
        "cargo", "build", "--locked", "--quiet", "--release", "--package", "query-adapter-expected",
        "--target", target.triple, **settings,
    )
    suffix = ".wasm" if target.triple.startswith("wasm") else ""
    program = target_directory() / target.triple / "release" / f"query-adapter-expected{suffix}"
    return by_level(run(*runner, program))


def by_level(output: str) -> dict[str, dict[str, str]]:
    """level -> workload -> digest."""
    levels: dict[str, dict[str, str]] = {}
    for line in output.splitlines():
        level, workload, digest = line.split()
        levels.setdefault(level, {})[workload] = digest
    return levels


def differing(found: dict[str, dict[str, str]]) -> list[str]:
    """Which digests are not those that host-cli computes on this machine, one sentence each."""
    lines = "".join(
        f"# {who}\n" + "".join(f"{workload} {digest}\n" for workload, digest in digests.items())
        for who, digests in found.items()
    )
    done = subprocess.run(
        ["cargo", "run", "--locked", "--quiet", "--release", "--", "check", "--device-digests", "-"],
        cwd=FIRMWARE.parent, input=lines, capture_output=True, text=True, check=False,
    )
    if done.returncode not in (0, DIGESTS_DIFFER):
        raise Refused(f"host-cli check --device-digests exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return [line for line in done.stdout.splitlines() if "DIFFERS" in line]


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


def kernel_code(elf: Path) -> int:
    """Bytes of code that are the kernel's, or that hold some of it: all but what only a program has."""
    total = sections(elf).get(".text", 0)
    own = ("cortex_m_rt", "cortex_m_semihosting", "programs::print", "programs::report", "programs::stop", "stack::used_by", "workloads::digest", "workloads::numbers",
           "__syscall", "Reset", "DefaultHandler", "DefaultPreInit", "HardFault", "crc::")
    lines = (line.split(maxsplit=7) for line in run("readelf", "-sWC", elf).splitlines())
    for fields in lines:
        if len(fields) == 8 and fields[3] == "FUNC" and any(part in fields[7] for part in own):
            total -= int(fields[2])
    return total


def compiler() -> str:
    """`rustc 1.95.0`: without the commit and the date."""
    return " ".join(run("rustc", "--version").split()[:2])


Footprints = dict[str, dict[str, dict[str, int]]]
"""core -> program -> what -> number."""


def growth(found: Footprints, record: Footprints) -> list[str]:
    """What has grown too much, one sentence each."""
    wrong = []
    for core, programs in found.items():
        for program, numbers in programs.items():
            for what, number in numbers.items():
                allowed = record.get(core, {}).get(program, {}).get(what)
                if allowed is None:
                    wrong.append(f"{program} on {core}, {what}: no record; scripts/firmware.py --record")
                elif number > allowed * (1 + GROWTH):
                    wrong.append(f"{program} on {core}, {what}: {number:,}, more than 5 % over the record of {allowed:,}")
    return wrong


def memory_table(found: Footprints) -> str:
    """A row for each program; one that takes the same on several cores has one row for them."""
    rows = []
    for program in PROGRAMS:
        cores: dict[tuple[int, ...], list[str]] = {}
        for core, programs in found.items():
            cores.setdefault(tuple(programs[program.name][what] for what in MEMORY), []).append(core)
        for numbers, names in cores.items():
            who = ", ".join(name.removeprefix("Cortex-") for name in names)
            rows.append([program.name, who, *(f"{number:,}" for number in numbers)])
    return table(["program", "cores", *MEMORY], rows)


def operations_table(found: Footprints) -> str:
    """Instructions of each operation on each core, in all and for each of its multiply-adds; the stack of its workload."""
    rows = []
    for program, operations in OPERATIONS.items():
        for operation in operations:
            counts = [programs[program][operation.name] for programs in found.values()]
            shares = (f"{count:,} ({count / operation.multiply_adds:.2f})" for count in counts)
            stack = max(programs[program][f"stack of {operation.workload}"] for programs in found.values())
            rows.append([operation.name, f"{operation.multiply_adds:,}", *shares, f"{stack:,}"])
    return table(["operation", "multiply-adds", *found, "stack"], rows)


def shown_digests() -> dict[str, list[str]]:
    """The rows of README.md's table of digests: target -> digests, as SHOWN orders them."""
    rows, header = {}, "| | " + " | ".join(f"`{workload}`" for workload in SHOWN) + " |"
    _, found, rest = README.read_text(encoding="utf-8").partition(header + "\n")
    if not found:
        raise Refused(f"README.md has no table with this header: {header}")
    for line in rest.splitlines()[1:]:
        if not line.startswith("|"):
            break
        name, *digests = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
        rows[name] = digests
    return rows


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=TARGET, help=f"the compilation target [{TARGET}]")
    parser.add_argument("--targets", action="store_true", help="other processors and WebAssembly too")
    parser.add_argument("--record", action="store_true", help="write the record of sizes and instructions")
    options = parser.parse_args()
    target = options.target
    for tool in ("qemu-system-arm", "readelf"):
        if not shutil.which(tool):
            raise Refused(f"{tool} is not installed")

    wrong = []
    expected = digests_of_host()
    found = {f"this machine, {level}": digests for level, digests in expected.items()}
    if options.targets:
        for other in TARGETS:
            found |= {f"{other.name}, {level}": digests for level, digests in digests_of_target(other).items()}
    footprints: Footprints = {core: {} for core in COUNTED}
    executed = []
    with tempfile.TemporaryDirectory() as directory:
        plugin = build_counter(Path(directory))
        for machine in MACHINES:
            digests = found[f"{machine.core} in QEMU"] = {}
            for program in PROGRAMS:
                elf = build(program, machine, target)
                wrong += [f"{program.name} on {machine.core} can panic: {symbol}" for symbol in panics(elf)]
                counted = machine.core in COUNTED
                ended = run_in_qemu(program, machine, elf, *(plugin_option(plugin, elf) if counted else ()))
                more, stack = digests_of_device(ended.stdout)
                digests |= more
                if not counted:
                    continue
                counts, spans = executed_instructions(ended.stderr, elf)
                sizes = sections(elf)
                memory = (
                    sizes.get(".text", 0),
                    kernel_code(elf),
                    sizes.get(".rodata", 0),
                    sizes.get(".data", 0) + sizes.get(".bss", 0),
                    max(stack.values(), default=0),
                )
                footprints[machine.core][program.name] = (
                    dict(zip(MEMORY, memory))
                    | {f"stack of {workload}": number for workload, number in stack.items()}
                    | {"instructions": counts.total()}
                    | mean_of_operations(program, spans)
                )
                if machine is MACHINES[0]:
                    for name, count in counts.most_common():
                        if count >= SHOWN_SHARE * counts.total():
                            executed.append([program.name, f"`{name}`", f"{count:,}"])
    machine = MACHINES[0]
    for program in PROGRAMS:
        ended = run_in_qemu(program, machine, build(program._replace(profile=DEBUG_PROFILE, flags=""), machine, target))
        digests, stack = digests_of_device(ended.stdout)
        optimized = found[f"{machine.core} in QEMU"]
        wrong += [f"{workload} has another digest in a debug build" for workload in digests if digests[workload] != optimized[workload]]
        footprints[machine.core][program.name][DEBUG_STACK] = max(stack.values(), default=0)
    every_call = build(EVERY_CALL, MACHINES[0], target)
    wrong += [f"a function of the kernel can panic: {symbol}" for symbol in panics(every_call)]
    if not panics(build(PANICKING, MACHINES[0], target)):
        wrong.append("the check for panics does not find the one in the program that is there to be found")

    workloads = list(next(iter(expected.values())))
    wrong += differing(found)
    shown = shown_digests()
    for who, digests in found.items():
        name = who.replace("this machine, ", f"{os.uname().machine.replace('_', '-')}, ")
        expected_row = [digests.get(workload, "") for workload in SHOWN]
        if name not in shown:
            wrong.append(f"README.md has no digests of {name}: | {name} | " + " | ".join(f"`{d}`" for d in expected_row) + " |")
        elif shown[name] != expected_row:
            wrong.append(f"README.md has other digests of {name}")
    records = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    if options.record:
        records[compiler()] = footprints
        RECORD.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")
    elif compiler() in records:
        wrong += growth(footprints, records[compiler()])
    else:
        print(f"{compiler()} has no record in {RECORD.name}: sizes and instructions are not compared")
    rows = [[who, *(digests.get(workload, "missing") for workload in workloads)] for who, digests in found.items()]
    print(table(["", *workloads], rows))
    print()
    print(memory_table(footprints))
    print()
    print(operations_table(footprints))
    print()
    totals = [
        [program.name, *(f"{footprints[core][program.name]['instructions']:,}" for core in COUNTED)] for program in PROGRAMS
    ]
    print(table(["executed instructions", *COUNTED], totals))
    print()
    of_debug_builds = footprints[MACHINES[0].core]
    rows = [[name, f"{numbers['stack']:,}", f"{numbers[DEBUG_STACK]:,}"] for name, numbers in of_debug_builds.items()]
    print(table([MACHINES[0].core, "stack", DEBUG_STACK], rows))
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
