//! What people compare of a certificate: its names, its dates, its fingerprints.
//!
//! `certificate` calls it for every certificate that is served or printed. It judges nothing: whether a
//! certificate can be served is for rustls to say. yasna, which rcgen needs anyway, reads the few fields; a
//! whole X.509 library would bring sixteen crates more.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method itself is not general enough over the reader's lifetime"
)]

use std::net::IpAddr;

use ring::digest;
use time::OffsetDateTime;
use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReader, BERReaderSeq, Tag, models::ObjectIdentifier};

/// subjectAltName (RFC 5280, 4.2.1.6).
const ALTERNATIVE_NAMES: [u64; 4] = [2, 5, 29, 17];
/// nameConstraints (RFC 5280, 4.2.1.10).
const NAME_CONSTRAINTS: [u64; 4] = [2, 5, 29, 30];
/// commonName (RFC 5280, appendix A.1).
const COMMON_NAME: [u64; 4] = [2, 5, 4, 3];
/// `dNSName` and `iPAddress` among the kinds of general names (RFC 5280, appendix A.2).
const DNS_NAME: u64 = 2;
const IP_ADDRESS: u64 = 7;

/// What is told about a certificate.
#[derive(Clone, Debug)]
pub(crate) struct CertificateInfo {
    pub(crate) names: Vec<String>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    /// SHA-256 of the whole certificate, as browsers and openssl show it.
    pub(crate) fingerprint: String,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`).
    pub(crate) key_fingerprint: String,
    /// The subject's common name.
    pub(crate) common_name: Option<String>,
    /// The names that an authority may vouch for, if its certificate limits them.
    pub(crate) permitted: Vec<Subtree>,
}

/// A part of the names or addresses that name constraints permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subtree {
    /// This name and all names below it.
    Dns(String),
    /// Address and mask.
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

impl Subtree {
    /// One name or address alone.
    pub(crate) fn of_name(name: &str) -> Self {
        match name.parse() {
            Ok(address) => Self::network(address, u8::MAX),
            Err(_) => Self::Dns(name.to_owned()),
        }
    }

    /// The addresses that share this many leading bits.
    pub(crate) fn network(address: IpAddr, prefix: u8) -> Self {
        let prefix = u32::from(prefix);
        match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shr(prefix).map_or(u32::MAX, |host| !host);
                Self::V4(address.octets(), mask.to_be_bytes())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shr(prefix).map_or(u128::MAX, |host| !host);
                Self::V6(address.octets(), mask.to_be_bytes())
            }
        }
    }

    /// Whether this name or address is in it.
    pub(crate) fn covers(&self, name: &str) -> bool {
        fn same(one: &[u8], other: &[u8], mask: &[u8]) -> bool {
            one.iter().zip(other).zip(mask).all(|((one, other), mask)| one & mask == other & mask)
        }
        match (self, name.parse()) {
            (Self::Dns(base), Err(_)) => {
                name.strip_suffix(base.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Self::V4(base, mask), Ok(IpAddr::V4(address))) => same(base, &address.octets(), mask),
            (Self::V6(base, mask), Ok(IpAddr::V6(address))) => same(base, &address.octets(), mask),
            _ => false,
        }
    }
}

impl CertificateInfo {
    /// Reads it from a certificate in DER.
    pub(crate) fn read(der: &[u8]) -> ASN1Result<Self> {
        yasna::parse_der(der, |reader| {
            reader.read_sequence(|reader| {
                let about = reader.next().read_sequence(|reader| body(reader, der))?;
                reader.next().read_der()?;
                reader.next().read_der()?;
                Ok(about)
            })
        })
    }
}

/// `TBSCertificate`, RFC 5280, 4.1. The fields that are skipped are read as what they are, whole.
fn body(reader: &mut BERReaderSeq<'_, '_>, der: &[u8]) -> ASN1Result<CertificateInfo> {
    reader.read_optional(|reader| reader.read_tagged(Tag::context(0), |reader| reader.read_u8()))?;
    let (_serial, _algorithm, _issuer) =
        (reader.next().read_der()?, reader.next().read_der()?, reader.next().read_der()?);
    let (not_before, not_after) =
        reader.next().read_sequence(|reader| Ok((read_time(reader.next())?, read_time(reader.next())?)))?;
    let parts = reader.next().collect_sequence_of(|reader| reader.collect_set_of(attribute))?;
    let key = reader.next().read_der()?;
    let mut told = Extensions::default();
    reader.read_optional(|reader| {
        reader.read_tagged(Tag::context(3), |reader| reader.read_sequence_of(|one| extension(one, &mut told)))
    })?;
    Ok(CertificateInfo {
        names: told.names,
        permitted: told.permitted,
        common_name: parts.into_iter().flatten().flatten().next(),
        not_before,
        not_after,
        fingerprint: fingerprint(der),
        key_fingerprint: fingerprint(&key),
    })
}

fn read_time(reader: BERReader<'_, '_>) -> ASN1Result<OffsetDateTime> {
    if reader.lookahead_tag()? == yasna::tags::TAG_UTCTIME {
        Ok(*reader.read_utctime()?.datetime())
    } else {
        Ok(*reader.read_generalized_time()?.datetime())
    }
}

/// What is told of the extensions.
#[derive(Default)]
struct Extensions {
    names: Vec<String>,
    permitted: Vec<Subtree>,
}

/// The common name, of the subject's parts.
fn attribute(reader: BERReader<'_, '_>) -> ASN1Result<Option<String>> {
    reader.read_sequence(|reader| {
        let kind = reader.next().read_oid()?;
        let value = reader.next().read_tagged_der()?;
        let is_name = kind == ObjectIdentifier::from_slice(&COMMON_NAME);
        Ok(is_name.then(|| String::from_utf8_lossy(value.value()).into_owned()))
    })
}

fn extension(reader: BERReader<'_, '_>, told: &mut Extensions) -> ASN1Result<()> {
    let (kind, value) = reader.read_sequence(|reader| {
        let kind = reader.next().read_oid()?;
        reader.read_optional(|reader| reader.read_bool())?;
        Ok((kind, reader.next().read_bytes()?))
    })?;
    if kind == ObjectIdentifier::from_slice(&ALTERNATIVE_NAMES) {
        let names = yasna::parse_der(&value, |reader| reader.collect_sequence_of(general_name))?;
        told.names.extend(names.into_iter().flatten());
    } else if kind == ObjectIdentifier::from_slice(&NAME_CONSTRAINTS) {
        // Only `own_certificate` asks for them; an administrator's chain may have what is not understood
        // here.
        told.permitted = yasna::parse_der(&value, permitted_subtrees).unwrap_or_default();
    }
    Ok(())
}

/// `permittedSubtrees`, as `authority` writes them: there are no others.
fn permitted_subtrees(reader: BERReader<'_, '_>) -> ASN1Result<Vec<Subtree>> {
    reader.read_sequence(|reader| {
        let all = reader.next().read_tagged_implicit(Tag::context(0), |reader| {
            reader.collect_sequence_of(|reader| reader.read_sequence(|reader| subtree(reader.next())))
        })?;
        Ok(all)
    })
}

fn subtree(reader: BERReader<'_, '_>) -> ASN1Result<Subtree> {
    let tag = reader.lookahead_tag()?;
    if tag == Tag::context(DNS_NAME) {
        return Ok(Subtree::Dns(reader.read_tagged_implicit(tag, |reader| reader.read_ia5_string())?));
    }
    let bytes = reader.read_tagged_implicit(tag, |reader| reader.read_bytes())?;
    let (base, mask) = bytes.split_at(bytes.len() / 2);
    let v4 = <[u8; 4]>::try_from(base).and_then(|base| Ok(Subtree::V4(base, mask.try_into()?)));
    let v6 = || <[u8; 16]>::try_from(base).and_then(|base| Ok(Subtree::V6(base, mask.try_into()?)));
    v4.or_else(|_| v6()).map_err(|_| ASN1Error::new(ASN1ErrorKind::Invalid))
}

fn general_name(reader: BERReader<'_, '_>) -> ASN1Result<Option<String>> {
    let tag = reader.lookahead_tag()?;
    if tag == Tag::context(DNS_NAME) {
        let name = reader.read_tagged_implicit(tag, |reader| reader.read_ia5_string())?;
        // It may come to a terminal.
        return Ok(Some(name.replace(|letter: char| !letter.is_ascii_graphic(), "?")));
    }
    if tag == Tag::context(IP_ADDRESS) {
        let bytes = reader.read_tagged_implicit(tag, |reader| reader.read_bytes())?;
        let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
        let v6 = <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from);
        let address = v4.or(v6).map_err(|_| ASN1Error::new(ASN1ErrorKind::Invalid))?;
        return Ok(Some(address.to_string()));
    }
    reader.read_der()?;
    Ok(None)
}

/// SHA-256, in the form that browsers and openssl show.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    let pairs: Vec<_> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn names_dates_and_fingerprints_are_read() {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(["pi.local", "192.0.2.7", "2001:db8::7"].map(str::to_owned)).unwrap();
        // One date in each of the two forms.
        params.not_before = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let about = CertificateInfo::read(certificate.der()).unwrap();
        assert_eq!(about.names, ["pi.local", "192.0.2.7", "2001:db8::7"]);
        assert_eq!(about.not_before.unix_timestamp(), 1_700_000_000);
        assert_eq!(about.not_after.unix_timestamp(), 4_000_000_000);
        assert_eq!(about.fingerprint.len(), 95);
        assert_ne!(about.fingerprint, about.key_fingerprint);
        let again = params.self_signed(&key).unwrap();
        assert_eq!(CertificateInfo::read(again.der()).unwrap().key_fingerprint, about.key_fingerprint);
    }

    #[test]
    fn names_cannot_command_a_terminal() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a\x1b[2Jb".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(CertificateInfo::read(certificate.der()).unwrap().names, ["a?[2Jb"]);
    }

    #[test]
    fn nonsense_is_an_error() {
        for nonsense in [&b""[..], b"0", &[0x30, 0x80], &[0xff; 100]] {
            assert!(CertificateInfo::read(nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn a_fingerprint_has_the_form_that_people_know() {
        assert_eq!(
            fingerprint(b"abc"),
            "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD"
        );
    }
}
