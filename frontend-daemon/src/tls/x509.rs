//! What people compare of a certificate: its names, its dates, its fingerprints.
//!
//! `certificate` calls it for every certificate that is served or printed. It judges nothing: whether a certificate can
//! be served is for rustls to say. yasna, which rcgen needs anyway, reads the few fields; a whole X.509 library would
//! bring sixteen crates more.

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
/// `dNSName` and `iPAddress` among the kinds of general names (RFC 5280, appendix A.2).
const DNS_NAME: u64 = 2;
const IP_ADDRESS: u64 = 7;

/// What is told about a certificate.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) names: Vec<String>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    /// SHA-256 of the whole certificate, as browsers and openssl show it.
    pub(crate) fingerprint: String,
    /// SHA-256 of its public key (`SubjectPublicKeyInfo`).
    pub(crate) key_fingerprint: String,
}

impl About {
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
fn body(reader: &mut BERReaderSeq<'_, '_>, der: &[u8]) -> ASN1Result<About> {
    reader.read_optional(|reader| reader.read_tagged(Tag::context(0), |reader| reader.read_u8()))?;
    let (_serial, _algorithm, _issuer) =
        (reader.next().read_der()?, reader.next().read_der()?, reader.next().read_der()?);
    let (not_before, not_after) =
        reader.next().read_sequence(|reader| Ok((read_time(reader.next())?, read_time(reader.next())?)))?;
    let _subject = reader.next().read_der()?;
    let key = reader.next().read_der()?;
    let names = reader.read_optional(|reader| {
        reader.read_tagged(Tag::context(3), |reader| reader.collect_sequence_of(alternative_names))
    })?;
    Ok(About {
        names: names.into_iter().flatten().flatten().collect(),
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

/// The names in one extension, if it is the one that has them.
fn alternative_names(reader: BERReader<'_, '_>) -> ASN1Result<Vec<String>> {
    reader.read_sequence(|reader| {
        let kind = reader.next().read_oid()?;
        reader.read_optional(|reader| reader.read_bool())?;
        let value = reader.next().read_bytes()?;
        if kind != ObjectIdentifier::from_slice(&ALTERNATIVE_NAMES) {
            return Ok(Vec::new());
        }
        let names = yasna::parse_der(&value, |reader| reader.collect_sequence_of(general_name))?;
        Ok(names.into_iter().flatten().collect())
    })
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
fn fingerprint(bytes: &[u8]) -> String {
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
        let about = About::read(certificate.der()).unwrap();
        assert_eq!(about.names, ["pi.local", "192.0.2.7", "2001:db8::7"]);
        assert_eq!(about.not_before.unix_timestamp(), 1_700_000_000);
        assert_eq!(about.not_after.unix_timestamp(), 4_000_000_000);
        assert_eq!(about.fingerprint.len(), 95);
        assert_ne!(about.fingerprint, about.key_fingerprint);
        let again = params.self_signed(&key).unwrap();
        assert_eq!(About::read(again.der()).unwrap().key_fingerprint, about.key_fingerprint);
    }

    #[test]
    fn names_cannot_command_a_terminal() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a\x1b[2Jb".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(About::read(certificate.der()).unwrap().names, ["a?[2Jb"]);
    }

    #[test]
    fn nonsense_is_an_error() {
        for nonsense in [&b""[..], b"0", &[0x30, 0x80], &[0xff; 100]] {
            assert!(About::read(nonsense).is_err(), "{nonsense:?}");
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
