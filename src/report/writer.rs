//! The one place that writes a run's files: private directories, private files, and replacement by
//! rename, so that a reader finds the old content or the new and a full disk truncates nothing.
//! Deliberately absent: what the files mean.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// A file or directory that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} `{}`", path.display())]
pub struct WriteError {
    /// What was being done, such as `write`.
    pub doing: &'static str,
    /// To what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Writes `bytes` to `path` in one step: a temporary file beside it (mode 0600), fsync, rename, fsync of the directory.
///
/// # Errors
/// When any of these fails; `path` then is as it was and the temporary file is gone.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError { doing: "write", path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(hidden);
    replace(&temporary, path, bytes).map_err(|source| {
        // It may never have come to be; the error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
        failed(source)
    })
}

fn replace(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    // A leftover of an earlier process may have had another mode.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)?;
    File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the directory `parent/name` (mode 0700), and `parent` where it is missing.
///
/// # Errors
/// When `name` is not a plain name, when the directory exists already, or when the system refuses.
pub fn create_run_directory(parent: &Path, name: &str) -> Result<PathBuf, WriteError> {
    let path = parent.join(name);
    let failed = |source| WriteError { doing: "create the directory", path: path.clone(), source };
    let mut components = Path::new(name).components();
    if !matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name)
    {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a plain directory name")));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
    Ok(path)
}

/// Shows before the start that files can be made in `directory`, by making one and removing it.
/// A directory that does not exist yet is judged by its nearest ancestor that does.
///
/// # Errors
/// When the file cannot be made.
pub fn probe_writable(directory: &Path) -> Result<(), WriteError> {
    let nearest = directory.ancestors().find(|ancestor| ancestor.exists());
    let nearest = nearest.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let probe = nearest.join(format!(".pdbench-{}.probe", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&probe)
        .and_then(|mut file| file.write_all(b"."));
    let removed = std::fs::remove_file(&probe);
    written.and(removed).map_err(|source| WriteError {
        doing: "write to",
        path: directory.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.json");
        write_atomic(&path, b"a longer old content").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(directory.path()), ["run.json"]);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        std::fs::create_dir(&path).unwrap(); // a file cannot be renamed over a directory
        let error = write_atomic(&path, b"new").unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write `{}`", path.display()));
        assert_eq!(names(directory.path()), ["taken"]);
    }

    #[test]
    fn a_run_directory_is_private_and_never_an_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let parent = directory.path().join("reports");
        let path = create_run_directory(&parent, "20260102-030405-serve-0a1b").unwrap();
        assert_eq!(mode(&path), 0o700);
        let error = create_run_directory(&parent, "20260102-030405-serve-0a1b").unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_run_directory_cannot_leave_its_parent() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", "../up", "a/b", "/tmp/x", "a/"] {
            assert!(create_run_directory(directory.path(), name).is_err(), "{name}");
        }
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_found_before_the_start() {
        let directory = tempfile::tempdir().unwrap();
        probe_writable(&directory.path().join("not/yet/there")).unwrap();
        assert!(names(directory.path()).is_empty());
        let file = directory.path().join("file");
        std::fs::write(&file, b"").unwrap();
        assert!(probe_writable(&file).is_err());
    }
}
