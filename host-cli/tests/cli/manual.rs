//! `completions` and `man`.

use clap::CommandFactory as _;
use host_cli::options::Options;

use crate::support::{Folder, text};

const OUTPUT: i32 = 4;

fn commands() -> Vec<String> {
    Options::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

#[test]
fn completions_know_every_command_and_flag() {
    let folder = Folder::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = folder.stdout(&format!("completions {shell}"));
        for word in commands().iter().map(String::as_str).chain(["checkpoint-every", "accept-uncertain"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    folder.run("completions cobol").assert().code(2);
}

#[test]
fn a_shell_takes_the_completions() {
    let folder = Folder::new();
    folder.write("completions.bash", folder.stdout("completions bash"));
    let Ok(bash) = std::process::Command::new("bash").arg("-n").arg(folder.path("completions.bash")).output()
    else {
        eprintln!("SKIPPED: there is no bash");
        return;
    };
    assert!(bash.status.success(), "{}", text(&bash.stderr));
}

#[test]
fn there_is_a_page_for_every_command() {
    let folder = Folder::new();
    let page = folder.stdout("man");
    assert!(page.contains(".TH host-cli 1") && page.contains("Exit codes: 0 success"), "{page}");
    std::fs::create_dir(folder.path("man1")).expect("a folder");
    let expected = format!("man1 holds {} pages\n", commands().len() + 1);
    assert_eq!(folder.stdout("man --output man1"), expected);
    for command in commands() {
        let page = text(&folder.read(&format!("man1/host-cli-{command}.1")));
        assert!(page.contains(&format!(".TH host-cli-{command} 1")), "{page}");
    }
    assert!(text(&folder.read("man1/host-cli-train.1")).contains("checkpoint"));
    folder.refuses(
        "man --output man1",
        OUTPUT,
        &["host-cli.1: exists already; give --force to overwrite it"],
    );
    assert_eq!(folder.stdout("man --output man1 --force"), expected);
    folder.refuses("man --output gone", OUTPUT, &["the folder gone does not exist; create it first"]);
}
