//! A secret that no `Debug`, log or error shows.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 1_024;

/// A token or password. `Debug` does not show it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of 1 to 1024 bytes without control characters. Surrounding blanks are cut off.
    ///
    /// # Errors
    ///
    /// [`SecretError::Unusable`] with the rule, never with the text.
    pub fn new(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.is_empty() || text.len() > SECRET_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(SecretError::Unusable);
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads the secret from a file that holds nothing else.
    ///
    /// # Errors
    ///
    /// [`SecretError::File`] if the file cannot be read, [`SecretError::Unusable`] as in [`Secret::new`].
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::File { path: path.to_owned(), source };
        let mut text = String::new();
        // Twice the limit leaves room for blanks and still bounds what a wrong path can read.
        let mut file = std::fs::File::open(path).map_err(failed)?.take(2 * SECRET_BYTES_MAX as u64);
        file.read_to_string(&mut text).map_err(failed)?;
        Self::new(&text)
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug)]
pub struct SecretSource {
    file: Option<Arc<SecretFile>>,
    secret: Secret,
}

#[derive(Debug)]
struct SecretFile {
    path: PathBuf,
    read: Mutex<(Stamp, Secret)>,
}

/// What tells a file that was changed or replaced: device, inode, length, and when it was changed, in seconds and
/// nanoseconds.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl From<Secret> for SecretSource {
    fn from(secret: Secret) -> Self {
        Self { file: None, secret }
    }
}

impl SecretSource {
    /// A file that holds the secret alone. It is read again when it has changed.
    ///
    /// # Errors
    ///
    /// As [`Secret::from_file`].
    pub fn file(path: &Path) -> Result<Self, SecretError> {
        let stamp = stamp(path);
        let secret = Secret::from_file(path)?;
        let file = SecretFile { path: path.to_owned(), read: Mutex::new((stamp, secret.clone())) };
        Ok(Self { file: Some(Arc::new(file)), secret })
    }

    /// The secret as it is now. While its file cannot be read, the one that was read last.
    #[must_use]
    pub fn current(&self) -> Secret {
        let Some(file) = &self.file else { return self.secret.clone() };
        let mut read = file.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&file.path);
        if now != read.0 {
            match Secret::from_file(&file.path) {
                Ok(secret) => {
                    if secret != read.1 {
                        tracing::info!(file = %file.path.display(), "the token file has changed and was read again");
                    }
                    *read = (now, secret);
                }
                Err(error) => {
                    tracing::warn!(%error, "the token file has changed and cannot be used; the token read before is kept");
                    // Not again before it changes again.
                    read.0 = now;
                }
            }
        }
        read.1.clone()
    }
}

/// `None` if the file is not there. The time is that of the inode, which nobody can set back.
fn stamp(path: &Path) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.len(), file.ctime(), file.ctime_nsec()))
}

/// Why a secret is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It is empty, too long or not printable.
    #[error(
        "the token is not usable; give one line of 1 to {SECRET_BYTES_MAX} bytes without control characters"
    )]
    Unusable,
    /// The file cannot be read.
    #[error("cannot read the token file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_secret_is_trimmed_and_shown_nowhere() {
        let secret = Secret::new(" canary-71 \n").unwrap();
        assert_eq!(secret.expose(), "canary-71");
        assert_eq!(format!("{secret:?}"), "Secret(redacted)");
    }

    #[test]
    fn an_unusable_secret_is_refused_without_showing_it() {
        let long = "x".repeat(SECRET_BYTES_MAX + 1);
        for bad in ["", " \n", "two\nlines", long.as_str()] {
            let error = Secret::new(bad).unwrap_err();
            assert!(matches!(error, SecretError::Unusable) && !error.to_string().contains("two"));
        }
        assert!(Secret::new(&long[1..]).is_ok());
    }

    #[test]
    fn a_secret_file_holds_the_secret_and_a_missing_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "canary-72\n").unwrap();
        assert_eq!(Secret::from_file(&path).unwrap().expose(), "canary-72");
        let error = Secret::from_file(&directory.path().join("gone")).unwrap_err();
        assert!(matches!(&error, SecretError::File { .. }) && error.to_string().contains("gone"));
    }

    #[test]
    fn a_token_file_that_changes_is_read_again_and_one_that_breaks_keeps_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        // As a tool does that gives all files one time and puts each in place at once.
        let write = |text: &str| {
            let new = directory.path().join("new");
            let mut file = std::fs::File::create(&new).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        write("one");
        let source = SecretSource::file(&path).unwrap();
        assert_eq!(source.current().expose(), "one");
        write("two");
        assert_eq!(source.clone().current().expose(), "two");
        write(" ");
        assert_eq!(source.current().expose(), "two");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(source.current().expose(), "two");
        write("three");
        assert_eq!(source.current().expose(), "three");
        assert!(!format!("{source:?}").contains("three"));
    }
}
