//! `zibrato man`: the manual pages of all programs, from their flags.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use zibrato_service::run_main;

use crate::args::Cli;

/// Writes the manual pages of all zibrato programs into a directory.
///
/// Exit codes: 0 written, 1 a page cannot be written, 2 bad usage.
#[derive(Clone, Debug, Args)]
#[command(hide = true)]
pub(crate) struct ManualArgs {
    /// Directory; created if it is missing. Pages in it are replaced.
    directory: PathBuf,
}

pub(crate) fn main(args: &ManualArgs) -> ExitCode {
    run_main("zibrato man", || {
        let path = &args.directory;
        Ok(write_pages(path).map_err(|source| Error { path: path.clone(), source })?)
    })
}

fn write_pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for (name, command) in commands() {
        let source = format!("zibrato {}", env!("CARGO_PKG_VERSION"));
        let page = Man::new(command).title(&name).source(source).manual("Zibrato");
        page.render(&mut fs::File::create(directory.join(format!("{name}.1")))?)?;
    }
    Ok(())
}

/// Every command that is shown, with the name of its page.
fn commands() -> Vec<(String, Command)> {
    let mut commands = Vec::new();
    for program in programs() {
        let mut program = program.disable_help_subcommand(true);
        program.build();
        let name = program.get_name().to_owned();
        let shown = program.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
        commands.extend(shown.map(|command| (format!("{name}-{}", command.get_name()), command)));
        commands.push((name, program));
    }
    commands
}

/// The command line of every program.
pub(crate) fn programs() -> Vec<Command> {
    [Cli::command()].into_iter().chain(other_programs()).collect()
}

/// The command line of every program but this one, whose own parser asks for their names while it is built.
pub(crate) fn other_programs() -> Vec<Command> {
    let workers = zibrato_worker::backends::ALL.iter().map(|kind| (kind.command)());
    let others = [
        zibrato_broker::Args::command(),
        zibrato_gateway::Args::command(),
        zibrato_local::Args::command(),
        zibrato_worker::cli::many::WorkerArgs::command(),
    ];
    others.into_iter().chain(workers).collect()
}

/// Why pages are missing.
#[derive(Debug, thiserror::Error)]
#[error("cannot write manual pages into {}", path.display())]
struct Error {
    path: PathBuf,
    source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_each_of_its_flags() {
        let directory = tempfile::tempdir().unwrap();
        write_pages(&directory.path().join("man")).unwrap();
        let commands = commands();
        for expected in [
            "zibrato",
            "zibrato-send",
            "zibrato-broker",
            "zibrato-gateway",
            "zibrato-librato",
            "zibrato-local",
        ] {
            assert!(commands.iter().any(|(name, _)| name == expected), "{expected}");
        }
        for (name, command) in &commands {
            let page = fs::read_to_string(directory.path().join(format!("man/{name}.1"))).unwrap();
            assert!(page.contains(".SH DESCRIPTION"), "{name}");
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                if let Some(flag) = argument.get_long() {
                    // A page escapes hyphens, so that no line is broken at one.
                    let escaped = format!("\\-\\-{}", flag.replace('-', "\\-"));
                    assert!(page.contains(&escaped), "--{flag} in the page of {name}");
                }
                if let Some(variable) = argument.get_env().and_then(|variable| variable.to_str()) {
                    assert!(page.contains(variable), "{variable} in the page of {name}");
                }
            }
        }
        let page = fs::read_to_string(directory.path().join("man/zibrato.1")).unwrap();
        assert!(page.contains("Exit codes of every command:"), "{page}");
        let pages = fs::read_dir(directory.path().join("man")).unwrap().count();
        assert_eq!(pages, commands.len());
        assert!(!directory.path().join("man/zibrato-man.1").exists());
    }

    #[test]
    fn each_argument_of_each_command_has_a_help_text() {
        for (name, command) in commands() {
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string);
                let help = help.unwrap_or_else(|| panic!("{} of {name} has no help", argument.get_id()));
                assert!(!help.trim().is_empty(), "{} of {name}", argument.get_id());
            }
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().join("below");
        let source = write_pages(&path).unwrap_err();
        let error = Error { path, source }.to_string();
        assert!(error.starts_with("cannot write manual pages into") && error.contains("below"), "{error}");
    }
}
