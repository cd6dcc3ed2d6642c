//! `host-cli completions` and `host-cli man`: what the argument parser knows, for shells and for `man`.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::claims::Claim;
use crate::failure::Failure;
use crate::files::write_atomically;
use crate::options::Options;

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsOptions {
    /// The shell that is to complete commands and flags
    pub shell: Shell,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub struct ManOptions {
    /// Folder to write a page for each command to; without it the page of the program goes to stdout
    #[arg(long, short, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Overwrite pages that exist
    #[arg(long, requires = "output")]
    pub force: bool,
}

/// The completion script of a shell.
///
/// # Errors
///
/// [`Failure::Other`] when the script is no text.
pub fn completions(options: &CompletionsOptions) -> Result<String, Failure> {
    let mut command = Options::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    text(script)
}

/// Writes the pages; returns what to print on stdout.
///
/// # Errors
///
/// [`Failure::Output`] when the folder is missing, or a page exists already or cannot be written.
pub fn man(options: &ManOptions) -> Result<String, Failure> {
    let mut command = Options::command();
    command.build();
    let Some(folder) = &options.output else { return text(page(&command, Path::new("stdout"))?) };
    let mut pages = Vec::new();
    let commands = command.get_subcommands().filter(|command| command.get_name() != "help");
    for command in core::iter::once(&command).chain(commands) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let file = folder.join(format!("{name}.1"));
        let page = page(command, &file)?;
        pages.push((Claim::take(&file, options.force)?, file, page));
    }
    for (_, file, page) in &pages {
        write_atomically(file, options.force, |out| out.write_all(page))?;
    }
    Ok(format!("{} holds {} pages\n", folder.display(), pages.len()))
}

fn page(command: &clap::Command, file: &Path) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let rendered: io::Result<()> = Man::new(command.clone()).render(&mut page);
    rendered.map_err(|error| Failure::unwritable(file, &error))?;
    Ok(page)
}

fn text(bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| anyhow::Error::from(error).into())
}
