//! The two files that TLS needs, `cert.pem` and `key.pem`: where they lie, how they are read, and what makes
//! them good.
//!
//! `tls` serves what comes from here, `fingerprint` prints it. Files of the administrator (`--extra-dir`) go
//! before the certificate that this daemon makes for itself (`own_certificate`). Nothing here writes, and no
//! error repeats a word of what is in a file: it may be a key, or a file of root's that a link leads to.

use std::{
    env, fmt,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::unistd::{Uid, User};
use rustix::fs::{Mode, OFlags};
use rustls::{
    InconsistentKeys,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use tracing::warn;

use crate::{config::TlsDirs, tls::x509::CertificateInfo};

/// Their names, in whichever directory.
pub(crate) const CERTIFICATE: &str = "cert.pem";
pub(crate) const KEY: &str = "key.pem";
/// The authority of the device, in the state directory only.
pub(crate) const AUTHORITY: &str = "ca.pem";
pub(crate) const AUTHORITY_KEY: &str = "ca-key.pem";
/// What the device was when its keys were made, in the state directory only.
pub(crate) const DEVICE: &str = "device";
/// Longest file that is read. A chain of ten certificates has a tenth of it.
const MAX_FILE: u64 = 256 * 1024;
/// Where the package keeps the administrator's files.
const SYSTEM_EXTRA: &str = "/etc/further-link/extra";
/// Where root's daemon keeps its own files; systemd's `StateDirectory=further-link`.
const SYSTEM_STATE: &str = "/var/lib/further-link";
/// Below the home directory: the default of `$XDG_STATE_HOME` (XDG base directory specification).
const HOME_STATE: &str = ".local/state";

/// The directories.
#[derive(Clone, Debug)]
pub(crate) struct CertificateDirs {
    /// The administrator's files.
    pub(crate) extra: PathBuf,
    /// Our own.
    pub(crate) state: PathBuf,
}

/// What is wrong with a file, in one line.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {}: {reason}", path.display())]
pub(crate) struct FileError {
    pub(crate) path: PathBuf,
    pub(crate) reason: FileErrorKind,
}

impl FileError {
    /// The command that repairs it, where there is one.
    pub(crate) fn repair(&self) -> String {
        let path = self.path.display();
        match &self.reason {
            FileErrorKind::Denied(_) => {
                let group = nix::unistd::Group::from_gid(nix::unistd::Gid::effective());
                let group =
                    group.ok().flatten().map_or_else(|| "further-link".to_owned(), |group| group.name);
                let directory = self.path.parent().map(Path::display);
                match (fs::read_link(&self.path), fs::symlink_metadata(&self.path)) {
                    (Ok(target), _) => {
                        format!(": sudo install -m 640 -g {group} {} {path}", target.display())
                    }
                    (_, Ok(_)) => format!(": sudo chgrp {group} {path} && sudo chmod 640 {path}"),
                    // What is in it cannot be seen.
                    (_, Err(_)) => directory.map_or_else(String::new, |directory| {
                        format!(": sudo chgrp {group} {directory} && sudo chmod 750 {directory}")
                    }),
                }
            }
            FileErrorKind::Stranger(_) => format!(": sudo chown root {path}"),
            FileErrorKind::Writable => format!(": sudo chmod go-w {path}"),
            _ => String::new(),
        }
    }
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileErrorKind {
    #[error("{0}")]
    Io(io::Error),
    #[error("the account {0} may not read it")]
    Denied(String),
    #[error("it is missing, and there is {}", .0.display())]
    Alone(PathBuf),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is longer than {MAX_FILE} bytes")]
    TooLong,
    #[error("it is not PEM, or damaged")]
    NotPem,
    #[error("there is no certificate in it (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    #[error("there is no private key in it that needs no passphrase (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    #[error("its first certificate cannot be used: {0}")]
    Certificate(String),
    #[error("its key cannot be used: {0}")]
    Key(rustls::Error),
    #[error("it is not the key of the first certificate in {}", .0.display())]
    OtherKey(PathBuf),
    #[error("it has to belong to the account {owner}, and be closed to all others (chmod {mode})")]
    Open { owner: String, mode: &'static str },
    #[error(
        "it belongs to uid {0}, who may know the key: its owner has to be root or the account that serves"
    )]
    Stranger(u32),
    #[error("accounts other than its owner may write to it")]
    Writable,
    #[error("cannot write: {0}")]
    Write(io::Error),
    #[error("it does not exist, and root makes it only in a directory that nobody else can write to")]
    UnsafeParent,
    #[error("cannot make a certificate: {0}")]
    Make(rcgen::Error),
}

/// A certificate that can be served.
pub(crate) struct Served {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) path: PathBuf,
    pub(crate) about: CertificateInfo,
}

/// Both files as they were read, not looked at yet: that is done without root's rights.
pub(crate) struct Pair {
    certificate: PemFile,
    key: PemFile,
}

/// One file as it was read.
#[derive(Clone)]
pub(crate) struct PemFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    /// Owner and mode of what was read.
    owner: u32,
    mode: u32,
}

impl CertificateDirs {
    /// Those of the options; else `extra` in the current directory if it is there, else [`SYSTEM_EXTRA`]; and
    /// for our own files systemd's directory, else the user's, else the system's.
    pub(crate) fn new(options: &TlsDirs) -> io::Result<Self> {
        let extra = match &options.extra_dir {
            Some(path) => path.clone(),
            None => Some(std::path::absolute("extra")?)
                .filter(|path| path.is_dir())
                .unwrap_or_else(|| SYSTEM_EXTRA.into()),
        };
        let state = options.state_dir.clone().or_else(usual_state).ok_or_else(|| {
            io::Error::other("there is no home directory for the certificate: name one with --state-dir")
        })?;
        Ok(Self { extra, state })
    }
}

fn usual_state() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd separates several by colons (systemd.exec(5)); there is one.
    let of_service = variable("STATE_DIRECTORY").filter(|path| path.is_absolute());
    let of_user = || {
        let base = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
        Some(base.or_else(|| Some(variable("HOME")?.join(HOME_STATE)))?.join("further-link"))
    };
    of_service.or_else(|| if Uid::effective().is_root() { Some(SYSTEM_STATE.into()) } else { of_user() })
}

impl Pair {
    /// Reads both files; none if neither is there.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, FileError> {
        let certificate = PemFile::read(&directory.join(CERTIFICATE))?;
        let key = PemFile::read(&directory.join(KEY))?;
        let alone = |name, other: PemFile| {
            Err(FileError { path: directory.join(name), reason: FileErrorKind::Alone(other.path) })
        };
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key })),
            (None, None) => Ok(None),
            (Some(certificate), None) => alone(KEY, certificate),
            (None, Some(key)) => alone(CERTIFICATE, key),
        }
    }

    /// Two files of one directory.
    pub(crate) fn new(certificate: PemFile, key: PemFile) -> Self {
        Self { certificate, key }
    }

    /// Whether they can be served: the certificates of the file in their order, and the key of the first.
    pub(crate) fn check(self) -> Result<Served, FileError> {
        let Self { certificate, key } = self;
        key.check_owner()?;
        let (chain, about) = certificate.certificates()?;
        let signer = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => FileErrorKind::NoKey,
            _ => FileErrorKind::NotPem,
        });
        let signer = signer.and_then(|der| any_supported_type(&der).map_err(FileErrorKind::Key));
        let served = CertifiedKey::new(chain, signer.map_err(|reason| key.error(reason))?);
        match served.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(key.error(FileErrorKind::OtherKey(certificate.path)));
            }
            Err(error) => return Err(certificate.error(FileErrorKind::Certificate(error.to_string()))),
        }
        Ok(Served { key: Arc::new(served), path: certificate.path, about })
    }
}

impl PemFile {
    /// Reads a regular file of sensible length, if there is one. A link that leads nowhere is not "nothing".
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, FileError> {
        match read(path) {
            Ok((bytes, owner, mode)) => Ok(Some(Self { path: path.to_owned(), bytes, owner, mode })),
            Err(FileErrorKind::Io(error))
                if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() =>
            {
                Ok(None)
            }
            Err(reason) => Err(FileError { path: path.to_owned(), reason }),
        }
    }

    /// All certificates in it, and what is to be told about the first.
    pub(crate) fn certificates(&self) -> Result<(Vec<CertificateDer<'static>>, CertificateInfo), FileError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let chain = chain.map_err(|_| self.error(FileErrorKind::NotPem))?;
        let first = chain.first().ok_or_else(|| self.error(FileErrorKind::NoCertificate))?;
        let about = CertificateInfo::read(first)
            .map_err(|error| self.error(FileErrorKind::Certificate(error.to_string())))?;
        Ok((chain, about))
    }

    /// What this daemon has just written itself.
    pub(crate) fn written(path: PathBuf, bytes: Vec<u8>) -> Self {
        Self { path, bytes, owner: Uid::effective().as_raw(), mode: 0o600 }
    }

    /// A key that a stranger could have put there, or changed, is not the administrator's. One that others
    /// may read is still the right one: that is said, and no browser is cut off for it.
    fn check_owner(&self) -> Result<(), FileError> {
        if self.owner != 0 && self.owner != Uid::effective().as_raw() {
            return Err(self.error(FileErrorKind::Stranger(self.owner)));
        }
        if self.mode & 0o022 != 0 {
            return Err(self.error(FileErrorKind::Writable));
        }
        if self.mode & 0o004 != 0 {
            let path = self.path.display();
            warn!("{path}: every account of this device may read this key: sudo chmod o-rwx {path}");
        }
        Ok(())
    }

    pub(crate) fn error(&self, reason: FileErrorKind) -> FileError {
        FileError { path: self.path.clone(), reason }
    }
}

fn read(path: &Path) -> Result<(Vec<u8>, u32, u32), FileErrorKind> {
    // A FIFO would otherwise be waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| read_error(error.into()))?;
    let file = File::from(file);
    let metadata = file.metadata().map_err(read_error)?;
    if !metadata.is_file() {
        return Err(FileErrorKind::NotAFile);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(FileErrorKind::TooLong);
    }
    Ok((bytes, metadata.uid(), metadata.mode()))
}

fn read_error(error: io::Error) -> FileErrorKind {
    if error.kind() == ErrorKind::PermissionDenied {
        FileErrorKind::Denied(account())
    } else {
        FileErrorKind::Io(error)
    }
}

/// Whose rights this process has.
pub(crate) fn account() -> String {
    let uid = Uid::effective();
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// What a person compares, over several lines.
impl fmt::Display for CertificateInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "names:       {}", self.names.join(", "))?;
        writeln!(f, "valid:       {} to {}", self.not_before.date(), self.not_after.date())?;
        writeln!(f, "SHA-256:     {}", self.fingerprint)?;
        writeln!(f, "public key:  {}", self.key_fingerprint)
    }
}
