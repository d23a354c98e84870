//! Files that are written whole or not at all. Called for keys, certificates and tokens.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Writes a draft of mode 0600 beside the file, has `prepare` give it its final owner and mode, and puts it
/// into its place. Also when the power fails there is the old file or the new one.
pub(crate) fn write_atomic(
    path: &Path,
    bytes: &[u8],
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = directory.join(format!(".{name}.new"));
    if fs::symlink_metadata(&draft).is_ok() {
        fs::remove_file(&draft)?;
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
    prepare(&file)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_an_old_draft_gives_way() {
        let directory = std::env::temp_dir().join(format!("further-link-files.{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("token");
        std::os::unix::fs::symlink("/nowhere", directory.join(".token.new")).unwrap();
        write_atomic(&path, b"one", |_| Ok(())).unwrap();
        let failed = write_atomic(&path, b"two", |_| Err(io::ErrorKind::PermissionDenied.into()));
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_atomic(&path, b"three", |_| Ok(())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no draft is left");
        fs::remove_dir_all(&directory).unwrap();
    }
}
