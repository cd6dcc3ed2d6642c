//! `docs/cli.md` knows every flag and every key.

use clap::CommandFactory as _;
use host_cli::options::Options;
use serde_json::Value;

use crate::support::Folder;

fn page() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
    std::fs::read_to_string(page).expect("the page is there")
}

/// The sections of the page by their headings.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) =
        page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap_or(rest)
}

#[test]
fn every_command_and_flag_is_described() {
    let page = page();
    for command in Options::command().get_subcommands() {
        let section = section(&page, &format!("`{}`", command.get_name()));
        for argument in command.get_arguments() {
            if let Some(flag) = argument.get_long().filter(|flag| !["help", "version"].contains(flag)) {
                assert!(section.contains(&format!("--{flag}")), "{}: --{flag}", command.get_name());
            }
            for value in argument.get_possible_values() {
                let name = format!("`{}`", value.get_name());
                let boolean = argument.get_num_args().is_none_or(|range| !range.takes_values());
                assert!(boolean || page.contains(&name), "{}: {name}", command.get_name());
            }
        }
    }
}

/// Adds the keys of all objects in `value`.
fn collect<'a>(value: &'a Value, keys: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                keys.push(key);
                collect(value, keys);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

#[test]
fn every_key_of_every_json_object_is_described() {
    let page = page();
    let folder = Folder::with_adapter();
    for (section_name, words) in [
        ("`train`", "train train.json --test train.json --effort quick --control --force"),
        ("`train`", "train train.json --recipe single --test train.json --force"),
        ("`compare`", "compare a.qad --dataset test.json --train train.json"),
        ("`explain`", "explain train.json -a a.qad --query q1-4-0"),
        ("`inspect`", "inspect a.qad"),
    ] {
        let section = section(&page, section_name);
        let report = folder.json(words);
        let mut keys = Vec::new();
        collect(&report, &mut keys);
        assert!(!keys.is_empty());
        for key in keys {
            let family = key.split_once('@').map_or(key.to_owned(), |(measure, _)| format!("{measure}@k"));
            let described = [key, &family].iter().any(|name| section.contains(&format!("`{name}`")));
            assert!(described, "{words}: {key}");
        }
    }
}

#[test]
fn the_examples_are_what_the_commands_print() {
    let page = page();
    let folder = Folder::new();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    for command in [
        "train examples/data/train.json --test examples/data/test.json --embeddings examples/data -o handbook.qad",
        "evaluate examples/data/test.json --embeddings examples/data --adapter handbook.qad",
        "compare handbook.qad --dataset examples/data/test.json --embeddings examples/data --train examples/data/train.json --metrics ndcg@10",
        "explain examples/data/test.json --adapter handbook.qad --query ferry-summer-timetable-q4 --embeddings examples/data --train examples/data/train.json --top 5",
        "inspect handbook.qad",
        "quantize handbook.qad --output small.qad",
    ] {
        let (_, example) = page.split_once(&format!("$ host-cli {command}\n")).expect(command);
        let example = example.split("\n```").next().unwrap_or(example);
        let stdout = folder.stdout(&command.replace("examples/", &format!("{root}/examples/")));
        // The time a fit takes differs, and so do the levels of another machine.
        let differs = |line: &str| line.starts_with("handbook.qad holds") || line.starts_with("golden pair");
        let lines = |text: &str| -> Vec<String> {
            let kept = text.lines().filter(|line| !line.starts_with("note: ") && !differs(line));
            kept.map(ToOwned::to_owned).collect()
        };
        assert_eq!(lines(example), lines(&stdout), "docs/cli.md: {command}: it prints\n{stdout}");
    }
}

#[test]
fn the_exit_codes_are_those_of_the_help_text() {
    let help = Folder::new().stdout("--help");
    for part in [
        "0 success",
        "2 usage",
        "3 input data refused",
        "4 output exists",
        "5 numerical refusal",
        "6 no gain",
    ] {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(part), "{part}: {help}");
    }
}
