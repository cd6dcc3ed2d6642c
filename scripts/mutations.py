#!/usr/bin/env python3
"""Seeds one fault after another into a copy of the repository and says which tests notice.

usage: scripts/mutations.py [--all] [NAME ...]
       scripts/mutations.py --check

Each fault is one line of the kernel, replaced in the copy only. The kernel's unit tests, its integration tests and
`host-cli check` run in this order until one fails; with --all they all run. A fault that none of them notices fails the
script. With --check nothing is built: the list must fit the source. Builds go to the copy's own target folder. Needs nothing
beyond Python's own library and cargo.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# name: (file, line as it is, line with the fault). The old text must occur exactly once.
FAULTS = {
    "sign of the projection": (
        "kernel/src/normalize.rs", "s.mul(dot, s.splat(-1.0))", "s.mul(dot, s.splat(1.0))"),
    "bias read one column early": (
        "kernel/src/tile.rs", "self.panels.get(panel * self.stride() + self.depth).filter", "self.panels.get(panel * self.stride() + self.depth - 1).filter"),
    "n² for n": (
        "kernel/src/train/norm.rs", "let norm = math::sqrt(math::max(0.0, squares));", "let norm = math::max(0.0, squares);"),
    "mask missing in the sum": (
        "kernel/src/cross_entropy.rs",
        "        let active = s.mask(rows.live & !masked.at(candidate));\n        let score",
        "        let active = s.mask(rows.live | (masked.at(candidate) & rows.live));\n        let score"),
    "masked candidates keep a gradient": (
        "kernel/src/cross_entropy.rs", "s.select(active, s.mul(p, a), zero)", "s.select(active, s.mul(p, a), s.mul(p, a))"),
    "swapped betas": (
        "kernel/src/adam.rs",
        "            beta1: optimizer.beta1,\n            one_minus_beta1: 1.0 - optimizer.beta1,",
        "            beta1: optimizer.beta2,\n            one_minus_beta1: 1.0 - optimizer.beta2,"),
    "power of the wrong beta": (
        "kernel/src/adam.rs", "self.beta2_power * optimizer.beta2", "self.beta2_power * optimizer.beta1"),
    "bias gets no gradient": (
        "kernel/src/train/gradient.rs", "    if shape.bias && column >= shape.in_dim {", "    if false {"),
    "decay after the step": (
        "kernel/src/adam.rs",
        "    s.fma(s.splat(u.minus_step), ratio, decayed)",
        "    let stepped = s.fma(s.splat(u.minus_step), ratio, weight);\n"
        "    let _ = decayed;\n"
        "    s.fma(s.splat(u.minus_decay), s.sub(stepped, s.sub(weight, offset)), stepped)"),
    "decay toward zero for the identity": (
        "kernel/src/train/update.rs", "                *one = 1.0;", "                *one = 0.0;"),
    "shares of rows one row too far": (
        "kernel/src/tile.rs", "        let mut done = rows.start;", "        let mut done = rows.start + usize::from(rows.start > 0);"),
    "columns behind the last whole run of four left out": (
        "kernel/src/tile.rs", "    for k in done..depth {", "    for k in done..depth / RUN * RUN {"),
    "the best documents not looked for where there is room": (
        "kernel/src/retrieve.rs", "held.select_nth_unstable_by(last, Found::best_first);", "_ = last;"),
    "documents from afar begin their sums anew": (
        "kernel/src/train/candidates.rs", "let begun = self.begun || at > 0;", "let begun = self.begun || (at > 0 && !far);"),
    "the order of documents held lost": (
        "kernel/src/retrieve.rs", "        self.rise(self.len, found);\n        self.len += 1;", "        self.len += 1;"),
    "columns behind the last whole run left out": (
        "kernel/src/train/update.rs", "            acc = more_rows(s, rest, query_rest, acc);", "            let _ = (rest, query_rest);"),
    "sixteen columns updated twice": (
        "kernel/src/train/update.rs", ".enumerate().skip(done) {", ".enumerate().skip(done.saturating_sub(LANES)) {"),
    "the next row's weight": (
        "kernel/src/cross_entropy.rs",
        "for (lane, &weight) in rows.weights.iter().take(LANES).enumerate() {",
        "for (lane, &weight) in rows.weights.iter().cycle().skip(1).take(rows.weights.len()).enumerate() {"),
    "scale missing in the gradient": (
        "kernel/src/cross_entropy.rs", "(weight * rows.scale) / rows.total_weight", "weight / rows.total_weight"),
    "mean over rows, not over weights": (
        "kernel/src/train/queries.rs", "let mean = sum / self.total_weight;", "let mean = sum / rows as f32;"),
    "clipping without its 1e-6": (
        "kernel/src/adam.rs", "math::min(1.0, max_norm / (norm + 1e-6))", "math::min(1.0, max_norm / norm)"),
    "eps not corrected for bias": (
        "kernel/src/adam.rs",
        "s.div(m, s.fma(root, s.splat(u.r2), s.splat(u.eps)))",
        "s.div(m, s.mul(s.add(root, s.splat(u.eps)), s.splat(u.r2)))"),
    "warm-up one step ahead": (
        "kernel/src/schedule.rs", "return ratio(step, self.warmup);", "return ratio(step + 1, self.warmup);"),
    "bias column missing in the Gram norm": (
        "kernel/src/train/norm.rs",
        "        if bias {\n            for k in &mut k {",
        "        if false {\n            for k in &mut k {"),
    "a Gram block that should be turned over is not": (
        "kernel/src/train/norm.rs", "block_to_lanes(s, &turned, block);", "*block = turned;"),
    "Gram products of a later panel added first": (
        "kernel/src/train/norm.rs", "for before in [true, false] {", "for before in [false, true] {"),
    "the other panels of a group are the first": (
        "kernel/src/tile.rs",
        "        for (lanes, panel) in lanes.iter_mut().zip(panels) {",
        "        for (lanes, panel) in lanes.iter_mut().zip([panels[0]; P]) {"),
    "chains of later documents begun anew": (
        "kernel/src/train/candidates.rs", "let begun = self.begun || at > 0;", "let begun = self.begun;"),
    "a thread's candidates counted from the block's first": (
        "kernel/src/train/candidates.rs", "Self { scores: b, first, ..self })", "Self { scores: b, first: self.first.min(first), ..self })"),
    "a thread's columns taken from the first on": (
        "kernel/src/train/candidates.rs", "pack_columns(documents, out_dim, first + column, tile);",
        "pack_columns(documents, out_dim, first.min(column) + column, tile);"),
    "chains of a later block begun anew": (
        "kernel/src/tile.rs", "let acc = if begun {", "let acc = if false {"),
    "ln of a subnormal number not scaled": (
        "kernel/src/math.rs", "        if !x.is_normal() || x < 0.0 {", "        if x <= 0.0 || !x.is_finite() {"),
    "the last panel's outputs one row late": (
        "kernel/src/linear.rs", "for (output, lanes) in outputs.chunks_exact_mut(out_dim.max(1)).zip(&buffer) {",
        "for (output, lanes) in outputs.chunks_exact_mut(out_dim.max(1)).zip(buffer.iter().cycle().skip(1)) {"),
    "a panel emitted as its neighbour": (
        "kernel/src/tile.rs", "self.put(s, first, done, products);", "self.put(s, first + P - 1, done, products);"),
    "an unfused multiply-add": (
        "kernel/src/simd.rs", "a.mul_add_precise(b, c)", "a * b + c"),
    "a polynomial coefficient of exp off by 1e-5": (
        "kernel/src/math.rs", "0.041_668_39,", "0.041_678_39,"),
    "no limit on the gradient": (
        "kernel/src/train.rs", "if largest <= GRADIENT_LIMIT { Ok(()) }", "if largest <= f32::MAX { Ok(()) }"),
    "the weight written before the refusal": (
        "kernel/src/train.rs",
        "        let (loss, zero_rows) = middle.check(scratch.states)?;",
        "        self.state = self.state.next(&self.optimizer);\n"
        "        let (loss, zero_rows) = middle.check(scratch.states)?;"),
    "masks of a block counted from its beginning": (
        "kernel/src/cross_entropy.rs",
        "    let zero = s.splat(0.0);\n    let mut masked = MaskedLanes::new(rows.mask, first);",
        "    let zero = s.splat(0.0);\n    let mut masked = MaskedLanes::new(rows.mask, 0);"),
    "the other thread's panels counted from the first": (
        "kernel/src/train/update.rs",
        "            first_panel: self.first_panel + at,",
        "            first_panel: self.first_panel,"),
    "the next batch transformed before the update": (
        "kernel/src/train/update.rs",
        "            self.update(pair.clone());\n"
        "            self.transform(pair, ahead.rows, 0, ahead.queries, ahead.outputs);",
        "            self.transform(pair.clone(), ahead.rows, 0, ahead.queries, ahead.outputs);\n"
        "            self.update(pair);"),
    "a tile that waits is forgotten": (
        "kernel/src/train/update.rs",
        "    if let Some(mut before) = waiting.and_then(|first| panel.tile(first, &mut anchor)) {",
        "    if let Some(mut before) = waiting.and_then(|first| panel.tile(first, &mut anchor)).filter(|_| false) {"),
    "a mode that loses subnormal numbers goes unnoticed": (
        "kernel/src/simd.rs", "    result_kept && operand_kept", "    result_kept || operand_kept || true"),
    "numbers that come more often are not drawn again": (
        "kernel/src/sample.rs", "if low >= n as u64 || low", "if true || low >= n as u64 || low"),
    "an infinite distance from the anchor let through": (
        "kernel/src/train.rs", "(decay > 0.0 || anchor > 1.0)", "decay > 0.0"),
    "the next batch where this one is": (
        "kernel/src/train.rs", "end_of(rest, next_len, !back)", "end_of(rest, next_len, back)"),
    "no batch goes ahead": (
        "kernel/src/train.rs", "(needed <= given).then_some", "(needed < given / 2).then_some"),
    "payload checksum not checked": (
        "kernel/src/image/payload.rs",
        "        check_crc(\"payload\", self.bytes, self.header.payload_crc)?;\n",
        ""),
}


# Less optimised than at home: what counts here is how soon the next fault can be tried.
FAST = ["--config", "profile.dev.package.query-adapter.opt-level=1"]
TEST = ["cargo", "test", "-q", *FAST, "-p", "query-adapter", "--features", "std,train,image"]
STAGES = {
    "unit tests": [*TEST, "--lib"],
    "integration tests": [*TEST, "--test", "*"],
    "`host-cli check`": ["cargo", "run", "-q", *FAST, "-p", "host-cli", "--", "check"],
}


def passes(copy, command):
    done = subprocess.run(command, cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if "could not compile" in done.stdout:
        sys.exit(f"the fault does not compile:\n{done.stdout[-3000:]}")
    return done.returncode == 0


def notice(copy, all_stages):
    """The stages that fail."""
    noticed = []
    for name, command in STAGES.items():
        if not passes(copy, command):
            noticed.append(name)
            if not all_stages:
                break
    return noticed


def faulty(name):
    """The file of a fault, its text, and its text with the fault."""
    if name not in FAULTS:
        sys.exit(f"{name}: no such fault; their names are in FAULTS")
    file, old, new = FAULTS[name]
    text = (ROOT / file).read_text()
    if text.count(old) != 1:
        sys.exit(f"{name}: the line occurs {text.count(old)} times in {file}; the list needs care")
    return file, text, text.replace(old, new)


def main():
    arguments = sys.argv[1:]
    if arguments == ["--check"]:
        for name in FAULTS:
            faulty(name)
        print(f"{len(FAULTS)} faults fit the source")
        return
    all_stages = "--all" in arguments
    chosen = [name for name in arguments if name != "--all"] or list(FAULTS)
    copy = pathlib.Path(tempfile.mkdtemp(prefix="mutations-"))
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    for name in filter(None, tracked.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    if not arguments and notice(copy, all_stages):
        sys.exit("the tests fail without a fault")
    missed = []
    print("| fault | noticed by |\n|---|---|", flush=True)
    for name in chosen:
        file, text, with_fault = faulty(name)
        (copy / file).write_text(with_fault)
        noticed = notice(copy, all_stages)
        print(f"| {name} | {', '.join(noticed) or '**nothing**'} |", flush=True)
        (copy / file).write_text(text)
        if not noticed:
            missed.append(name)
    shutil.rmtree(copy)
    print(f"\n{len(chosen) - len(missed)} of {len(chosen)} faults noticed")
    sys.exit(f"missed: {', '.join(missed)}" if missed else 0)


if __name__ == "__main__":
    main()
