//! Exit codes and the one line that says why a program failed.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::Shutdown;

/// The exit code of a clean stop.
pub const EXIT_OK: u8 = 0;
/// The exit code of a failure.
pub const EXIT_FAILURE: u8 = 1;
/// The exit code of bad usage or configuration, which is clap's own code.
pub const EXIT_USAGE: u8 = 2;

/// How long blocking work may hold up the end of a process whose service has returned.
const RUNTIME_STOP_MAX: Duration = Duration::from_secs(1);

/// Why a main ends, with its exit code.
///
/// Any error becomes a failure with code 1 through `?`; [`Failure::usage`] makes one with code 2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// Bad usage or configuration: exit code 2.
    pub fn usage(error: impl Error) -> Self {
        Self { code: EXIT_USAGE, text: chain(&error) }
    }

    /// The exit code: [`EXIT_FAILURE`] or [`EXIT_USAGE`].
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: EXIT_FAILURE, text: chain(&error) }
    }
}

// `Failure` is no `Error` itself, which is what allows the conversion above.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Runs a main. An error is printed once, with its sources, as `NAME: error: ...` on one line of
/// stderr.
pub fn run_main(name: &str, main: impl FnOnce() -> Result<(), Failure>) -> ExitCode {
    match main() {
        Ok(()) => ExitCode::from(EXIT_OK),
        Err(failure) => {
            // A closed stderr must not turn an exit code into a panic.
            let _ = writeln!(io::stderr(), "{name}: error: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Runs a service's main on a multi-threaded tokio runtime, with a [`Shutdown`] that SIGTERM and
/// SIGINT raise. After `main` returned, blocking work left behind gets one second.
pub fn run_service<F>(name: &str, main: impl FnOnce(Shutdown) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Failure>>,
{
    run_main(name, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let result = runtime.block_on(async {
            let shutdown = Shutdown::new();
            shutdown.spawn_on_signals()?;
            main(shutdown).await
        });
        runtime.shutdown_timeout(RUNTIME_STOP_MAX);
        result
    })
}

/// An error and its sources on one line, separated by `: `. A source whose text the error before
/// it already contains is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] io::Error);

    fn outer() -> Outer {
        Outer(io::Error::other("disk\n  is full\n"))
    }

    fn same(left: ExitCode, code: u8) -> bool {
        format!("{left:?}") == format!("{:?}", ExitCode::from(code))
    }

    #[test]
    fn an_error_and_its_source_are_one_line() {
        assert_eq!(chain(&outer()), "cannot open the store: disk is full");
        assert_eq!(Failure::from(outer()).to_string(), "cannot open the store: disk is full");
    }

    #[test]
    fn a_source_that_the_text_already_contains_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read: {0}")]
        struct Repeats(#[source] io::Error);
        assert_eq!(chain(&Repeats(io::Error::other("gone"))), "cannot read: gone");
    }

    #[test]
    fn the_exit_code_tells_a_clean_stop_a_failure_and_bad_usage_apart() {
        assert!(same(run_main("zibrato-test", || Ok(())), EXIT_OK));
        assert!(same(run_main("zibrato-test", || Err(outer())?), EXIT_FAILURE));
        assert!(same(run_main("zibrato-test", || Err(Failure::usage(outer()))), EXIT_USAGE));
    }

    #[test]
    fn a_service_stops_by_the_shutdown_it_is_given_and_its_result_becomes_the_exit_code() {
        let stopped = run_service("zibrato-test", async |shutdown| {
            shutdown.request();
            shutdown.requested().await;
            Ok(())
        });
        assert!(same(stopped, EXIT_OK));
        assert!(same(run_service("zibrato-test", async |_| Err(outer())?), EXIT_FAILURE));
    }
}
