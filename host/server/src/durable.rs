//! Files that are there whole, and flushed, or as they were before: also after a `kill -9` or a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a file.
///
/// # Errors
/// Where the disk does not take it; the file is what it was.
pub fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(file, content, 0o666)
}

/// Writes a file that nobody but its owner may read.
///
/// # Errors
/// As [`replace`].
pub fn replace_private(file: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(file, content, 0o600)
}

/// The secret that a file holds: `N` random bytes, made and kept for its owner only where there is no such file yet.
///
/// # Errors
/// Where the file can be neither read nor made, or holds something else.
pub fn secret<const N: usize>(file: &Path) -> io::Result<[u8; N]> {
    let mut secret = Vec::new();
    match File::open(file) {
        Ok(kept) => drop(kept.take(N as u64 + 1).read_to_end(&mut secret)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            secret = vec![0; N];
            aws_lc_rs::rand::fill(&mut secret).map_err(io::Error::other)?;
            replace_private(file, &secret)?;
        }
        Err(error) => return Err(error),
    }
    secret.try_into().map_err(|_| {
        let message = format!("{} is no key of {N} bytes", file.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

fn replace_with(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let beside = file.with_extension("part");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {} // a draft of one who was killed, perhaps with another mode
    }
    let mut draft = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    draft.write_all(content)?;
    draft.sync_all()?;
    fs::rename(&beside, file)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    File::open(folder)?.sync_all() // the rename itself
}
