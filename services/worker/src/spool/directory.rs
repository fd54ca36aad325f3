//! Where the spool lies unless `--spool` says so.

use std::ffi::OsString;
use std::path::PathBuf;

use super::digest;

/// The spool directory of a worker that was given none: `$STATE_DIRECTORY`, else
/// `$XDG_STATE_HOME/zibrato/<binary>-<hash>`, else `~/.local/state/zibrato/<binary>-<hash>`.
///
/// The hash covers endpoints, levels and URL, so that workers of different tasks do not meet. It does not
/// under `$STATE_DIRECTORY`: a service manager gives each service its own.
///
/// # Errors
///
/// [`NoStateDirectory`] if none of the three variables is set.
pub fn default_directory(
    binary: &str,
    endpoints: &[String],
    levels: &[String],
    url: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, NoStateDirectory> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = set("STATE_DIRECTORY") {
        // The service manager lists several state directories separated by colons; the first is ours.
        let first = path.to_str().and_then(|text| text.split(':').next()).map(PathBuf::from);
        return Ok(first.unwrap_or(path));
    }
    let home = set("XDG_STATE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))
        .ok_or(NoStateDirectory)?;
    let mut levels = levels.to_vec();
    levels.sort();
    let lists = [endpoints.join(","), levels.join(","), url.to_owned()];
    let parts: Vec<&[u8]> = lists.iter().map(|list| list.as_bytes()).collect();
    Ok(home.join("zibrato").join(format!("{binary}-{:016x}", digest(&parts))))
}

/// There is no home to put the spool into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no place for the spool: STATE_DIRECTORY, XDG_STATE_HOME and HOME are unset; give --spool DIRECTORY")]
pub struct NoStateDirectory;

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(set: &[(&str, &str)], levels: &[&str], url: &str) -> Result<PathBuf, NoStateDirectory> {
        let levels: Vec<_> = levels.iter().map(|level| (*level).to_owned()).collect();
        let variable =
            |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        default_directory("zibrato-librato", &["tcp://127.0.0.1:5551".to_owned()], &levels, url, variable)
    }

    #[test]
    fn the_spool_goes_to_the_state_directory_then_xdg_then_home() {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(directory(&[], &["info"], "u"), Err(NoStateDirectory));
        let home = directory(&[("HOME", "/h"), ("XDG_STATE_HOME", "")], &["info"], "u").unwrap();
        assert_eq!(home.parent().unwrap(), "/h/.local/state/zibrato");
        assert!(name(&home).starts_with("zibrato-librato-") && name(&home).len() == 32);
        let xdg = directory(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x")], &["info"], "u").unwrap();
        assert_eq!(xdg, PathBuf::from("/x/zibrato").join(name(&home)));
        let state =
            directory(&[("XDG_STATE_HOME", "/x"), ("STATE_DIRECTORY", "/s:/t")], &["info"], "u").unwrap();
        assert_eq!(state, PathBuf::from("/s"));
    }

    #[test]
    fn workers_of_different_tasks_do_not_meet() {
        let set = [("HOME", "/h")];
        let one = directory(&set, &["info", "debug"], "u").unwrap();
        assert_eq!(directory(&set, &["debug", "info"], "u").unwrap(), one);
        assert_ne!(directory(&set, &["info"], "u").unwrap(), one);
        assert_ne!(directory(&set, &["info", "debug"], "v").unwrap(), one);
    }
}
