//! The files that this daemon writes into its state directory: keys and certificates, whole or not at all.
//!
//! `own_certificate` and `authority` call it, with the rights of the account that serves. A directory or key
//! that another account could have written or read is refused (D17).

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
};

use nix::unistd::Uid;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SerialNumber};
use time::{Duration, OffsetDateTime};

use crate::{
    files::write_atomic,
    tls::certificate::{self, FileError, FileErrorKind, PemFile},
};

/// Valid before it was made: for clients whose clock is behind.
pub(crate) const BEFORE: Duration = Duration::days(30);
/// 2026-11-01, in seconds: when this was written. A clock that shows less is wrong.
pub(crate) const OLDEST_NOW: i64 = 1_793_491_200;

/// Makes the directory if it is missing, and makes sure that no other account can put something into it.
pub(crate) fn open_directory(state: &Path) -> Result<File, FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|error| write_error(state, error))?;
    let directory = File::open(state).map_err(|error| write_error(state, error))?;
    is_ours(state, &directory, 0o022, "go-w")?;
    Ok(directory)
}

fn is_ours(path: &Path, file: &File, closed: u32, mode: &'static str) -> Result<(), FileError> {
    let metadata = file.metadata().map_err(|error| write_error(path, error))?;
    if metadata.uid() == Uid::effective().as_raw() && metadata.mode() & closed == 0 {
        return Ok(());
    }
    let reason = FileErrorKind::Open { owner: certificate::account(), mode };
    Err(FileError { path: path.to_owned(), reason })
}

/// The key that is there, or a new one, in a directory that [`open_directory`] has checked. A damaged one is
/// an error: people would have to trust another.
pub(crate) fn key(state: &Path, name: &str) -> Result<(KeyPair, PemFile), FileError> {
    let path = state.join(name);
    if let Some(text) = PemFile::read(&path)? {
        let file = File::open(&path).map_err(|error| text.error(FileErrorKind::Io(error)))?;
        // One that others could read has to be thrown away, and one that others gave to us is not ours (D17).
        is_ours(&path, &file, 0o077, "600")?;
        let pair = std::str::from_utf8(&text.bytes).ok().and_then(|text| KeyPair::from_pem(text).ok());
        let pair = pair.ok_or_else(|| text.error(FileErrorKind::NoKey))?;
        return Ok((pair, text));
    }
    let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
    let pair = made.map_err(|error| FileError { path, reason: FileErrorKind::Make(error) })?;
    let text = write(state, name, pair.serialize_pem().as_bytes())?;
    Ok((pair, text))
}

/// A random one. By default it is the key's, which stays: browsers refuse two certificates with one number.
pub(crate) fn serial_number() -> Result<SerialNumber, FileErrorKind> {
    let mut serial = [0; 16];
    let random = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut serial);
    random.map_err(|_| FileErrorKind::Make(rcgen::Error::RingUnspecified))?;
    // Positive, and of full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

/// What is not a name in a certificate (RFC 5280, 4.2.1.6) is left out, today and at every comparison.
pub(crate) fn can_be_named(name: &str) -> bool {
    !name.is_empty() && name.len() < 254 && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The time, or the oldest that can be true.
pub(crate) fn now() -> OffsetDateTime {
    let oldest = OffsetDateTime::from_unix_timestamp(OLDEST_NOW).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    OffsetDateTime::now_utc().max(oldest)
}

/// Writes a file of the directory, whole or not at all.
pub(crate) fn write(state: &Path, name: &str, bytes: &[u8]) -> Result<PemFile, FileError> {
    let path = state.join(name);
    write_atomic(&path, bytes, |_| Ok(())).map_err(|error| write_error(&path, error))?;
    Ok(PemFile::written(path, bytes.to_owned()))
}

pub(crate) fn write_error(path: &Path, error: io::Error) -> FileError {
    FileError { path: path.to_owned(), reason: FileErrorKind::Write(error) }
}
