//! `further-link fingerprint`: prints what a person compares with what the browser shows.
//!
//! It reads the files that the daemon serves, by the same settings, and changes nothing: it makes no certificate, and
//! needs no key.

use std::io::{self, Write};

use crate::{
    config::TlsPlaces,
    tls::certificate::{AUTHORITY, CERTIFICATE, FileError, KEY, Places, Reason, Text},
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
    None(Places),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<FileError> for FingerprintError {
    fn from(error: FileError) -> Self {
        match error.reason {
            Reason::Denied(_) => Self::NotAllowed(error),
            _ => Self::File(error),
        }
    }
}

/// Prints it.
pub(crate) fn print(options: &TlsPlaces) -> Result<(), FingerprintError> {
    let places = Places::new(options)?;
    let extra = Text::read(&places.extra.join(CERTIFICATE))?;
    // As the daemon does: one file alone is a mistake, not a reason to serve the other directory's.
    if extra.is_none() && places.extra.join(KEY).exists() {
        let reason = Reason::Alone(places.extra.join(KEY));
        return Err(FileError { path: places.extra.join(CERTIFICATE), reason }.into());
    }
    let (of_device, authority) = (extra.is_none(), places.state.join(AUTHORITY));
    let certificate = match extra {
        Some(extra) => Some(extra),
        None => Text::read(&places.state.join(CERTIFICATE))?,
    };
    let certificate = certificate.ok_or(FingerprintError::None(places))?;
    let (chain, about) = certificate.certificates()?;
    write!(io::stdout(), "certificate: {}\n{about}", certificate.path.display())?;
    // The one that has signed it is what people install.
    let authority = if of_device { Text::read(&authority)? } else { None };
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
