//! Certificates for tests of TLS: a root, one below it, and at the chain's end one for 127.0.0.1.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::daemon::Daemon;

/// A chain and its key, in PEM.
#[derive(Debug)]
pub struct Chain {
    /// Three certificates, the root last.
    pub certificates: String,
    /// The key of the first.
    pub key: String,
}

impl Chain {
    /// Makes one with new keys.
    pub fn new() -> Self {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let new_key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let (root_key, middle_key, key) = (new_key(), new_key(), new_key());
        let root_params = authority("root of the tests");
        let root = root_params.self_signed(&root_key).expect("a root");
        let root_issuer = Issuer::new(root_params, root_key);
        let middle_params = authority("below the root of the tests");
        let middle = middle_params.signed_by(&middle_key, &root_issuer).expect("a certificate");
        let issuer = Issuer::new(middle_params, middle_key);
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let leaf = params.signed_by(&key, &issuer).expect("a certificate");
        Self { certificates: leaf.pem() + &middle.pem() + &root.pem(), key: key.serialize_pem() }
    }

    /// Starts a daemon that serves with it.
    #[track_caller]
    pub fn serve(&self) -> Daemon {
        let builder = Daemon::builder().tls();
        self.write(&builder.scratch().extra(), 0o644);
        builder.start()
    }

    /// Writes both files; the key with this mode.
    pub fn write(&self, directory: &Path, mode: u32) {
        fs::create_dir_all(directory).expect("a directory");
        fs::write(directory.join("cert.pem"), &self.certificates).expect("a certificate");
        let key = directory.join("key.pem");
        fs::write(&key, &self.key).expect("a key");
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("a mode");
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}
