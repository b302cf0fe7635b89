//! A download as it grows: `FILE.part` beside the file that it becomes. It is summed up as it comes, so that a later
//! call goes on where this one ended. Deliberately absent: the network, and what the sum should be.

use crate::report::WriteError;
use crate::wire::hexadecimal;
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What has come of a file so far. Nobody else writes it as long as this lives.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    path: PathBuf,
    whole: PathBuf,
    bytes: u64,
    sum: Sha256,
}

impl Part {
    /// Opens what an earlier call left of `whole`, or a new one; what is longer than `most` bytes is thrown away.
    pub(super) fn open(whole: &Path, most: u64) -> Result<Self, WriteError> {
        let path = path_of(whole);
        let opened = || {
            let private = &mut DirBuilder::new();
            private.recursive(true).mode(0o700).create(directory_of(whole))?;
            let file = locked(&path)?;
            // A leftover may have had another mode.
            file.set_permissions(Permissions::from_mode(0o600))?;
            if most < file.metadata()?.len() {
                file.set_len(0)?;
            }
            let (sum, bytes) = sum_up(&file)?;
            io::Result::Ok((file, bytes, sum))
        };
        match opened() {
            Ok((file, bytes, sum)) => Ok(Self { file, path, whole: whole.to_owned(), bytes, sum }),
            Err(source) => Err(WriteError { doing: "write", path, source }),
        }
    }

    /// How much has come.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of what has come.
    pub(super) fn sha256(&self) -> String {
        hexadecimal(&self.sum.clone().finalize())
    }

    /// Adds what came next.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        (&self.file).write_all(bytes).map_err(|source| self.failed("write", source))?;
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what has come.
    pub(super) fn restart(&mut self) -> Result<(), WriteError> {
        self.file.set_len(0).map_err(|source| self.failed("write", source))?;
        (self.bytes, self.sum) = (0, Sha256::new());
        Ok(())
    }

    /// It is the file: puts it in its place, in one step.
    pub(super) fn keep(self) -> Result<(), WriteError> {
        let kept = self.file.sync_all().and_then(|()| fs::rename(&self.path, &self.whole));
        let kept = kept.and_then(|()| File::open(directory_of(&self.whole))?.sync_all());
        kept.map_err(|source| WriteError { doing: "write", path: self.whole, source })
    }

    /// Removes it.
    pub(super) fn discard(&self) -> Result<(), WriteError> {
        fs::remove_file(&self.path).map_err(|source| self.failed("remove", source))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> WriteError {
        WriteError { doing, path: self.path.clone(), source }
    }
}

/// SHA-256 of a file; `None` where there is none.
pub(super) fn sha256_of(path: &Path) -> io::Result<Option<String>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(file) => Ok(Some(hexadecimal(&sum_up(&file)?.0.finalize()))),
    }
}

/// How much of a file has come, where some has and not all.
pub(super) fn bytes_of_part(whole: &Path) -> Option<u64> {
    fs::metadata(path_of(whole)).ok().map(|file| file.len()).filter(|&bytes| 0 < bytes)
}

fn path_of(whole: &Path) -> PathBuf {
    let mut name = whole.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    whole.with_file_name(name)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The file of that path, for this process alone.
fn locked(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        // Some network file systems have no locks: then two at a time are not kept apart.
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another pdbench is fetching it"));
        }
        // Whoever had the lock before may have put the file in its place and gone.
        let (mine, there) = (file.metadata()?, fs::metadata(path).ok());
        if there.is_some_and(|there| (there.dev(), there.ino()) == (mine.dev(), mine.ino())) {
            return Ok(file);
        }
    }
}

fn sum_up(mut file: &File) -> io::Result<(Sha256, u64)> {
    let (mut sum, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((sum, bytes)),
            Ok(count) => {
                sum.update(&piece[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sha256;

    #[test]
    fn a_part_that_is_opened_again_has_the_sum_of_all_that_came() {
        let place = tempfile::tempdir().unwrap();
        let whole = place.path().join("a/b/file");
        for (piece, so_far) in [("one", "one"), ("two", "onetwo"), ("", "onetwo")] {
            let mut part = Part::open(&whole, 100).unwrap();
            part.append(piece.as_bytes()).unwrap();
            assert_eq!((part.sha256(), part.bytes()), (sha256(so_far.as_bytes()), so_far.len() as u64));
        }
        assert_eq!((bytes_of_part(&whole), sha256_of(&whole).unwrap()), (Some(6), None));
        Part::open(&whole, 100).unwrap().keep().unwrap();
        assert_eq!((bytes_of_part(&whole), sha256_of(&whole).unwrap()), (None, Some(sha256(b"onetwo"))));
    }

    #[test]
    fn a_part_that_is_begun_anew_forgets_what_it_had() {
        let place = tempfile::tempdir().unwrap();
        let whole = place.path().join("file");
        let mut part = Part::open(&whole, 100).unwrap();
        part.append(b"wrong").unwrap();
        part.restart().unwrap();
        part.append(b"right").unwrap();
        assert_eq!(part.sha256(), sha256(b"right"));
        part.keep().unwrap();
        assert_eq!(fs::read(&whole).unwrap(), b"right");
    }

    #[test]
    fn a_part_that_is_too_long_or_open_to_others_does_not_stay_so() {
        let place = tempfile::tempdir().unwrap();
        let whole = place.path().join("file");
        fs::write(path_of(&whole), b"longer").unwrap();
        fs::set_permissions(path_of(&whole), Permissions::from_mode(0o666)).unwrap();
        let part = Part::open(&whole, 5).unwrap();
        assert_eq!((part.bytes(), part.sha256()), (0, sha256(b"")));
        assert_eq!(fs::metadata(part.path()).unwrap().permissions().mode() & 0o777, 0o600);
        part.discard().unwrap();
        assert_eq!(bytes_of_part(&whole), None);
    }

    #[test]
    fn two_do_not_write_one_part() {
        let place = tempfile::tempdir().unwrap();
        let whole = place.path().join("file");
        let first = Part::open(&whole, 5).unwrap();
        let refused = Part::open(&whole, 5).unwrap_err();
        assert_eq!(refused.source.kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        Part::open(&whole, 5).unwrap();
    }
}
