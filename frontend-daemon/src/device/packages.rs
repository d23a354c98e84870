//! The installed version of a Debian package, read from dpkg's and apt's own files. No program is started, so
//! nothing can be injected into one (D3), and the daemon needs no right to execute anything.
//!
//! The answers are those of `apt-cache policy` (B1.5): the version, `(none)` for a package that is known but
//! not installed, nothing for an unknown one.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::Path,
};

use lz4_flex::frame::FrameDecoder;

/// What `apt-cache policy` says of a package that is known but not installed.
const NOT_INSTALLED: &str = "(none)";

/// The version of a package below this root directory. Reads large files: not for async code.
pub(crate) fn installed_version(root: &Path, package: &str) -> io::Result<Option<String>> {
    if !is_package_name(package) {
        return Ok(None);
    }
    let installed = match File::open(root.join("var/lib/dpkg/status")) {
        Ok(status) => find(BufReader::new(status), package)?,
        Err(error) => absent(error)?,
    };
    match installed {
        Some(version) => Ok(Some(version)),
        None => Ok(is_available(&root.join("var/lib/apt/lists"), package)?.then(|| NOT_INSTALLED.to_owned())),
    }
}

/// Debian policy 5.6.1: lower case letters, digits, `+`, `-`, `.`; at least two characters; an alphanumeric
/// first.
fn is_package_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() >= 2
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || matches!(byte, b'+' | b'-' | b'.'))
}

/// The paragraph of the package in dpkg's status file: its version, or that it is not installed.
fn find(status: impl BufRead, package: &str) -> io::Result<Option<String>> {
    let wanted = format!("Package: {package}");
    let (mut found, mut inside, mut installed) = (false, false, false);
    for line in status.lines() {
        let line = line?;
        if line.is_empty() {
            (inside, installed) = (false, false);
        } else if line == wanted {
            (found, inside) = (true, true);
        } else if inside && let Some(state) = line.strip_prefix("Status: ") {
            installed = state.ends_with(" installed");
        } else if inside
            && installed
            && let Some(version) = line.strip_prefix("Version: ")
        {
            return Ok(Some(version.to_owned()));
        }
    }
    Ok(found.then(|| NOT_INSTALLED.to_owned()))
}

/// Whether any package list of apt names the package.
fn is_available(lists: &Path, package: &str) -> io::Result<bool> {
    let entries = match fs::read_dir(lists) {
        Ok(entries) => entries,
        Err(error) => return absent(error).map(|_: Option<()>| false),
    };
    let wanted = format!("Package: {package}");
    for entry in entries {
        let path = entry?.path();
        let name = path.to_string_lossy();
        // apt keeps lists as they are, or compressed if told to (`Acquire::GzipIndexes`, apt.conf(5)).
        let mut list: Box<dyn BufRead> = if name.ends_with("_Packages") {
            Box::new(BufReader::with_capacity(64 * 1024, File::open(&path)?))
        } else if name.ends_with("_Packages.lz4") {
            Box::new(BufReader::with_capacity(64 * 1024, FrameDecoder::new(File::open(&path)?)))
        } else {
            continue;
        };
        let mut line = Vec::new();
        while list.read_until(b'\n', &mut line)? > 0 {
            if line.strip_suffix(b"\n") == Some(wanted.as_bytes()) {
                return Ok(true);
            }
            line.clear();
        }
    }
    Ok(false)
}

/// A machine without dpkg or apt knows no package.
fn absent<T>(error: io::Error) -> io::Result<Option<T>> {
    if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "\
Package: bash
Status: install ok installed
Version: 5.2.15-2+b7
Description: shell
 Package: inner

Package: old-tool
Status: deinstall ok config-files
Version: 1.0

Package: libstdc++6
Status: install ok installed
Version: 12.2.0-14
";

    fn version(package: &str) -> Option<String> {
        find(STATUS.as_bytes(), package).unwrap()
    }

    #[test]
    fn installed_removed_and_unknown_packages_are_told_apart() {
        assert_eq!(version("bash").as_deref(), Some("5.2.15-2+b7"));
        assert_eq!(version("libstdc++6").as_deref(), Some("12.2.0-14"));
        assert_eq!(version("old-tool").as_deref(), Some("(none)"));
        assert_eq!(version("inner"), None);
        assert_eq!(version("nope"), None);
    }

    #[test]
    fn only_package_names_are_looked_up() {
        for good in ["bash", "libstdc++6", "0ad", "a.b-c"] {
            assert!(is_package_name(good), "{good}");
        }
        for bad in ["", "a", "-oDir::Bin::dpkg=/tmp/x", "Bash", "a b", "a/b", "../x", "a\nb", "+a"] {
            assert!(!is_package_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_machine_without_dpkg_knows_no_package() {
        assert_eq!(installed_version(Path::new("/nonexistent"), "bash").unwrap(), None);
    }
}
