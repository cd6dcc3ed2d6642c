//! Runs that are stopped, and go on.

use core::time::Duration;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::support::{DIM, Data, Folder, text};

const SIGKILL: i32 = 9;

/// What the runs of these tests write.
const OUTPUT: &str = "a.qad";
const CHECKPOINT: &str = "run.ckpt";

/// A training run without its outputs, and pauses that stretch it beyond five seconds.
struct Run {
    name: &'static str,
    words: &'static str,
    pauses: &'static str,
}

const SINGLE: Run = Run {
    name: "single",
    words: "--recipe single --epochs 40 --batch-size 8 --average --threads 2",
    pauses: "step=15,save=20",
};

const REFERENCE: Run = Run {
    name: "reference",
    words: "--recipe reference --epochs 40 --lr 0.01 --bias --threads 2",
    pauses: "step=15,save=20",
};

const SECOND_ORDER: Run = Run {
    name: "second-order",
    words: "--validation test.json --optimizer sgd --precondition 3 --lr 0.03 --epochs 40 --batch-size 10",
    pauses: "step=15,save=20",
};

const AUTO: Run =
    Run { name: "auto", words: "--effort quick --control --threads 2", pauses: "fit=40,save=20" };

impl Run {
    fn folder(&self) -> Folder {
        let folder = Folder::with_data();
        if self.name == "auto" {
            folder.write("train.json", Data::new(40, DIM, 1).json(true));
        }
        folder
    }

    fn command(&self, folder: &Folder, flags: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_host-cli"));
        command.current_dir(folder.path("")).arg("train").arg("train.json");
        command.args(self.words.split_whitespace()).args(["-o", OUTPUT]).args(flags.split_whitespace());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// The bytes that the run gives when nothing disturbs it.
    fn expected(&self) -> Vec<u8> {
        let folder = self.folder();
        let output = self.command(&folder, "").output().expect("run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        folder.read(OUTPUT)
    }

    /// Begins it, or goes on with it, slowed down and saving all the time.
    fn begin(&self, folder: &Folder) -> Child {
        let flags = format!("--checkpoint {CHECKPOINT} --checkpoint-every 0 --resume");
        let mut command = self.command(folder, &flags);
        command.env("QUERY_ADAPTER_TEST_PAUSES", self.pauses).spawn().expect("run")
    }

    /// Goes on with it to its end, and returns its notes.
    fn finish(&self, folder: &Folder, expected: &[u8]) -> String {
        let flags = format!("--checkpoint {CHECKPOINT} --resume");
        let output = self.command(folder, &flags).output().expect("run");
        let notes = text(&output.stderr);
        assert!(output.status.success(), "{}: {notes}", self.name);
        assert!(folder.read(OUTPUT) == expected, "{}: other bytes than without an interruption", self.name);
        notes
    }

    /// Ends a run by SIGKILL some time after its first save, `in_save` or anywhere, and lets another process finish it.
    /// None where the machine was too fast or too slow for it: the run had ended, or its save had.
    fn survives_kill(&self, after: Duration, in_save: bool, expected: &[u8]) -> Option<Survival> {
        let folder = self.folder();
        let mut child = self.begin(&folder);
        if !after.is_zero() {
            wait_until(&mut child, || folder.exists(CHECKPOINT));
        }
        thread::sleep(after);
        if in_save {
            comes(&mut child, || !partial(&folder).is_empty());
        }
        child.kill().expect("killed");
        let status = child.wait().expect("ended");
        if status.signal() != Some(SIGKILL) {
            assert!(status.success() && folder.read(OUTPUT) == expected, "{}: {status}", self.name);
            return None;
        }
        let partial = partial(&folder);
        assert!(partial.len() <= 1, "{}: {partial:?}", self.name);
        let in_a_save = !partial.is_empty();
        assert!(!folder.exists(OUTPUT));
        let notes = self.finish(&folder, expected);
        let resumed = notes.contains("note: --resume: the run goes on ");
        (in_a_save || !in_save).then_some(Survival { in_a_save, resumed })
    }
}

/// A run that was killed, and finished by another process.
struct Survival {
    in_a_save: bool,
    /// Whether that process found a checkpoint.
    resumed: bool,
}

/// Files that are written at this moment, or were when their process ended.
fn partial(folder: &Folder) -> Vec<String> {
    let is_partial =
        |name: &String| name.starts_with(&format!(".{CHECKPOINT}.")) && name.ends_with(".partial");
    folder.entries().into_iter().filter(is_partial).collect()
}

/// Waits for something that a process does. One that ends instead, or does nothing for minutes, is a failure.
pub(crate) fn wait_until(child: &mut Child, so: impl Fn() -> bool) {
    assert!(comes(child, so), "it ended before");
}

/// Waits for something that a process does; false if it ends instead.
fn comes(child: &mut Child, so: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(300), "nothing happens");
        if child.try_wait().expect("its status").is_some() {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

fn signal(child: &Child, name: &str) {
    let kill =
        Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().expect("run");
    assert!(kill.success());
}

/// One run killed again and again, by each process a little further; what survives each time is finished beside it.
#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_bytes() {
    for run in [SINGLE, REFERENCE, SECOND_ORDER, AUTO] {
        let (expected, folder) = (run.expected(), run.folder());
        let mut found = String::new();
        for kill in 0..4_u64 {
            let mut child = run.begin(&folder);
            let before = fs::read(folder.path(CHECKPOINT)).unwrap_or_default();
            // Until it has gone on by a save, then for a while, then into a save every other time.
            wait_until(&mut child, || fs::read(folder.path(CHECKPOINT)).is_ok_and(|now| now != before));
            thread::sleep(Duration::from_millis(37 * kill));
            let in_save = kill % 2 == 0;
            let known = partial(&folder);
            if in_save {
                wait_until(&mut child, || partial(&folder) != known);
            }
            child.kill().expect("killed");
            assert_eq!(child.wait().expect("ended").signal(), Some(SIGKILL), "{}: it ended before", run.name);

            let beside = run.folder();
            beside.write(CHECKPOINT, folder.read(CHECKPOINT));
            let notes = run.finish(&beside, &expected);
            let note = notes.lines().find(|line| line.starts_with("note: --resume: the run goes on "));
            let note = note.unwrap_or_else(|| panic!("{}: {notes}", run.name)).to_owned();
            assert_ne!(note, found, "{}: each process takes it further", run.name);
            found = note;
        }
        run.finish(&folder, &expected);
    }
}

/// The long form: fifty processes, each killed at its own moment of a run of more than five seconds.
#[test]
#[ignore = "takes half a minute; `.ci/run` runs it"]
fn fifty_kills_spread_over_a_run_lose_nothing() {
    for run in [SINGLE, AUTO] {
        let expected = run.expected();
        let started = Instant::now();
        let folder = run.folder();
        let mut child = run.begin(&folder);
        wait_until(&mut child, || folder.exists(CHECKPOINT));
        let first_save = Instant::now();
        let mut saves_for = Duration::ZERO;
        while comes(&mut child, || !partial(&folder).is_empty()) {
            saves_for = first_save.elapsed();
            thread::sleep(Duration::from_millis(1));
        }
        assert!(child.wait().expect("ended").success());
        let whole = started.elapsed();
        assert!(whole >= Duration::from_secs(5), "the run is to be stretched: {whole:?}");
        assert!(folder.read(OUTPUT) == expected);

        // Eight at a time: they mostly sleep.
        let moments: Vec<u32> = (0..50).collect();
        let (mut resumed, mut in_saves) = (0, 0);
        for some in moments.chunks(8) {
            let survivals: Vec<Survival> = thread::scope(|scope| {
                let kills: Vec<_> = some
                    .iter()
                    .map(|&moment| {
                        let (run, expected, in_save) = (&run, &expected, moment % 5 < 2 && moment > 0);
                        let mut after = saves_for * moment / 50;
                        // A run that was ahead of its moment is met earlier.
                        let kill = move || loop {
                            match run.survives_kill(after, in_save, expected) {
                                Some(survival) => return survival,
                                None => after = after * 9 / 10,
                            }
                        };
                        scope.spawn(kill)
                    })
                    .collect();
                kills.into_iter().map(|kill| kill.join().expect("survived")).collect()
            });
            resumed += survivals.iter().filter(|survival| survival.resumed).count();
            in_saves += survivals.iter().filter(|survival| survival.in_a_save).count();
        }
        println!(
            "{}: 50 kills over {:.1} s, {in_saves} in a save, {resumed} went on from a checkpoint, 50 times the same bytes",
            run.name,
            whole.as_secs_f64()
        );
        assert!(in_saves >= 15 && resumed >= 49, "{in_saves} in a save, {resumed} resumed");
    }
}

#[test]
fn ctrl_c_and_sigterm_save_and_have_their_own_exit_codes() {
    for (run, name, code) in [(SINGLE, "INT", 130), (SINGLE, "TERM", 143), (AUTO, "INT", 130)] {
        let folder = run.folder();
        let flags = format!("--checkpoint {CHECKPOINT} --checkpoint-every 3600 --log run.jsonl");
        let mut command = run.command(&folder, &flags);
        let mut child = command.env("QUERY_ADAPTER_TEST_PAUSES", run.pauses).spawn().expect("run");
        let begun = || fs::read_to_string(folder.path("run.jsonl")).is_ok_and(|log| log.lines().count() > 1);
        wait_until(&mut child, begun);
        signal(&child, name);
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        let expected = format!(
            "error: stopped by SIG{name}; {CHECKPOINT} holds the run: the same command with --resume goes on"
        );
        assert!(text(&output.stderr).lines().any(|line| line == expected), "{}", text(&output.stderr));
        assert!(!folder.exists(OUTPUT) && partial(&folder).is_empty());
        let notes = run.finish(&folder, &run.expected());
        assert!(notes.contains("note: --resume: the run goes on "), "{notes}");
    }
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let folder = SINGLE.folder();
    let mut command = SINGLE.command(&folder, &format!("--checkpoint {CHECKPOINT} --log run.jsonl"));
    let mut child = command.env("QUERY_ADAPTER_TEST_PAUSES", "step=600000").spawn().expect("run");
    wait_until(&mut child, || {
        fs::read_to_string(folder.path("run.jsonl")).is_ok_and(|log| log.contains("\"step\""))
    });
    signal(&child, "INT");
    // The first is not answered within the pause, so what ends the process is the second.
    thread::sleep(Duration::from_millis(100));
    assert_eq!(child.try_wait().expect("its status"), None);
    signal(&child, "INT");
    let output = child.wait_with_output().expect("ended");
    assert_eq!(output.status.code(), Some(130));
    let seen = |name: &String| !name.starts_with('.');
    assert_eq!(
        folder.entries().into_iter().filter(seen).collect::<Vec<_>>(),
        ["run.jsonl", "test.json", "train.json"]
    );
}

#[test]
fn ctrl_c_without_a_checkpoint_leaves_nothing_and_says_how_to_have_one() {
    for run in [SINGLE, AUTO] {
        let folder = run.folder();
        let mut command = run.command(&folder, "--log run.jsonl");
        let mut child = command.env("QUERY_ADAPTER_TEST_PAUSES", run.pauses).spawn().expect("run");
        wait_until(&mut child, || fs::read(folder.path("run.jsonl")).is_ok_and(|log| !log.is_empty()));
        signal(&child, "INT");
        let output = child.wait_with_output().expect("ended");
        assert_eq!(output.status.code(), Some(130));
        let stderr = text(&output.stderr);
        assert!(
            stderr.ends_with(
                "error: stopped by SIGINT; nothing was written: with --checkpoint FILE a run can be resumed\n"
            ),
            "{stderr}"
        );
        assert_eq!(folder.entries(), ["run.jsonl", "test.json", "train.json"]);
        let log = text(&folder.read("run.jsonl"));
        let last: Value = serde_json::from_str(log.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["event"], "failed", "{log}");
    }
}

/// A folder with the checkpoint of an interrupted run.
fn interrupted(run: &Run) -> Folder {
    let folder = run.folder();
    let mut child = run.begin(&folder);
    wait_until(&mut child, || folder.exists(CHECKPOINT));
    child.kill().expect("killed");
    child.wait().expect("ended");
    // What only a process that was killed leaves.
    for name in folder.entries().iter().filter(|name| name.starts_with('.')) {
        fs::remove_file(folder.path(name)).expect("removed");
    }
    folder
}

#[test]
fn a_checkpoint_of_another_run_or_a_damaged_one_is_refused() {
    let folder = interrupted(&SINGLE);
    let resume = format!("train train.json -o {OUTPUT} --checkpoint {CHECKPOINT} --resume -q");
    let words = SINGLE.words;
    let anew = "leave --resume out and give --force to begin anew";
    for (changed, found) in [
        (words.replace("--epochs 40", "--epochs 41"), "--epochs 40, this one has --epochs 41"),
        (format!("{words} --lr 0.01"), "--lr 0.0005, this one has --lr 0.01"),
        (format!("{words} --seed 1"), "--seed 0, this one has --seed 1"),
        (words.replace("--average", ""), "--average true, this one has --average false"),
    ] {
        let parts = [CHECKPOINT, ": the checkpoint is of a run with ", found, "give the same settings", anew];
        folder.refuses(&format!("{resume} {changed}"), 3, &parts);
    }
    folder.refuses(
        &format!("{resume} {words} --validation test.json"),
        3,
        &["is of a run whose training data have other queries; give the data that it is of", anew],
    );
    // Without --resume it would be lost.
    folder.refuses(
        &format!("train train.json -o {OUTPUT} --checkpoint {CHECKPOINT} {words}"),
        4,
        &[CHECKPOINT, "exists already; give --resume to go on from it, or --force to overwrite it"],
    );
    let whole = folder.read(CHECKPOINT);
    let train = text(&folder.read("train.json"));
    folder.write("train.json", train.replace("question 1 about subject 1-3\"", "question 1\""));
    folder.refuses(&format!("{resume} {words}"), 3, &["whose training data have other queries", anew]);
    folder.write("train.json", train);
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 4;
    folder.write(CHECKPOINT, damaged);
    folder.refuses(
        &format!("{resume} {words}"),
        3,
        &[CHECKPOINT, "is damaged: its checksum does not fit", anew],
    );
    folder.write(CHECKPOINT, &whole[..whole.len() - 1]);
    folder.refuses(&format!("{resume} {words}"), 3, &[CHECKPOINT, "is damaged"]);
    folder.write(CHECKPOINT, "");
    folder.refuses(
        &format!("{resume} {words}"),
        3,
        &[CHECKPOINT, "no checkpoint of a training run; name another"],
    );
    folder.write(CHECKPOINT, &whole);
    SINGLE.finish(&folder, &SINGLE.expected());
}

#[test]
fn a_run_that_is_over_is_resumed_to_the_same_bytes_and_a_log_goes_on() {
    for run in [SINGLE, AUTO] {
        let folder = run.folder();
        let flags = format!("--checkpoint {CHECKPOINT} --log run.jsonl --resume");
        let output = run.command(&folder, &flags).output().expect("run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        let notes = text(&output.stderr);
        assert!(
            notes.contains("note: --resume: there is no run.ckpt yet, the run starts from its beginning"),
            "{notes}"
        );
        let (expected, log) = (folder.read(OUTPUT), folder.read("run.jsonl"));
        fs::remove_file(folder.path(OUTPUT)).expect("removed");
        // As if the process had been killed within a line.
        folder.write("run.jsonl", [&log[..], b"{\"event\": \"st"].concat());
        let output = run.command(&folder, &flags).output().expect("run");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(folder.read(OUTPUT) == expected);
        let both = folder.read("run.jsonl");
        assert!(both.starts_with(&log) && both.len() > log.len());
        // Nothing was done a second time.
        let added = text(both.get(log.len()..).expect("more"));
        assert!(
            !["\"trial\"", "\"step\"", "\"round\""]
                .iter()
                .any(|event| added.contains(&format!("\"event\":{event}"))),
            "{added}"
        );
        for line in text(&both).lines() {
            serde_json::from_str::<Value>(line).expect("JSON");
        }
    }
}

/// Goes on with an interrupted run where its checkpoint cannot be saved any more.
fn assert_kept(folder: &Folder, saved: &[u8], output: &std::process::Output, problems: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    let errors: Vec<_> = stderr.lines().filter(|line| !line.starts_with("note: ")).collect();
    let [error] = errors[..] else { panic!("expected one line: {stderr}") };
    assert!(error.starts_with(&format!("error: {CHECKPOINT}: ")), "{error}");
    assert!(problems.iter().any(|problem| error.contains(problem)), "{error}");
    assert!(folder.read(CHECKPOINT) == saved, "the checkpoint is another one");
    assert!(!folder.exists(OUTPUT) && partial(folder).is_empty(), "{:?}", folder.entries());
    SINGLE.finish(folder, &SINGLE.expected());
}

#[test]
fn a_checkpoint_survives_a_file_that_may_not_grow() {
    let folder = interrupted(&SINGLE);
    let saved = folder.read(CHECKPOINT);
    let command =
        SINGLE.command(&folder, &format!("--checkpoint {CHECKPOINT} --checkpoint-every 0 --resume"));
    // Without the trap the system would end the process instead of refusing the write.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"]).arg(command.get_program());
    limited.args(command.get_args()).current_dir(folder.path(""));
    let output = limited.output().expect("run");
    assert!(saved.len() > 1024, "more than the limit: {}", saved.len());
    assert_kept(&folder, &saved, &output, &["cannot be written: File too large"]);
}

/// Mounts a file system of so many kilobytes; false where this process may not.
fn mount(kilobytes: u32, at: &Path) -> bool {
    let size = format!("size={kilobytes}k");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
    mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_checkpoint_survives_a_full_disk() {
    let source = interrupted(&SINGLE);
    let folder = Folder::new();
    let at = folder.path("");
    if !mount(256, &at) {
        eprintln!("SKIPPED: this process may not mount a file system");
        return;
    }
    let mounted = Mounted(&at);
    for name in ["train.json", "test.json", CHECKPOINT] {
        folder.write(name, source.read(name));
    }
    let saved = folder.read(CHECKPOINT);
    let filler = fs::File::create(folder.path("filler")).expect("a file");
    // All that is left, byte by byte at the end.
    for size in [4096, 1] {
        while std::io::Write::write_all(&mut &filler, &vec![0; size]).is_ok() {}
    }
    let flags = format!("--checkpoint {CHECKPOINT} --checkpoint-every 0 --resume");
    let output = SINGLE.command(&folder, &flags).output().expect("run");
    drop(filler);
    let full = folder.read("filler");
    fs::remove_file(folder.path("filler")).expect("removed");
    assert!(full.len() > 1024);
    assert_kept(&folder, &saved, &output, &["No space left on device"]);
    drop(mounted);
}

#[test]
fn a_checkpoint_survives_a_folder_that_becomes_read_only() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;

    const NOBODY: u32 = 65_534;
    let folder = SINGLE.folder();
    let path = folder.path("");
    let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    set_mode(0o755);
    let flags = format!("--checkpoint {CHECKPOINT} --checkpoint-every 0");
    let mut command = SINGLE.command(&folder, &flags);
    command.env("QUERY_ADAPTER_TEST_PAUSES", SINGLE.pauses);
    // No mode keeps the superuser from writing.
    if fs::metadata(&path).expect("there").uid() == 0 {
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("chown");
        command.uid(NOBODY).gid(NOBODY);
    }
    let Ok(mut child) = command.spawn() else {
        eprintln!("SKIPPED: another user may not run this program");
        return;
    };
    wait_until(&mut child, || folder.exists(CHECKPOINT));
    set_mode(0o555);
    let output = child.wait_with_output().expect("ended");
    let saved = folder.read(CHECKPOINT);
    // A save that had its file open already ends with the next one.
    let leftovers = partial(&folder);
    set_mode(0o755);
    for name in leftovers {
        fs::remove_file(folder.path(&name)).expect("removed");
    }
    assert_kept(&folder, &saved, &output, &["no permission to write to the folder .", "Permission denied"]);
}
