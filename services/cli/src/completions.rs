//! `zibrato completions`: what a shell needs to complete commands and flags.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};
use zibrato_service::run_main;

use crate::args::Cli;
use crate::paint::print;

/// Prints a completion script for a shell.
///
/// Load it at the start of the shell, for example with
///
///     source <(zibrato completions bash)
///
/// Exit codes: 0 printed, 1 the output cannot be written, 2 bad usage.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

pub(crate) fn main(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    generate(args.shell, &mut command, name, &mut script);
    // What clap generates is text.
    run_main("zibrato completions", || Ok(print(&String::from_utf8_lossy(&script))?))
}
