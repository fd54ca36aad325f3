//! `zibrato completions`: what a shell needs to complete commands and flags.

use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;
use clap_complete::{Shell, generate};
use zibrato_service::{EXIT_USAGE, run_main};

use crate::manual::{other_programs, programs};
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
    #[arg(value_parser = PossibleValuesParser::new(names()), default_value = "zibrato")]
    program: String,
}

/// Leaked, which a parser asks for: a handful of names, once.
fn names() -> Vec<&'static str> {
    let others = other_programs();
    ["zibrato"]
        .into_iter()
        .chain(others.iter().map(|command| &*command.get_name().to_owned().leak()))
        .collect()
}

pub(crate) fn main(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    // The parser accepts no other.
    let named = programs().into_iter().find(|command| command.get_name() == args.program);
    let Some(mut command) = named else { return ExitCode::from(EXIT_USAGE) };
    generate(args.shell, &mut command, &args.program, &mut script);
    // What clap generates is text.
    run_main("zibrato completions", || Ok(print(&String::from_utf8_lossy(&script))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_there_once() {
        let mut names = names();
        assert!(names.contains(&"zibrato-librato") && names.contains(&"zibrato"));
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
