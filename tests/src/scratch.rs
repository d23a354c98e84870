//! Folders of one test: a work directory, a temp directory, and room for what else it needs.
//!
//! Below /tmp and open to every account, because programs of several users meet there as they do in the real
//! ones. Removed when the test is over.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::accounts::{self, Account};

/// The folders; dropping them removes them.
#[derive(Debug)]
pub struct Scratch {
    root: PathBuf,
}

impl Scratch {
    /// Makes new folders. Every test starts here, so this is also where a missing root is noticed.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        crate::require_root();
        accounts::ensure();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let root = PathBuf::from(format!("/tmp/fl-e2e.{}.{number}", std::process::id()));
        if root.exists() {
            fs::remove_dir_all(&root).expect("folders of an earlier, failed test can be removed");
        }
        let scratch = Self { root };
        for (path, mode) in [(scratch.root(), 0o755), (scratch.work(), 0o777), (scratch.temp(), 0o1777)] {
            fs::create_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            set_mode(&path, mode);
        }
        scratch
    }

    /// The folder around the others, root's.
    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// The daemon's work directory, open to everybody.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The daemon's temp directory, with /tmp's mode.
    pub fn temp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where a certificate and its key may be put. Not made.
    pub fn extra(&self) -> PathBuf {
        self.root.join("extra")
    }

    /// Where the daemon keeps the certificate that it makes for itself. Not made.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// What the daemon left in its temp directory.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        leftovers_in(&self.temp())
    }

    /// Removes that, where no helper is left to do it.
    pub fn remove_leftovers(&self) {
        for path in self.leftovers() {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.root);
        assert!(
            removed.is_ok() || std::thread::panicking(),
            "cannot remove {}: {removed:?}",
            self.root.display()
        );
    }
}

/// The temporary files of runs in `temp`.
fn leftovers_in(temp: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(temp).unwrap_or_else(|e| panic!("{}: {e}", temp.display()));
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("further-link-"))
        })
        .collect()
}

/// Sets the mode, umask or not.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// The mode's lower bits.
pub fn mode_of(path: &Path) -> u32 {
    let metadata = fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    metadata.permissions().mode() & 0o7777
}

/// Writes a file and gives it to `owner`.
pub fn file_for(owner: &Account, path: &Path, content: &str, mode: u32) {
    fs::write(path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    set_mode(path, mode);
    std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).expect("root may chown");
}

/// Makes a directory and gives it to `owner`.
pub fn directory_for(owner: &Account, path: &Path, mode: u32) {
    fs::create_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    set_mode(path, mode);
    std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).expect("root may chown");
}
