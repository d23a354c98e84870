//! The certificate authority of this device: signs the device's own certificate, and nothing else.
//!
//! `own_certificate` calls it with the state directory locked. People install the authority once (`GET
//! /certificate`); each renewal of the device's certificate is then trusted. Its name constraints limit what
//! a stolen key is worth: names of a local network, local addresses, and the names of this device. A new host
//! name needs no new authority, since all of `.local` is permitted. The key is never replaced here, and never
//! leaves its file.

use std::{net::IpAddr, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData,
};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use tracing::warn;

use crate::{
    device::{DEVICE_DOMAIN, addresses},
    tls::certificate::{AUTHORITY, AUTHORITY_KEY, FileError, FileErrorKind, PemFile},
    tls::own_files::{self, BEFORE, OLDEST_NOW, now},
    tls::x509::{self, CertificateInfo, Subtree},
};

/// Ten years: longer than a Raspberry Pi serves a class. No browser limits the authorities that a person
/// installs.
const VALID: Duration = Duration::days(3650);
/// Issued again when less is left: no certificate of the device may outlive its authority.
const RENEWED_BEFORE: Duration = Duration::days(398);
/// Longest host name in the subject: with the words before it, RFC 5280's limit of 64 is kept.
const MAX_HOST: usize = 48;
/// Local networks: private, shared (carriers, VPNs), link-local and loopback addresses.
const LOCAL_NETWORKS: [(&str, u8); 9] = [
    ("10.0.0.0", 8),
    ("172.16.0.0", 12),
    ("192.168.0.0", 16),
    ("100.64.0.0", 10),
    ("169.254.0.0", 16),
    ("127.0.0.0", 8),
    ("fc00::", 7),
    ("fe80::", 10),
    ("::1", 128),
];

/// The authority's certificate, as clients install it.
#[derive(Clone)]
pub(crate) struct Authority {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) about: CertificateInfo,
}

/// The authority with its key.
pub(crate) struct Signer {
    pub(crate) authority: Authority,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Whether a certificate with this name passes the name constraints.
    pub(crate) fn permits(&self, name: &str) -> bool {
        self.about.permitted.iter().any(|subtree| subtree.covers(name))
    }

    fn read(text: &PemFile) -> Result<Self, FileError> {
        let (mut chain, about) = text.certificates()?;
        let pem = String::from_utf8(text.bytes.clone()).map_err(|_| text.error(FileErrorKind::NotPem))?;
        Ok(Self { der: chain.swap_remove(0), pem, about })
    }
}

/// The authority that is there, or a new one. Issued again with the same key when its end is near, when its
/// file is damaged, or when the settings name the device in a way that it does not permit.
pub(crate) fn load(state: &Path, names: &[String]) -> Result<Signer, FileError> {
    let (key, _) = own_files::key(state, AUTHORITY_KEY)?;
    let path = state.join(AUTHORITY);
    let old = match PemFile::read(&path).and_then(|text| text.as_ref().map(Authority::read).transpose()) {
        Ok(old) => old.filter(|old| old.about.key_fingerprint == key_fingerprint(&key)),
        Err(error) => {
            warn!("{error}; it is issued again with the same key");
            None
        }
    };
    let missing: Vec<_> = names
        .iter()
        .filter(|name| is_full(name) && !old.as_ref().is_some_and(|old| old.permits(name)))
        .map(String::as_str)
        .collect();
    let authority = match old {
        Some(old) if missing.is_empty() && old.about.not_after - now() > RENEWED_BEFORE => old,
        old => issue(state, &key, names, old)?,
    };
    let subject = authority.about.common_name.clone().unwrap_or_default();
    let params = params(&subject, Vec::new());
    Ok(Signer { authority, issuer: Issuer::new(params, key) })
}

/// Whether the settings may ask for this name. A bare host name that the authority does not permit is left
/// out of the device's certificate instead: renaming a device must not end the trust in it.
pub(crate) fn is_full(name: &str) -> bool {
    own_files::can_be_named(name) && (name.contains('.') || name.parse::<IpAddr>().is_ok())
}

fn issue(
    state: &Path,
    key: &KeyPair,
    names: &[String],
    old: Option<Authority>,
) -> Result<Authority, FileError> {
    let path = state.join(AUTHORITY);
    let fail = |reason| FileError { path: path.clone(), reason };
    if old.is_some() {
        warn!(
            "the certificate authority of this device is issued again, for {}: clients that installed it have to \
             install it again (GET /certificate)",
            names.join(", ")
        );
    }
    let mut subtrees = old.as_ref().map_or_else(local_subtrees, |old| old.about.permitted.clone());
    for name in names.iter().filter(|name| own_files::can_be_named(name)) {
        if !subtrees.iter().any(|subtree| subtree.covers(name)) {
            subtrees.push(Subtree::of_name(name));
        }
    }
    let subject = old.and_then(|old| old.about.common_name).unwrap_or_else(subject);
    let mut params = params(&subject, subtrees);
    params.serial_number = Some(own_files::serial_number().map_err(fail)?);
    // From a fixed day, so that a clock that was wrong when it was made does no harm.
    params.not_before =
        OffsetDateTime::from_unix_timestamp(OLDEST_NOW).unwrap_or(OffsetDateTime::UNIX_EPOCH) - BEFORE;
    params.not_after = now() + VALID;
    let pem = params.self_signed(key).map_err(|error| fail(FileErrorKind::Make(error)))?.pem();
    Authority::read(&own_files::write(state, AUTHORITY, pem.as_bytes())?)
}

/// Names that every device of this kind may have, and the addresses that this one has now.
fn local_subtrees() -> Vec<Subtree> {
    let domain = DEVICE_DOMAIN.trim_start_matches('.');
    let mut subtrees: Vec<_> =
        ["localhost", "local", domain].map(|name| Subtree::Dns(name.to_owned())).into();
    let networks =
        LOCAL_NETWORKS.iter().filter_map(|&(network, prefix)| Some((network.parse().ok()?, prefix)));
    subtrees.extend(networks.map(|(network, prefix)| Subtree::network(network, prefix)));
    for address in addresses::of_this_device() {
        let own = Subtree::of_name(&address.to_string());
        if !subtrees.iter().any(|subtree| subtree.covers(&address.to_string())) {
            subtrees.push(own);
        }
    }
    subtrees
}

fn subject() -> String {
    let host: String = rustix::system::uname().nodename().to_string_lossy().chars().take(MAX_HOST).collect();
    format!("further-link on {host}")
}

fn params(subject: &str, permitted: Vec<Subtree>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.distinguished_name.push(DnType::OrganizationName, "further-link");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // It vouches for servers: not for persons, mail or programs.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let permitted_subtrees = permitted.into_iter().map(general_subtree).collect();
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    params
}

fn general_subtree(subtree: Subtree) -> GeneralSubtree {
    match subtree {
        Subtree::Dns(name) => GeneralSubtree::DnsName(name),
        Subtree::V4(address, mask) => GeneralSubtree::IpAddress(CidrSubnet::V4(address, mask)),
        Subtree::V6(address, mask) => GeneralSubtree::IpAddress(CidrSubnet::V6(address, mask)),
    }
}

fn key_fingerprint(key: &KeyPair) -> String {
    x509::fingerprint(&key.subject_public_key_info())
}
