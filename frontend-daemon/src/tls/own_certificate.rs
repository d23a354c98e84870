//! The certificate that this daemon makes for its device when nobody has provided one: a key of the device's own, and a
//! certificate signed with it. Never a key that two devices share (D4), never a key outside of its directory (D17).
//!
//! `tls` calls it at the start, and again when a renewal may be due. It works with the rights of the account that serves;
//! only [`prepare`] runs as root, and makes one directory.
//!
//! The key stays for ever; the certificate is valid for a year and made anew from the same key thirty days before its
//! end, or when the device has got another name. So what people compare at first meeting, the fingerprint of the
//! certificate, changes once a year at most, and that of the public key never. Addresses change with every network and
//! are no reason.
//!
//! A Raspberry Pi has no clock of its own: it may believe for a while that it is last month, or 1970. So a certificate
//! begins thirty days before it is made; no time before [`OLDEST_NOW`] is believed; and a certificate that is not valid
//! *yet* is kept, since then it is the clock that is wrong. Each renewal moves the end forward, so a clock that jumps
//! cannot make them one after the other.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use nix::unistd::{Uid, User};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustix::fs::{Mode, OFlags};
use time::{Duration, OffsetDateTime};
use tracing::{info, warn};

use crate::{
    device::{DEVICE_DOMAIN, addresses},
    tls::certificate::{self, CERTIFICATE, FileError, KEY, Pair, Reason, Served, Text},
    tls::x509::About,
};

/// From now on. With [`BEFORE`] it stays below 398 days, the most that any browser takes.
const VALID: Duration = Duration::days(365);
/// Valid before it was made: for clients whose clock is behind.
const BEFORE: Duration = Duration::days(30);
/// Made anew when less is left.
const RENEWED_BEFORE: Duration = Duration::days(30);
/// 2026-11-01, in seconds: when this was written. A clock that shows less is wrong.
const OLDEST_NOW: i64 = 1_793_491_200;
/// Longest common name (RFC 5280, `ub-common-name`).
const MAX_COMMON_NAME: usize = 64;

/// Makes the directory for an account, as root, which gives root up afterwards. Only where nobody else could have made
/// something for root to stumble over; elsewhere the account has to bring its directory with it.
pub(crate) fn prepare(state: &Path, account: &User) -> Result<(), FileError> {
    if fs::symlink_metadata(state).is_ok() {
        return Ok(());
    }
    let made = || -> io::Result<bool> {
        let (Some(parent), Some(name)) = (state.parent(), state.file_name()) else { return Ok(false) };
        let directory = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = rustix::fs::open(parent, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = rustix::fs::fstat(&parent)?;
        if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 {
            return Ok(false);
        }
        rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
        let made = rustix::fs::openat(&parent, name, directory, Mode::empty())?;
        let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
        rustix::fs::fchown(
            &made,
            Some(rustix::fs::Uid::from_raw(uid)),
            Some(rustix::fs::Gid::from_raw(gid)),
        )?;
        Ok(true)
    };
    let reason = match made() {
        Ok(true) => return Ok(()),
        Ok(false) => Reason::UnsafeParent,
        Err(error) => Reason::Write(error),
    };
    Err(FileError { path: state.to_owned(), reason })
}

/// The certificate of this device under these names: the one that is there, or a new one.
pub(crate) fn load(state: &Path, names: &[String]) -> Result<Served, FileError> {
    let directory = open_directory(state)?;
    // Two daemons of one account that start at the same moment.
    directory.lock().map_err(|error| write_error(state, error))?;
    let (pair, text) = key(state)?;
    if let Some(served) = usable(state, &text, names) {
        return Ok(served);
    }
    let certificate =
        make(&pair, names).map_err(|reason| FileError { path: state.join(CERTIFICATE), reason })?;
    let certificate = write(&directory, state, CERTIFICATE, certificate.as_bytes())?;
    let served = Pair::new(certificate, text).check()?;
    info!("made a certificate for {}", served.about.names.join(", "));
    Ok(served)
}

/// Whether [`load`] would make a new one.
pub(crate) fn is_due(about: &About, names: &[String]) -> bool {
    let is_named = |name: &String| about.names.contains(name);
    about.not_after - now() < RENEWED_BEFORE || !names.iter().filter(|name| can_be_named(name)).all(is_named)
}

/// The certificate in the directory, if it is of this key and need not be made anew.
fn usable(state: &Path, key: &Text, names: &[String]) -> Option<Served> {
    let path = state.join(CERTIFICATE);
    let certificate = match Text::read(&path) {
        Ok(certificate) => certificate?,
        Err(error) => {
            warn!("{error}; it is made anew");
            return None;
        }
    };
    let key = Text { path: key.path.clone(), bytes: key.bytes.clone() };
    match Pair::new(certificate, key).check() {
        Ok(served) if is_due(&served.about, names) => None,
        Ok(served) => {
            if served.about.not_before > now() {
                warn!(
                    "{} is valid from {} only: is the clock of this device right? If it is, remove the file",
                    path.display(),
                    served.about.not_before.date()
                );
            }
            Some(served)
        }
        Err(error) => {
            warn!("{error}; the certificate is made anew");
            None
        }
    }
}

/// Makes the directory if it is missing, and makes sure that nobody else can put something into it.
fn open_directory(state: &Path) -> Result<File, FileError> {
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
    let reason = Reason::Open { owner: certificate::account(), mode };
    Err(FileError { path: path.to_owned(), reason })
}

/// The key that is there, or a new one. A damaged one is an error: people would have to trust another.
fn key(state: &Path) -> Result<(KeyPair, Text), FileError> {
    let path = state.join(KEY);
    if let Some(text) = Text::read(&path)? {
        let file = File::open(&path).map_err(|error| text.error(Reason::Io(error)))?;
        // One that others could read has to be thrown away, and one that others gave to us is not ours (D17).
        is_ours(&path, &file, 0o077, "600")?;
        let pair = std::str::from_utf8(&text.bytes).ok().and_then(|text| KeyPair::from_pem(text).ok());
        let pair = pair.ok_or_else(|| text.error(Reason::NoKey))?;
        return Ok((pair, text));
    }
    let made = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
    let pair = made.map_err(|error| FileError { path, reason: Reason::Make(error) })?;
    let directory = open_directory(state)?;
    let text = write(&directory, state, KEY, pair.serialize_pem().as_bytes())?;
    Ok((pair, text))
}

fn make(key: &KeyPair, names: &[String]) -> Result<String, Reason> {
    let mut all: Vec<String> = names.iter().filter(|name| can_be_named(name)).cloned().collect();
    all.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    for address in addresses::of_this_device() {
        if address.is_ipv4() {
            all.push(address.to_string().replace('.', "-") + DEVICE_DOMAIN);
        }
        all.push(address.to_string());
    }
    let mut params = CertificateParams::new(all).map_err(Reason::Make)?;
    params.not_before = now() - BEFORE;
    params.not_after = now() + VALID;
    // By default the serial number is the key's, which stays: browsers refuse two certificates with one number.
    let mut serial = [0; 16];
    let random = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut serial);
    random.map_err(|_| Reason::Make(rcgen::Error::RingUnspecified))?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let mut subject = DistinguishedName::new();
    let device = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if (1..=MAX_COMMON_NAME).contains(&device.chars().count()) {
        subject.push(DnType::CommonName, device);
    }
    subject.push(DnType::OrganizationName, "further-link");
    params.distinguished_name = subject;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params.self_signed(key).map_err(Reason::Make)?.pem())
}

/// What is not a name in a certificate (RFC 5280, 4.2.1.6) is left out, today and at every comparison.
fn can_be_named(name: &str) -> bool {
    !name.is_empty() && name.len() < 254 && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The time, or the oldest that can be true.
fn now() -> OffsetDateTime {
    let oldest = OffsetDateTime::from_unix_timestamp(OLDEST_NOW).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    OffsetDateTime::now_utc().max(oldest)
}

/// Whole or not at all, also when the power fails.
fn write(directory: &File, state: &Path, name: &str, bytes: &[u8]) -> Result<Text, FileError> {
    let (path, unfinished) = (state.join(name), state.join(format!(".{name}.new")));
    let written = || -> io::Result<()> {
        if fs::symlink_metadata(&unfinished).is_ok() {
            fs::remove_file(&unfinished)?;
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        directory.sync_all()
    };
    written().map_err(|error| write_error(&path, error))?;
    Ok(Text { path, bytes: bytes.to_owned() })
}

fn write_error(path: &Path, error: io::Error) -> FileError {
    FileError { path: path.to_owned(), reason: Reason::Write(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(names: &[&str], days_left: i64) -> About {
        About {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            not_before: now() + Duration::days(days_left) - BEFORE - VALID,
            not_after: now() + Duration::days(days_left),
            fingerprint: String::new(),
            key_fingerprint: String::new(),
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn it_is_renewed_before_its_end_and_never_for_a_clock_that_is_behind() {
        for (days_left, due) in [(365, false), (31, false), (29, true), (-1, true), (-5000, true)] {
            assert_eq!(is_due(&about(&["pi"], days_left), &names(&["pi"])), due, "{days_left}");
        }
        // Made in a future that the clock has forgotten.
        assert!(!is_due(&about(&["pi"], 5000), &names(&["pi"])));
    }

    #[test]
    fn another_name_is_a_reason_and_another_address_is_none() {
        let certificate = about(&["pi", "pi.local", "192.0.2.7"], 365);
        assert!(!is_due(&certificate, &names(&["pi", "pi.local"])));
        assert!(is_due(&certificate, &names(&["raspberry", "raspberry.local"])));
        // It could never be satisfied.
        assert!(!is_due(&certificate, &names(&["pi", "sch\u{fc}le", ""])));
    }

    #[test]
    fn a_new_one_has_the_names_and_dates_and_a_number_of_its_own() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let wanted = names(&["pi", "pi.local", "localhost", "10.1.2.3", "sch\u{fc}le", ""]);
        let read = |pem: String| {
            let text = Text { path: "x".into(), bytes: pem.into_bytes() };
            text.certificates().unwrap()
        };
        let (chain, about) = read(make(&key, &wanted).unwrap());
        assert_eq!(chain.len(), 1);
        for name in ["pi", "pi.local", "localhost", "10.1.2.3", "127.0.0.1", "::1"] {
            assert!(about.names.iter().any(|has| has == name), "{name} in {:?}", about.names);
        }
        assert!(about.not_before < now() - Duration::days(29));
        assert!(about.not_after - about.not_before < Duration::days(398));
        assert!(!is_due(&about, &wanted));
        let (_, again) = read(make(&key, &wanted).unwrap());
        assert_ne!(again.fingerprint, about.fingerprint);
        assert_eq!(again.key_fingerprint, about.key_fingerprint);
    }
}
