//! Settings of `train` from a file, and settings written down: the keys of a TOML document are the long flags.
//!
//! There is one list of flags, the argument parser's: a key becomes the flag before the command line is parsed, unless the
//! command line has the flag itself or one that excludes it.

use core::any::TypeId;
use core::error::Error as _;
use core::num::ParseIntError;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory as _, FromArgMatches as _};
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use crate::failure::Failure;
use crate::options::{self, Options};

/// Options about the options of `train`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigOptions {
    /// TOML file with settings: the long flags of this command as keys, and `train` for the data set; a flag beats the file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the settings as they stand, as a file for --config, and do nothing else
    #[arg(long)]
    pub print_config: bool,
    /// Read everything, print what would be done and the memory that it would take, and write nothing
    #[arg(long, conflicts_with = "json")]
    pub dry_run: bool,
    /// All flags that have a value, in the order of the help; filled in by [`parse`].
    #[arg(skip)]
    pub given: Vec<Setting>,
}

/// The flags of [`ConfigOptions`], which are no settings.
const NO_SETTINGS: [&str; 3] = ["config", "print-config", "dry-run"];

/// The key of the data set, which has no flag.
const DATA_SET: &str = "train";

/// A long flag and its value as TOML has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The flag without its dashes.
    pub key: String,
    /// A TOML value.
    pub literal: String,
}

impl Setting {
    fn new(key: &str, literal: impl Into<String>) -> Self {
        Self { key: key.to_owned(), literal: literal.into() }
    }
}

/// Settings as lines of TOML.
#[must_use]
pub fn document(settings: &[Setting]) -> String {
    settings.iter().map(|Setting { key, literal }| format!("{key} = {literal}\n")).collect()
}

/// The entries of a JSON object of settings under the names of their flags, also those of objects in it, but for what is
/// null.
#[must_use]
pub fn flat(settings: &Value) -> Vec<(String, Value)> {
    let mut entries = Vec::new();
    let mut stack = vec![("settings", settings)];
    while let Some((name, value)) = stack.pop() {
        match value {
            Value::Null => {}
            // What an object is named after is its kind.
            Value::Object(object) => stack.extend(
                object
                    .iter()
                    .rev()
                    .map(|(key, value)| (if key == "kind" { name } else { key.as_str() }, value)),
            ),
            value => entries.push((name.replace('_', "-"), value.clone())),
        }
    }
    entries
}

/// The same as settings.
#[must_use]
pub fn flat_settings(settings: &Value) -> Vec<Setting> {
    let setting = |(key, value): (String, Value)| match value {
        Value::String(text) => Setting::new(&key, quoted(&text)),
        value => Setting::new(&key, value.to_string()),
    };
    flat(settings).into_iter().map(setting).collect()
}

/// `settings` with `others` in their places, all in the order of the help.
#[must_use]
pub fn overlaid(mut settings: Vec<Setting>, others: Vec<Setting>) -> Vec<Setting> {
    for other in others {
        match settings.iter_mut().find(|setting| setting.key == other.key) {
            Some(setting) => *setting = other,
            None => settings.push(other),
        }
    }
    let command = train_command();
    let place = |setting: &Setting| {
        command.get_arguments().position(|arg| arg.get_long().unwrap_or(DATA_SET) == setting.key)
    };
    settings.sort_by_key(place);
    settings
}

/// Parses a command line; the settings of a file that `train --config` names are part of it.
///
/// # Errors
///
/// The failures of the file; the inner ones are the argument parser's.
pub fn parse(arguments: Vec<OsString>) -> Result<Result<Options, clap::Error>, Failure> {
    let arguments = with_file(arguments)?;
    let parsed = Options::command().try_get_matches_from(arguments).and_then(|matches| {
        let mut options = Options::from_arg_matches(&matches)?;
        if let (options::Command::Train(train), Some(("train", matches))) =
            (&mut options.command, matches.subcommand())
        {
            train.configuration.given = given(matches);
        }
        Ok(options)
    });
    Ok(parsed)
}

/// The command line with the settings of its `--config` file.
fn with_file(mut arguments: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let lenient = Options::command().ignore_errors(true).try_get_matches_from(&arguments);
    let Ok(lenient) = lenient else { return Ok(arguments) };
    let Some(("train", matches)) = lenient.subcommand() else { return Ok(arguments) };
    let Some(file) = matches.try_get_one::<PathBuf>("config").ok().flatten() else { return Ok(arguments) };
    let Some(place) = arguments.iter().position(|argument| argument == "train") else { return Ok(arguments) };

    let command = train_command();
    let from_command_line = |arg: &Arg| {
        matches.value_source(arg.get_id().as_str()).is_some_and(|source| source == ValueSource::CommandLine)
    };
    let beaten = |arg: &Arg| {
        let excludes = |a: &Arg, b: &Arg| {
            command.get_arg_conflicts_with(a).into_iter().any(|other| other.get_id() == b.get_id())
        };
        let given = command.get_arguments().filter(|other| from_command_line(other));
        from_command_line(arg) || given.into_iter().any(|other| excludes(other, arg) || excludes(arg, other))
    };
    let mut added = Vec::new();
    for (arg, argument) in read(file, &command)? {
        if !beaten(arg) {
            added.extend(argument);
        }
    }
    arguments.splice(place + 1..place + 1, added);
    Ok(arguments)
}

/// `train` as the argument parser has it.
fn train_command() -> Command {
    let mut command = Options::command();
    command.build();
    command.find_subcommand("train").cloned().unwrap_or(command)
}

/// The keys of a file in their order, as arguments; none for a flag that is false.
fn read<'a>(file: &Path, command: &'a Command) -> Result<Vec<(&'a Arg, Option<OsString>)>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| Failure::unreadable(file, &error))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let refuse = |at: usize, problem: String| {
        let line = 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
        Failure::Usage(format!("{}: line {line}: {problem}", file.display()))
    };
    let document = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        refuse(at, format!("this is no TOML: {}", error.message().replace('\n', " ")))
    })?;
    let mut entries: Vec<_> = document.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut arguments = Vec::new();
    for (key, value) in entries {
        let at = key.span().start;
        let name = key.get_ref().replace('_', "-");
        let named = |arg: &&Arg| match arg.get_long() {
            Some(long) => long == name,
            None => arg.is_positional() && name == DATA_SET,
        };
        if name == "config" {
            return Err(refuse(at, "a file cannot name another one; leave \"config\" out".to_owned()));
        }
        let arg = command.get_arguments().find(named).filter(|_| !["help", "version"].contains(&&*name));
        let arg = arg.ok_or_else(|| {
            let known = nearest(&name, command);
            let problem = format!(
                "unknown key \"{}\", expected the long flag of a setting without its dashes{known}",
                key.get_ref()
            );
            refuse(at, problem)
        })?;
        let argument = argument(arg, &name, value.get_ref()).map_err(|problem| refuse(at, problem))?;
        arguments.push((arg, argument));
    }
    Ok(arguments)
}

/// Known keys that begin as `name` does.
fn nearest(name: &str, command: &Command) -> String {
    let common = |flag: &&str| flag.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let flags = command.get_arguments().filter_map(Arg::get_long);
    let flags = flags.filter(|flag| !["config", "help", "version"].contains(flag));
    match flags.max_by_key(common).filter(|flag| common(flag) >= 3) {
        Some(flag) => format!(", as {flag}; see `host-cli train --help`"),
        None => "; see `host-cli train --help`".to_owned(),
    }
}

/// What a flag is followed by.
#[derive(PartialEq, Eq)]
enum Takes {
    Nothing,
    Text,
    Number,
}

impl Takes {
    fn of(arg: &Arg) -> Self {
        let value = arg.get_value_parser().type_id();
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            Self::Nothing
        } else if value == TypeId::of::<String>()
            || value == TypeId::of::<PathBuf>()
            || !arg.get_possible_values().is_empty()
        {
            Self::Text
        } else {
            Self::Number
        }
    }
}

/// The argument that an entry of a file stands for, checked by itself.
fn argument(arg: &Arg, name: &str, value: &DeValue<'_>) -> Result<Option<OsString>, String> {
    let takes = Takes::of(arg);
    let expected = match takes {
        Takes::Nothing => "true or false",
        Takes::Text => "a string",
        Takes::Number => "a number",
    };
    let text = match (value, takes) {
        (DeValue::Boolean(false), Takes::Nothing) => return Ok(None),
        (DeValue::Boolean(true), Takes::Nothing) => return Ok(Some(format!("--{name}").into())),
        (DeValue::String(text), Takes::Text) => text.to_string(),
        (DeValue::Integer(number), Takes::Number) if number.radix() == 10 => number.as_str().to_owned(),
        (DeValue::Float(number), Takes::Number) => number.as_str().to_owned(),
        (value, _) => {
            let found = match value.type_str() {
                kind @ ("integer" | "array") => format!("an {kind}"),
                kind => format!("a {kind}"),
            };
            return Err(format!("\"{name}\" is {found}, expected {expected}"));
        }
    };
    if arg.is_positional() {
        return Ok(Some(text.into()));
    }
    let argument = format!("--{name}={text}");
    // Only what is wrong with the value by itself; what is wrong with all of them comes later.
    match Options::command().try_get_matches_from(["host-cli", "train", "train.json", &argument]) {
        Err(error) if error.kind() == ErrorKind::InvalidValue => {
            let values = arg.get_possible_values();
            let values: Vec<_> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
            let expected = match values.is_empty() {
                true => "a string that is not empty".to_owned(),
                false => format!("one of {}", values.join(", ")),
            };
            Err(format!("\"{name}\" is {}, expected {expected}", quoted(&text)))
        }
        Err(error) if error.kind() == ErrorKind::ValueValidation => {
            let why = match error.source() {
                // Its own words say nothing of what is expected.
                Some(why) if why.is::<ParseIntError>() => {
                    "expected a whole number, 0 or more, without a point".to_owned()
                }
                Some(why) => why.to_string(),
                None => "it is out of range".to_owned(),
            };
            Err(format!("\"{name}\" is {text}: {why}"))
        }
        _ => Ok(Some(argument.into())),
    }
}

/// All flags that have a value, defaults included.
fn given(matches: &ArgMatches) -> Vec<Setting> {
    let command = train_command();
    let mut settings = Vec::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        let key = arg.get_long().unwrap_or(DATA_SET);
        let Some(source) = matches.value_source(id).filter(|_| !NO_SETTINGS.contains(&key)) else { continue };
        let Some(raw) = matches.get_raw(id).and_then(|mut raw| raw.next()) else { continue };
        let raw = raw.to_string_lossy();
        let literal = match Takes::of(arg) {
            Takes::Nothing => matches.get_flag(id).to_string(),
            Takes::Text => quoted(&raw),
            Takes::Number => number(&raw),
        };
        // A default that counts only beside another flag cannot stand by itself.
        let alone = ["host-cli", "train", "train.json", &format!("--{key}={raw}")];
        if source == ValueSource::DefaultValue
            && Takes::of(arg) != Takes::Nothing
            && Options::command().try_get_matches_from(alone).is_err()
        {
            continue;
        }
        settings.push(Setting::new(key, literal));
    }
    settings
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A number as TOML has it, which asks for digits on both sides of a point.
fn number(text: &str) -> String {
    let is_number = |value: &DeValue<'_>| value.is_integer() || value.is_float();
    match DeValue::parse(text) {
        Ok(value) if is_number(value.get_ref()) => text.to_owned(),
        _ => text.parse::<f64>().map_or_else(|_| quoted(text), |value| format!("{value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &str) -> Vec<OsString> {
        words.split_whitespace().map(Into::into).collect()
    }

    /// The command line after a file with this text.
    fn with(text: &str, words: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("train.toml");
        fs::write(&file, text).expect("written");
        let mut arguments = arguments(words);
        arguments.extend(["--config".into(), file.into()]);
        let merged = with_file(arguments).map_err(|failure| failure.to_string())?;
        let words = merged.len() - 2;
        Ok(merged.into_iter().take(words).map(|word| word.into_string().expect("UTF-8")).collect())
    }

    /// Every long flag of `train` with a value that it takes.
    fn value_of(arg: &Arg) -> &'static str {
        let values = arg.get_possible_values();
        match (Takes::of(arg), arg.get_long()) {
            (Takes::Nothing, _) => "true",
            (Takes::Text, _) if !values.is_empty() => match arg.get_long() {
                Some("recipe") => "\"single\"",
                Some("effort") => "\"quick\"",
                Some("optimizer") => "\"sgd\"",
                Some("schedule") => "\"cosine\"",
                Some("negatives") => "\"corpus\"",
                Some("simd") => "\"scalar\"",
                other => panic!("a value of {other:?}"),
            },
            (Takes::Text, _) => "\"some text\"",
            (Takes::Number, Some("batch-size" | "epochs" | "seed" | "warmup" | "threads" | "log-every")) => {
                "3"
            }
            (Takes::Number, Some(flag)) if flag.starts_with("request") => "3",
            (Takes::Number, _) => "0.5",
        }
    }

    #[test]
    fn every_long_flag_of_train_can_be_given() {
        let command = train_command();
        let mut count = 0;
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long().filter(|long| !["config", "help", "version"].contains(long))
            else {
                continue;
            };
            let value = value_of(arg);
            let merged = with(&format!("{long} = {value}"), "host-cli train x.json").expect(long);
            let expected = match value {
                "true" => format!("--{long}"),
                value => format!("--{long}={}", value.trim_matches('"')),
            };
            assert_eq!(merged, ["host-cli", "train", &expected, "x.json"]);
            // Also with underscores, as other tools have it.
            let key = long.replace('-', "_");
            assert_eq!(with(&format!("{key} = {value}"), "host-cli train x.json").expect(long), merged);
            count += 1;
        }
        assert!(count > 40, "{count}");
    }

    #[test]
    fn a_flag_beats_the_file_and_so_does_one_that_excludes_it() {
        let text = "train = \"a.json\"\nlr = 0.1\nbias = true\naverage = false\nno-cache = true\n";
        let merged = |words: &str| with(text, words).expect("merged").join(" ");
        assert_eq!(merged("host-cli train"), "host-cli train a.json --lr=0.1 --bias --no-cache");
        assert_eq!(
            merged("host-cli train b.json --lr 0.2 --cache folder"),
            "host-cli train --bias b.json --lr 0.2 --cache folder"
        );
        assert_eq!(
            merged("host-cli evaluate b.json"),
            "host-cli evaluate b.json",
            "no setting of this command"
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        for (text, expected) in [
            (
                "lr = 0.1\nepoch = 3\n",
                "line 2: unknown key \"epoch\", expected the long flag of a setting without its dashes, as epochs; see `host-cli train --help`",
            ),
            (
                "\n\nxyz = 3\n",
                "line 3: unknown key \"xyz\", expected the long flag of a setting without its dashes; see `host-cli train --help`",
            ),
            (
                "help = true",
                "line 1: unknown key \"help\", expected the long flag of a setting without its dashes; see",
            ),
            ("config = \"other.toml\"", "line 1: a file cannot name another one; leave \"config\" out"),
            ("epochs = \"16\"", "line 1: \"epochs\" is a string, expected a number"),
            ("# more\nepochs = 0", "line 2: \"epochs\" is 0: 0 is not in 1..=100000"),
            (
                "epochs = 8.0",
                "line 1: \"epochs\" is 8.0: expected a whole number, 0 or more, without a point",
            ),
            ("seed = -1", "line 1: \"seed\" is -1: expected a whole number, 0 or more, without a point"),
            ("output = \"\"", "line 1: \"output\" is \"\", expected a string that is not empty"),
            ("lr = -1", "line 1: \"lr\" is -1: expected a finite number, 0 or more"),
            ("lr = nan", "line 1: \"lr\" is nan: expected a finite number, 0 or more"),
            (
                "recipe = \"magic\"",
                "line 1: \"recipe\" is \"magic\", expected one of auto, single, reference",
            ),
            ("bias = 1", "line 1: \"bias\" is an integer, expected true or false"),
            ("output = 3", "line 1: \"output\" is an integer, expected a string"),
            ("seed = [1, 2]", "line 1: \"seed\" is an array, expected a number"),
            ("[train]\nseed = 1", "line 1: \"train\" is a table, expected a string"),
            ("seed = 1\nseed = 2", "line 2: this is no TOML: duplicate key"),
            ("seed 1", "line 1: this is no TOML: "),
        ] {
            let problem = with(text, "host-cli train x.json").expect_err(text);
            assert!(problem.contains("train.toml: "), "{problem}");
            assert!(problem.contains(expected), "{text}: {problem}");
        }
        let arguments = arguments("host-cli train x.json --config there/is/none.toml");
        let failure = with_file(arguments).expect_err("no such file");
        assert_eq!(failure.to_string(), "there/is/none.toml: there is no such file; check the path");
    }

    #[test]
    fn values_are_written_as_toml() {
        assert_eq!(
            ["3", "1e-8", ".5", "inf", "5.", "18446744073709551615"].map(number),
            ["3", "1e-8", "0.5", "inf", "5.0", "18446744073709551615"]
        );
        assert_eq!(quoted("a \"b\" \\ \n"), toml::Value::from("a \"b\" \\ \n").to_string());
        let settings = serde_json::json!({"a_b": 1, "c": null, "d": {"kind": "x", "e": true}});
        let expected =
            [("a-b", "1"), ("e", "true"), ("d", "\"x\"")].map(|(key, value)| Setting::new(key, value));
        assert_eq!(flat_settings(&settings), expected);
    }
}
