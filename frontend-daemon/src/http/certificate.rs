//! `GET /certificate`: the certificate authority of this device, in the forms that browsers and systems
//! install.
//!
//! `routes` calls it for every client: a certificate is no secret. The key is not known here.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::Response;

use crate::{
    reply::text,
    tls::{Tls, authority::Authority},
};

const DER_TYPE: &str = "application/x-x509-ca-cert";
const PROFILE_TYPE: &str = "application/x-apple-aspen-config";

/// A form of the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Pem,
    /// What browsers, iOS, Android and Windows install.
    Der,
    /// A configuration profile of Apple's systems, with the DER in it.
    Profile,
}

impl Form {
    /// The form that a client asks for: a browser gets the one that systems install, all others PEM.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let first =
            accept.split(',').find_map(|one| match one.split(';').next().unwrap_or_default().trim() {
                "application/x-pem-file" | "application/pem-certificate-chain" | "text/plain" => {
                    Some(Self::Pem)
                }
                DER_TYPE | "application/pkix-cert" | "text/html" => Some(Self::Der),
                PROFILE_TYPE => Some(Self::Profile),
                _ => None,
            });
        first.unwrap_or(Self::Pem)
    }
}

/// The answer.
pub(crate) fn answer(tls: Option<&Tls>, form: Form) -> Response {
    let Some(tls) = tls else {
        let reason = "404: Not Found: this server speaks plain http, so there is no certificate.";
        return text(StatusCode::NOT_FOUND, reason);
    };
    let Some(authority) = tls.authority() else {
        let reason = "404: Not Found: the administrator of this device has put a certificate of another authority \
                      here. Ask the administrator how to trust it.";
        return text(StatusCode::NOT_FOUND, reason);
    };
    let (body, kind) = match form {
        Form::Pem => (authority.pem.into_bytes(), "application/x-pem-file"),
        Form::Der => (authority.der.to_vec(), DER_TYPE),
        Form::Profile => (profile(&authority).into_bytes(), PROFILE_TYPE),
    };
    let mut response = text(StatusCode::OK, "");
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    *response.body_mut() = body.into();
    response
}

/// An unsigned profile with one payload (Apple, "Device Management").
fn profile(authority: &Authority) -> String {
    let name: String =
        authority.about.common_name.as_deref().unwrap_or("further-link").chars().map(plain).collect();
    // Stays the same for the same authority: a second installation replaces the first.
    let digits: String = authority.about.fingerprint.chars().filter(|digit| *digit != ':').collect();
    let [outer, inner] = [&digits[..32], &digits[32..]].map(uuid);
    let certificate = STANDARD.encode(&authority.der);
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
<key>PayloadType</key><string>Configuration</string>
<key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>further-link.{outer}</string>
<key>PayloadUUID</key><string>{outer}</string>
<key>PayloadDisplayName</key><string>{name}</string>
<key>PayloadContent</key>
<array><dict>
<key>PayloadType</key><string>com.apple.security.root</string>
<key>PayloadVersion</key><integer>1</integer>
<key>PayloadIdentifier</key><string>further-link.{outer}.certificate</string>
<key>PayloadUUID</key><string>{inner}</string>
<key>PayloadDisplayName</key><string>{name}</string>
<key>PayloadCertificateFileName</key><string>ca.crt</string>
<key>PayloadContent</key><data>{certificate}</data>
</dict></array>
</dict>
</plist>
"#
    )
}

/// No character that XML gives a meaning to.
fn plain(letter: char) -> char {
    if letter.is_ascii_alphanumeric() || " -_.".contains(letter) { letter } else { '?' }
}

/// 32 hexadecimal digits in the form of a UUID.
fn uuid(digits: &str) -> String {
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_what_systems_install_and_programs_get_pem() {
        for (accept, form) in [
            ("*/*", Form::Pem),
            ("", Form::Pem),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form::Der),
            ("application/x-x509-ca-cert", Form::Der),
            ("application/pkix-cert;q=1, */*", Form::Der),
            ("application/x-apple-aspen-config", Form::Profile),
            ("application/x-pem-file, text/html", Form::Pem),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Form::accepted(&headers), form, "{accept}");
        }
    }
}
