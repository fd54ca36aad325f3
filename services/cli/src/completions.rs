//! `zibrato completions`: what a shell needs to complete commands and flags.

use std::process::ExitCode;

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};
use zibrato_service::run_main;

use crate::args::Cli;
use crate::paint::print;

/// Prints a completion script for a shell, of `zibrato` or of another of its programs.
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

    /// The program.
    #[arg(value_enum, default_value_t = Program::Zibrato)]
    program: Program,
}

/// A program of zibrato.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[value(rename_all = "kebab-case")]
enum Program {
    Zibrato,
    ZibratoBroker,
    ZibratoGateway,
    ZibratoLibrato,
    ZibratoLocal,
}

impl Program {
    fn command(self) -> Command {
        match self {
            Self::Zibrato => Cli::command(),
            Self::ZibratoBroker => zibrato_broker::Args::command(),
            Self::ZibratoGateway => zibrato_gateway::Args::command(),
            Self::ZibratoLibrato => zibrato_worker::cli::Args::command(),
            Self::ZibratoLocal => zibrato_local::Args::command(),
        }
    }
}

pub(crate) fn main(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    let mut command = args.program.command();
    let name = command.get_name().to_owned();
    generate(args.shell, &mut command, name, &mut script);
    // What clap generates is text.
    run_main("zibrato completions", || Ok(print(&String::from_utf8_lossy(&script))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_completes_under_its_own_name() {
        for program in Program::value_variants() {
            let name = program.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(Some(program.command().get_name().to_owned()), name);
        }
    }
}
