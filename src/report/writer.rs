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
    let written = replace(path, bytes, Permissions::from_mode(0o600));
    written.map_err(|source| WriteError { doing: "write", path: path.to_owned(), source })
}

/// What becomes of what a result file holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It gives way to the new.
    Replace,
    /// The new stands on a line of its own behind it.
    Append,
}

/// Writes a result file of the user's in one step: directories are made where they are missing, a link is
/// followed, the mode of a file that is there is kept. Two that append at a time wait for one another.
///
/// # Errors
/// When any of this fails; a file that was there then is as it was.
pub fn write_result(path: &Path, bytes: &[u8], existing: Existing) -> Result<(), WriteError> {
    let written = std::fs::create_dir_all(directory_of(path)).and_then(|()| {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let directory = File::open(directory_of(&path))?;
        // Some network file systems have no locks: then two at a time are not kept apart.
        let _ = directory.lock();
        let permissions = std::fs::metadata(&path).map(|file| file.permissions());
        let mut whole = match existing {
            Existing::Append if permissions.is_ok() => std::fs::read(&path)?,
            Existing::Append | Existing::Replace => Vec::new(),
        };
        if !whole.is_empty() && !whole.ends_with(b"\n") {
            whole.push(b'\n');
        }
        whole.extend_from_slice(bytes);
        replace(&path, &whole, permissions.unwrap_or(Permissions::from_mode(0o600)))
    });
    written.map_err(|source| WriteError { doing: "write", path: path.to_owned(), source })
}

/// Shows before the start that [`write_result`] can write `path`, and changes nothing.
///
/// # Errors
/// When `path` is there and is no file that can be read and written, or its directory takes no files.
pub fn probe_result(path: &Path) -> Result<(), WriteError> {
    let failed = |source| WriteError { doing: "write", path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
        }
        Ok(_) => drop(OpenOptions::new().read(true).append(true).open(path).map_err(failed)?),
        Err(_) => {}
    }
    probe_writable(directory_of(path))
}

/// Puts a whole new file in the place of another; on failure nothing has changed.
fn replace(path: &Path, bytes: &[u8], permissions: Permissions) -> io::Result<()> {
    path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // A short name: the file's own may be as long as names may be.
    let temporary = path.with_file_name(format!(".pdbench-{}.tmp", std::process::id()));
    rename_over(&temporary, path, bytes, permissions).inspect_err(|_| {
        // It may never have come to be; the error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
    })
}

fn rename_over(temporary: &Path, path: &Path, bytes: &[u8], permissions: Permissions) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    // A leftover of an earlier process may have had another mode.
    file.set_permissions(permissions)?;
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
    fn a_result_is_appended_on_a_line_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("not/yet/there.json");
        probe_result(&path).unwrap();
        for line in ["{\"a\": 1}", "{\"a\": 2}"] {
            write_result(&path, line.as_bytes(), Existing::Append).unwrap();
            probe_result(&path).unwrap();
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"a\": 1}\n{\"a\": 2}");
        assert_eq!(mode(&path), 0o600);
        write_result(&path, b"{}", Existing::Replace).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), names(path.parent().unwrap()).len()), (b"{}".to_vec(), 1));
    }

    #[test]
    fn a_result_keeps_the_mode_and_the_place_of_a_file_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("shared.json"), directory.path().join("link.json"));
        std::fs::write(&path, b"{}\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_result(&link, b"{}", Existing::Append).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), mode(&path)), (b"{}\n{}".to_vec(), 0o644));
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_result_never_takes_the_place_of_what_is_no_file() {
        let directory = tempfile::tempdir().unwrap();
        assert!(probe_result(directory.path()).is_err());
        assert!(probe_result(Path::new("/dev/null")).is_err());
        let below_a_file = directory.path().join("file");
        std::fs::write(&below_a_file, b"").unwrap();
        assert!(probe_result(&below_a_file.join("result.json")).is_err());
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
