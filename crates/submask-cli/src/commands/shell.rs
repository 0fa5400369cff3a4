//! `submask completions` and `submask man`: what shells and `man` read, made of the definition that `--help` shows.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::failure::Failure;
use crate::output;

/// What the program is called by.
const NAME: &str = "submask";
/// How the examples of a verb begin in its help.
const EXAMPLES: &str = "Examples:\n";

/// Prints the script for a shell.
pub fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    output::write(&String::from_utf8_lossy(&script))
}

/// Prints a page, or writes all pages and prints their paths.
pub fn man(args: &ManArgs) -> Result<(), Failure> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let Some(folder) = &args.out else {
        return output::write(&page(verb(&program, &args.verb)?)?);
    };
    fs::create_dir_all(folder)
        .map_err(|error| Failure::failed(format!("cannot make {}: {error}", folder.display())))?;
    let mut written = Vec::new();
    write_pages(&program, folder, &mut written)?;
    let lines: String = written.iter().map(|path| format!("{}\n", path.display())).collect();
    output::write(&lines)
}

/// The command of the verb with these words; without any, the program itself.
fn verb<'a>(program: &'a Command, words: &[String]) -> Result<&'a Command, Failure> {
    words.iter().try_fold(program, |command, word| {
        command.find_subcommand(word).ok_or_else(|| {
            let names: Vec<&str> = shown(command).map(Command::get_name).collect();
            let of = command.get_bin_name().unwrap_or(NAME);
            let failure = Failure::usage(format!("`{of}` has no verb `{word}`"));
            match names.is_empty() {
                true => failure,
                false => failure.hint(format!("its verbs are {}", names.join(", "))),
            }
        })
    })
}

/// The verbs below a command that are not hidden.
fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set())
}

/// Writes the page of a command and those of the verbs below it.
fn write_pages(command: &Command, folder: &Path, written: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or(NAME);
    let path = folder.join(format!("{name}.1"));
    output::write_file(&path, page(command)?)?;
    written.push(path);
    shown(command).try_for_each(|verb| write_pages(verb, folder, written))
}

/// The manual page of a command, as roff.
fn page(command: &Command) -> Result<String, Failure> {
    let mut roff = Vec::new();
    sections(command, &mut roff).map_err(|error| {
        Failure::failed(format!("cannot make the page of {}: {error}", command.get_name()))
    })?;
    Ok(String::from_utf8_lossy(&roff).into_owned())
}

fn sections(command: &Command, roff: &mut Vec<u8>) -> io::Result<()> {
    let title = command.get_display_name().unwrap_or(NAME).to_uppercase();
    let source = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
    // The empty date is quoted here: without quotes what follows would take its place.
    Roff::new()
        .control("TH", [title.as_str(), "1", "\"\"", source.as_str(), "User Commands"])
        .to_writer(roff)?;
    let man = Man::new(command.clone());
    man.render_name_section(roff)?;
    man.render_synopsis_section(roff)?;
    man.render_description_section(roff)?;
    man.render_options_section(roff)?;
    if command.has_subcommands() {
        man.render_subcommands_section(roff)?;
    }
    match command.get_after_help() {
        Some(text) => as_it_stands(&text.to_string()).to_writer(roff),
        None => Ok(()),
    }
}

/// What stands below a help, line by line: filled as a paragraph, examples would run into each other.
fn as_it_stands(text: &str) -> Roff {
    let (title, body) = match text.strip_prefix(EXAMPLES) {
        Some(examples) => ("EXAMPLES", examples),
        None => ("NOTES", text),
    };
    let mut roff = Roff::new();
    roff.control("SH", [title]).control("nf", []);
    for line in body.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn completions_of_every_shell_know_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
            let script = String::from_utf8(script).unwrap();
            for verb in shown(&Cli::command()) {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
            assert!(script.contains("subtokens"), "{shell}");
        }
    }

    #[test]
    fn every_flag_that_is_shown_stands_in_its_page() {
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        let mut commands = vec![&program];
        while let Some(command) = commands.pop() {
            let page = page(command).unwrap();
            for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()) {
                let Some(long) = flag.get_long() else { continue };
                // Roff writes a hyphen as `\-`.
                let name = format!("--{long}").replace('-', "\\-");
                assert!(page.contains(&name), "{}: {name}", command.get_name());
            }
            commands.extend(shown(command));
        }
    }

    #[test]
    fn examples_keep_their_lines() {
        let text = as_it_stands("Examples:\n  submask train\n  submask info 'a b'").to_roff();
        assert!(text.starts_with(".SH EXAMPLES\n.nf\n"), "{text}");
        assert!(text.contains("  submask train\n"), "{text}");
        assert!(text.trim_end().ends_with(".fi"), "{text}");
    }
}
