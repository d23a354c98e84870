//! `further-link fingerprint`: prints what a person compares with what the browser shows.
//!
//! It reads the files that the daemon serves, by the same settings, and changes nothing: it makes no
//! certificate, and needs no key.

use std::io::{self, Write};

use crate::{
    config::TlsDirs,
    tls::certificate::{AUTHORITY, CERTIFICATE, CertificateDirs, FileError, FileErrorKind, KEY, PemFile},
};

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FingerprintError {
    #[error("{0}")]
    File(FileError),
    #[error("{0}: as root it can be read (sudo further-link fingerprint)")]
    NotAllowed(FileError),
    #[error(
        "there is no certificate in {} or {}. The first is the administrator's to put there, the second is made at the \
         first start; for the system's service: sudo further-link fingerprint",
        .0.extra.display(),
        .0.state.display()
    )]
    None(CertificateDirs),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<FileError> for FingerprintError {
    fn from(error: FileError) -> Self {
        match error.reason {
            FileErrorKind::Denied(_) => Self::NotAllowed(error),
            _ => Self::File(error),
        }
    }
}

/// Prints it.
pub(crate) fn print(options: &TlsDirs) -> Result<(), FingerprintError> {
    let dirs = CertificateDirs::new(options)?;
    let mut extra = PemFile::read(&dirs.extra.join(CERTIFICATE))?;
    // As the daemon does: with one file alone it serves the device's own certificate.
    let has_key = dirs.extra.join(KEY).exists();
    if extra.is_some() != has_key {
        let (missing, there) = if has_key { (CERTIFICATE, KEY) } else { (KEY, CERTIFICATE) };
        let reason = FileErrorKind::Alone(dirs.extra.join(there));
        let error = FileError { path: dirs.extra.join(missing), reason };
        eprintln!(
            "further-link: {error}. The certificate that this device has made for itself is served meanwhile"
        );
        extra = None;
    }
    let (of_device, authority) = (extra.is_none(), dirs.state.join(AUTHORITY));
    let certificate = match extra {
        Some(extra) => Some(extra),
        None => PemFile::read(&dirs.state.join(CERTIFICATE))?,
    };
    let certificate = certificate.ok_or(FingerprintError::None(dirs))?;
    let (chain, about) = certificate.certificates()?;
    write!(io::stdout(), "certificate: {}\n{about}", certificate.path.display())?;
    // The one that has signed it is what people install.
    let authority = if of_device { PemFile::read(&authority)? } else { None };
    if let Some(authority) = authority {
        let (authorities, about) = authority.certificates()?;
        if chain.get(1) == authorities.first() {
            write!(
                io::stdout(),
                "authority:   {}\nauthority valid:   {} to {}\nauthority SHA-256: {}\n",
                authority.path.display(),
                about.not_before.date(),
                about.not_after.date(),
                about.fingerprint
            )?;
        }
    }
    Ok(())
}
