//! A file that lines are appended to, whole batches at a time.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::encode::{batch_start, is_torn_line};
use super::{response, status};
use crate::backend::Answer;

/// How much of a file is looked at at once for the end of a line.
const LOOK_BYTES: u64 = 65_536;

/// Where lines go, and when the file is exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// The file; it is made if it is missing.
    pub path: PathBuf,
    /// A batch that would make the file longer goes to a new one; 0 never does.
    pub rotate_bytes: u64,
    /// How many former files are kept, as `PATH.1` (the youngest) to `PATH.<keep>`; at least 1.
    pub keep: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct FileSink {
    config: FileConfig,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: (u64, u64),
    /// Nothing was written to it yet, so that its end is not known to be whole.
    fresh: bool,
}

/// What can grow and be cut back.
trait Tail: Write {
    /// Cuts it to so many bytes.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;
    /// Comes back when all that was written is on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

impl Tail for File {
    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl FileSink {
    pub(super) const fn new(config: FileConfig) -> Self {
        Self { config, open: None }
    }

    /// Appends a batch: all of it is on the disk, or the file is as before.
    pub(super) fn write(&mut self, id: &str, text: &[u8]) -> Answer {
        match self.append(id, text) {
            Ok(()) => response(status::WRITTEN, ""),
            Err(error) => {
                // What could not be cut off is cut off when it is opened again.
                self.open = None;
                Answer::NotSent(format!("cannot write {}: {error}", self.config.path.display()))
            }
        }
    }

    fn append(&mut self, id: &str, text: &[u8]) -> io::Result<()> {
        let path = self.config.path.clone();
        // Somebody may have moved it away, as logrotate does.
        if self.open.as_ref().is_some_and(|open| file_id(&path).is_none_or(|id| id != open.id)) {
            self.open = None;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&path)?,
        };
        if open.fresh {
            mend(&mut open.file, id, text.len() as u64)?;
        }
        let length = open.file.metadata()?.len();
        let limit = self.config.rotate_bytes;
        if limit > 0 && length > 0 && length + text.len() as u64 > limit {
            rotate(&self.config)?;
            open = Open::new(&path)?;
        }
        let length = open.file.metadata()?.len();
        write_or_cut(&mut open.file, length, text)?;
        open.fresh = false;
        self.open = Some(open);
        Ok(())
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let is_new = !path.try_exists()?;
        // Opening a pipe would wait for its reader.
        if !is_new && !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file"));
        }
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(ErrorKind::ResourceBusy, "another process writes to it"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if is_new {
            sync_directory(path)?;
        }
        let metadata = file.metadata()?;
        Ok(Self { file, id: (metadata.dev(), metadata.ino()), fresh: true })
    }
}

/// Writes all, or cuts off what was written of it.
fn write_or_cut(file: &mut impl Tail, length: u64, text: &[u8]) -> io::Result<()> {
    let written = file.write_all(text).and_then(|()| file.sync());
    if let Err(error) = written {
        file.cut(length)?;
        return Err(error);
    }
    Ok(())
}

/// Cuts off what a crash left at the end: the lines of the batch that is to be written, of at most `bytes` bytes,
/// and a line that has no end. Such a line that is not ours is ended.
fn mend(file: &mut File, id: &str, bytes: u64) -> io::Result<()> {
    let length = file.metadata()?.len();
    // One byte more, for the end of the line before.
    let from = length.saturating_sub(bytes + 1);
    let tail = read(file, from, length)?;
    let wanted = batch_start(id);
    let is_start = |at: usize| if at == 0 { from == 0 } else { tail[at - 1] == b'\n' };
    let first = (0..tail.len()).find(|at| tail[*at..].starts_with(&wanted) && is_start(*at));
    if let Some(at) = first {
        return file.set_len(from + at as u64);
    }
    let start = last_line(file, length)?;
    if start == length {
        return Ok(());
    }
    if is_torn_line(&read(file, start, length.min(start + LOOK_BYTES))?) {
        return file.set_len(start);
    }
    file.write_all(b"\n")
}

/// Where the last line begins; the length if the file ends with the end of a line.
fn last_line(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let from = end.saturating_sub(LOOK_BYTES);
        let bytes = read(file, from, end)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

fn read(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

/// Moves the file to `PATH.1`, that to `PATH.2`, and so on up to the first that is missing, or to the last that is kept.
fn rotate(config: &FileConfig) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = OsString::from(&config.path);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let mut last = 1;
    while last < config.keep && numbered(last).try_exists()? {
        last += 1;
    }
    for number in (1..last).rev() {
        fs::rename(numbered(number), numbered(number + 1))?;
    }
    fs::rename(&config.path, numbered(1))?;
    sync_directory(&config.path)
}

/// Comes back when the names in the directory of the path are on the disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn file_id(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests;
