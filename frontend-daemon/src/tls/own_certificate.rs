//! The certificate that this daemon makes for its device where the administrator has put none: a key of the
//! device's own, and a certificate for it that the device's own authority signs (`authority`). Never a key
//! that two devices share (D4), never a key outside of its directory (D17).
//!
//! `tls` calls it at the start, and again when a renewal may be due. It works with the rights of the account
//! that serves; only [`prepare`] runs as root, and makes one directory.
//!
//! The key stays for ever; the certificate is valid for a year and renewed from the same key thirty days
//! before its end, or when the device has got another name. So what people compare at first meeting, the
//! fingerprint of the certificate, changes once a year at most, and that of the public key never. Addresses
//! change with every network and are no reason.
//!
//! A Raspberry Pi has no clock of its own: it may believe for a while that it is last month, or 1970. So a
//! certificate begins thirty days before it is made; no time before [`OLDEST_NOW`] is believed; and a
//! certificate that is not valid *yet* is kept, since then it is the clock that is wrong. Each renewal moves
//! the end forward, so a clock that jumps cannot make them one after the other.

use std::{fs, io, path::Path};

use nix::unistd::User;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustix::fs::{Mode, OFlags};
use time::Duration;
use tracing::{info, warn};

use crate::{
    device::{DEVICE_DOMAIN, addresses, names::Marks},
    tls::authority::{self, Authority, Signer},
    tls::certificate::{
        AUTHORITY, AUTHORITY_KEY, CERTIFICATE, DEVICE, FileError, FileErrorKind, KEY, Pair, PemFile, Served,
    },
    tls::own_files::{BEFORE, can_be_named, key, now, open_directory, serial_number, write, write_error},
    tls::x509::CertificateInfo,
};

/// From now on. With [`BEFORE`] it stays below 398 days, the most that any browser takes.
const VALID: Duration = Duration::days(365);
/// Renewed when less is left.
const RENEWED_BEFORE: Duration = Duration::days(30);
/// Ending of the files that another device has made.
const OTHER_DEVICE: &str = "of-another-device";
/// Longest common name (RFC 5280, `ub-common-name`).
const MAX_COMMON_NAME: usize = 64;

/// Makes the directory for an account, as root, which gives root up afterwards. Only where no other account
/// could have made something for root to stumble over; elsewhere the account has to bring its directory with
/// it.
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
        Ok(false) => FileErrorKind::UnsafeParent,
        Err(error) => FileErrorKind::Write(error),
    };
    Err(FileError { path: state.to_owned(), reason })
}

/// The certificate of this device under these names: the one that is there, or a new one.
pub(crate) fn load(state: &Path, names: &[String]) -> Result<(Served, Authority), FileError> {
    let directory = open_directory(state)?;
    // Two daemons of one account that start at the same moment.
    directory.lock().map_err(|error| write_error(state, error))?;
    set_aside_keys_of_another_device(state, &Marks::of_this_device())?;
    let (pair, text) = key(state, KEY)?;
    let signer = authority::load(state, names)?;
    if let Some(served) = usable(state, &text, names, &signer.authority) {
        return Ok((served, signer.authority));
    }
    let certificate =
        make(&pair, names, &signer).map_err(|reason| FileError { path: state.join(CERTIFICATE), reason })?;
    let certificate = write(state, CERTIFICATE, certificate.as_bytes())?;
    let served = Pair::new(certificate, text).check()?;
    info!("made a certificate for {}", served.about.names.join(", "));
    Ok((served, signer.authority))
}

/// A card that was copied has the keys of the device that it was copied from. They are put aside, and this
/// device makes its own. Keys from before there were marks stay.
fn set_aside_keys_of_another_device(state: &Path, now: &Marks) -> Result<(), FileError> {
    if !now.are_known() {
        return Ok(());
    }
    let then =
        PemFile::read(&state.join(DEVICE))?.map(|file| Marks::parse(&String::from_utf8_lossy(&file.bytes)));
    if let Some(then) = &then
        && then.differ_from(now)
    {
        warn!(
            "the keys in {} were made on another device: this card or disk is a copy. New ones are made, which browsers \
             have to accept, and the old ones stay beside them. Tokens are copies too: make new ones with further-link token. \
             Before you copy a card, remove the files of that directory",
            state.display()
        );
        for name in [KEY, CERTIFICATE, AUTHORITY_KEY, AUTHORITY] {
            let path = state.join(name);
            match fs::rename(&path, state.join(format!("{name}.{OTHER_DEVICE}"))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome.map_err(|error| write_error(&path, error))?,
            }
        }
    }
    if then.as_ref() != Some(now) {
        write(state, DEVICE, now.to_text().as_bytes())?;
    }
    Ok(())
}

/// Whether [`load`] would make a new one.
pub(crate) fn is_due(about: &CertificateInfo, names: &[String], authority: &Authority) -> bool {
    let is_named = |name: &String| about.names.contains(name);
    // A bare name that the authority does not permit could never be added.
    let is_wanted =
        |name: &&String| can_be_named(name) && (authority::is_full(name) || authority.permits(name));
    about.not_after - now() < RENEWED_BEFORE || !names.iter().filter(is_wanted).all(is_named)
}

/// The certificate in the directory, if it is of this key and need not be renewed.
fn usable(state: &Path, key: &PemFile, names: &[String], authority: &Authority) -> Option<Served> {
    let path = state.join(CERTIFICATE);
    let certificate = match PemFile::read(&path) {
        Ok(certificate) => certificate?,
        Err(error) => {
            warn!("{error}; it is made anew");
            return None;
        }
    };
    match Pair::new(certificate, key.clone()).check() {
        // Signed by itself, as before there was an authority; or by an earlier certificate of the authority.
        Ok(served) if served.key.cert.get(1) != Some(&authority.der) => None,
        Ok(served) if is_due(&served.about, names, authority) => None,
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

fn make(key: &KeyPair, names: &[String], signer: &Signer) -> Result<String, FileErrorKind> {
    let mut all: Vec<String> = names.iter().filter(|name| can_be_named(name)).cloned().collect();
    all.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    for address in addresses::of_this_device() {
        if address.is_ipv4() {
            all.push(address.to_string().replace('.', "-") + DEVICE_DOMAIN);
        }
        all.push(address.to_string());
    }
    let left_out: Vec<_> = all.extract_if(.., |name| !signer.authority.permits(name)).collect();
    if !left_out.is_empty() {
        info!(
            "not in the certificate: {}. To have them there, remove {AUTHORITY} and install the new one on clients",
            left_out.join(", ")
        );
    }
    let mut params = CertificateParams::new(all).map_err(FileErrorKind::Make)?;
    params.not_before = now() - BEFORE;
    params.not_after = now() + VALID;
    params.serial_number = Some(serial_number()?);
    let mut subject = DistinguishedName::new();
    let device = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if (1..=MAX_COMMON_NAME).contains(&device.chars().count()) && signer.authority.permits(&device) {
        subject.push(DnType::CommonName, device);
    }
    subject.push(DnType::OrganizationName, "further-link");
    params.distinguished_name = subject;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(key, &signer.issuer).map_err(FileErrorKind::Make)?;
    Ok(leaf.pem() + &signer.authority.pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::x509::Subtree;
    use rcgen::PKCS_ECDSA_P256_SHA256;

    fn about(names: &[&str], days_left: i64) -> CertificateInfo {
        CertificateInfo {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            not_before: now() + Duration::days(days_left) - BEFORE - VALID,
            not_after: now() + Duration::days(days_left),
            fingerprint: String::new(),
            key_fingerprint: String::new(),
            common_name: None,
            permitted: Vec::new(),
        }
    }

    fn authority() -> Authority {
        let permitted = ["local", "pi", "localhost"].map(|name| Subtree::Dns(name.to_owned()));
        let networks = ["10.0.0.0", "127.0.0.0"].map(|network| Subtree::network(network.parse().unwrap(), 8));
        let permitted = permitted.into_iter().chain(networks).chain([Subtree::of_name("::1")]).collect();
        let about = CertificateInfo { permitted, ..about(&[], 3000) };
        Authority { der: vec![].into(), pem: String::new(), about }
    }

    fn is_due(about: &CertificateInfo, names: &[String]) -> bool {
        super::is_due(about, names, &authority())
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
        assert!(is_due(&certificate, &names(&["school.example"])));
        // A bare name that the authority does not permit.
        assert!(!is_due(&certificate, &names(&["pi", "raspberry"])));
        // It could never be satisfied.
        assert!(!is_due(&certificate, &names(&["pi", "sch\u{fc}le", ""])));
    }

    #[test]
    fn a_new_one_has_the_names_and_dates_and_a_number_of_its_own() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let wanted = names(&["pi", "pi.local", "localhost", "10.1.2.3", "sch\u{fc}le", ""]);
        let signer = || Signer {
            authority: authority(),
            issuer: rcgen::Issuer::new(
                CertificateParams::default(),
                KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            ),
        };
        let read = |pem: String| {
            let text = PemFile::written("x".into(), pem.into_bytes());
            text.certificates().unwrap()
        };
        let (chain, about) = read(make(&key, &wanted, &signer()).unwrap());
        assert_eq!(chain.len(), 1);
        for name in ["pi", "pi.local", "localhost", "10.1.2.3", "127.0.0.1", "::1"] {
            assert!(about.names.iter().any(|has| has == name), "{name} in {:?}", about.names);
        }
        assert!(about.not_before < now() - Duration::days(29));
        assert!(about.not_after - about.not_before < Duration::days(398));
        assert!(!is_due(&about, &wanted));
        let (_, again) = read(make(&key, &wanted, &signer()).unwrap());
        assert_ne!(again.fingerprint, about.fingerprint);
        assert_eq!(again.key_fingerprint, about.key_fingerprint);
    }
}
