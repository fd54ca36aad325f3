//! Flags of `zibrato-jsonl`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{FileConfig, Jsonl, Output};
use crate::backend::Backend;
use crate::cli::{BackendArgs, Context};

/// Default of `--rotate-mib`.
pub const ROTATE_MIB_DEFAULT: u64 = 64;
const ROTATE_MIB_MAX: u64 = 1_048_576;
/// Default of `--keep`.
pub const KEEP_DEFAULT: u32 = 5;
const KEEP_MAX: u32 = 1_000;

/// A stream of JSON lines.
#[derive(Clone, Debug, clap::Args)]
pub struct JsonlArgs {
    /// File that lines are appended to. Default: standard output. It is opened again when it was moved away; no
    /// other process may write to it.
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,

    /// MiB after which the file becomes PATH.1 and a new one is begun, 0 to 1048576; 0 never does. A batch is not
    /// parted, and has 1 MiB at most.
    #[arg(long, value_name = "MIB", default_value_t = ROTATE_MIB_DEFAULT,
          value_parser = zibrato_service::whole_number::<u64>(0, ROTATE_MIB_MAX))]
    pub rotate_mib: u64,

    /// How many former files are kept, 1 to 1000, as PATH.1, the youngest, to PATH.N.
    #[arg(long, value_name = "FILES", default_value_t = KEEP_DEFAULT,
          value_parser = zibrato_service::whole_number::<u32>(1, KEEP_MAX))]
    pub keep: u32,
}

impl JsonlArgs {
    /// Where the lines go.
    ///
    /// # Errors
    ///
    /// [`JsonlArgsError`] names the path.
    pub fn resolve(&self) -> Result<Output, JsonlArgsError> {
        let Some(path) = &self.file else { return Ok(Output::Stdout) };
        let refused = |why| JsonlArgsError::File { path: path.clone(), why };
        let absolute = std::path::absolute(path).map_err(|_| refused("a path"))?;
        // One that is missing is made; one that cannot be looked at is tried again later.
        if absolute.metadata().is_ok_and(|metadata| !metadata.is_file()) || ends_in_a_directory(path) {
            return Err(refused("a regular file"));
        }
        Ok(Output::File(FileConfig { path: absolute, rotate_bytes: self.rotate_mib << 20, keep: self.keep }))
    }
}

impl BackendArgs for JsonlArgs {
    const NAME: &'static str = "jsonl";
    const ABOUT: &'static str = "Takes metrics from brokers and writes them as lines of JSON";
    type Error = JsonlArgsError;

    fn build(&self, context: &Context) -> Result<Arc<dyn Backend>, JsonlArgsError> {
        Ok(Arc::new(Jsonl::new(self.resolve()?, context.chosen.clone())))
    }
}

fn ends_in_a_directory(path: &Path) -> bool {
    path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Why flags are refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonlArgsError {
    /// It cannot be the file.
    #[error("--file {} is not {why}; give the path of a file, or leave it out for standard output", path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// What it should be.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Program;

    fn parse(args: &[&str]) -> Result<JsonlArgs, clap::Error> {
        let all = ["zibrato-jsonl", "--spool", "/tmp/none"].iter().chain(args);
        Program::<JsonlArgs>::try_parse(all).map(|program| program.backend)
    }

    #[test]
    fn without_a_file_lines_go_to_standard_output() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.resolve().unwrap(), Output::Stdout);
        assert_eq!((args.rotate_mib, args.keep), (64, 5));
    }

    #[test]
    fn a_file_is_named_in_full_and_must_be_one() {
        let args = parse(&["--file", "metrics.jsonl", "--rotate-mib", "1", "--keep", "2"]).unwrap();
        let Output::File(config) = args.resolve().unwrap() else { panic!() };
        assert!(config.path.is_absolute() && config.path.ends_with("metrics.jsonl"));
        assert_eq!((config.rotate_bytes, config.keep), (1 << 20, 2));
        for bad in ["/tmp", "/dev/null", "..", "new/"] {
            let error = parse(&["--file", bad]).unwrap().resolve().unwrap_err().to_string();
            assert!(error.contains("--file") && error.contains("standard output"), "{bad}: {error}");
        }
        assert!(parse(&["--file", ""]).is_err());
    }

    #[test]
    fn numbers_are_within_their_limits() {
        for (flag, good, bad) in
            [("--rotate-mib", ["0", "1048576"], ["-1", "1048577"]), ("--keep", ["1", "1000"], ["0", "1001"])]
        {
            assert!(good.iter().all(|value| parse(&[flag, value]).is_ok()), "{flag}");
            assert!(bad.iter().all(|value| parse(&[flag, value]).is_err()), "{flag}");
        }
    }
}
