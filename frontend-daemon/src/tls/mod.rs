//! TLS: which certificate is served, its exchange while connections are open, and the handshake.
//!
//! `main` prepares it while this process may still be root, and starts it when it is not any more; `listen`
//! hands it each accepted connection. Where the files lie and what makes them good is in `certificate`.

pub(crate) mod authority;
pub(crate) mod certificate;
pub(crate) mod own_certificate;
pub(crate) mod own_files;
pub(crate) mod x509;

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::unistd::User;
use rustls::{
    ServerConfig,
    crypto::ring::{Ticketer, default_provider},
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};
use time::OffsetDateTime;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::watch, time::MissedTickBehavior};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, error, info, warn};

use crate::device::names::host_names;
use crate::reply::page_text;
use crate::tls::authority::Authority;
use crate::tls::certificate::{CERTIFICATE, CertificateDirs, FileError, KEY, Pair, Served};

/// A client has this long from its first byte to the end of the handshake, as for the head of a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The files are looked at this often. A change counts when they have been the same twice: they may be half
/// written.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// A renewal that failed (a full disk) is tried again after this.
const RENEWAL_PAUSE: Duration = Duration::from_hours(1);
/// First byte of a TLS connection: a record of the handshake (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;
/// Most bytes of a plain request that are read before it is refused.
const PLAIN_REQUEST: usize = 4096;
/// What a client that speaks plain HTTP is told.
const PLAIN_ANSWER: &str = "This port speaks https and wss.\n";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{0}")]
    File(#[from] FileError),
    #[error("TLS: {0}")]
    Directories(#[from] io::Error),
    #[error("TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// Where the certificate comes from, and for which names one is made.
#[derive(Clone)]
pub(crate) struct CertificateSource {
    dirs: CertificateDirs,
    /// Names that the settings give to the device.
    settings: Vec<String>,
}

/// What had to be done as root.
pub(crate) struct PreparedTls {
    source: CertificateSource,
    pair: Result<Option<Pair>, FileError>,
}

/// Accepts handshakes with whatever certificate is the current one.
#[derive(Clone)]
pub(crate) struct Tls {
    serving: watch::Receiver<Serving>,
}

/// What handshakes use, and what signed it.
#[derive(Clone)]
struct Serving {
    config: Arc<ServerConfig>,
    authority: Option<Authority>,
}

/// Keeps the certificate up to date.
pub(crate) struct CertificateReloader {
    source: CertificateSource,
    serving: watch::Sender<Serving>,
    current: Current,
    /// How the files looked when they were last taken, or tried.
    stamps: Vec<Stamp>,
}

/// What is served now.
struct Current {
    /// The authority that has signed our own certificate, which is renewed; none for the administrator's.
    own: Option<Authority>,
    served: Served,
}

impl CertificateSource {
    pub(crate) fn new(dirs: CertificateDirs, names: &[String]) -> Self {
        // As certificates write addresses.
        let canonical = |name: &String| {
            name.parse::<std::net::IpAddr>().map_or_else(|_| name.clone(), |address| address.to_string())
        };
        Self { dirs, settings: names.iter().map(canonical).collect() }
    }

    /// The names that our own certificate should have: those of the settings, and the host's as it is called
    /// now.
    fn names(&self) -> Vec<String> {
        self.settings.iter().cloned().chain(host_names()).collect()
    }

    /// With the rights that this process has at its start: the administrator's files may be root's alone.
    /// Nothing of them is looked at here.
    pub(crate) fn prepare(self, account: Option<&User>) -> Result<PreparedTls, TlsError> {
        let pair = Pair::read(&self.dirs.extra);
        if let Some(account) = account {
            // For an administrator's certificate it is needed only if that one turns out to be bad.
            let made = own_certificate::prepare(&self.dirs.state, account);
            if !matches!(pair, Ok(Some(_))) {
                made?;
            }
        }
        Ok(PreparedTls { source: self, pair })
    }

    /// The administrator's certificate; where there is none, the device's own. That one also while it stands
    /// in for files that cannot be used: it has to be renewed all the same.
    fn load(&self, own_is_served: bool) -> Result<Current, FileError> {
        let checked = Pair::read(&self.dirs.extra).and_then(|pair| pair.map(Pair::check).transpose());
        match checked {
            Ok(Some(served)) => Ok(Current { own: None, served }),
            Ok(None) => self.load_own(),
            Err(error) if own_is_served => {
                warn!("{error}; the device's own certificate stays in use{}", error.repair());
                self.load_own()
            }
            Err(error) => Err(error),
        }
    }

    /// The same at the start, where a certificate that cannot be used is no reason to serve nothing.
    fn load_first(&self, pair: Result<Option<Pair>, FileError>) -> Result<Current, FileError> {
        let checked = pair.and_then(|pair| pair.map(Pair::check).transpose());
        match checked {
            Ok(Some(served)) => return Ok(Current { own: None, served }),
            Ok(None) => {}
            Err(error) => error!(
                "{error}. The certificate that this device has made for itself is served meanwhile; the files are \
                 taken as soon as they can be used{}",
                error.repair()
            ),
        }
        self.load_own()
    }

    fn load_own(&self) -> Result<Current, FileError> {
        let (served, authority) = own_certificate::load(&self.dirs.state, &self.names())?;
        Ok(Current { own: Some(authority), served })
    }

    /// How the files look from outside: replaced or rewritten files look different.
    fn stamps(&self) -> Vec<Stamp> {
        let in_directory = |directory: &Path| [directory.join(CERTIFICATE), directory.join(KEY)];
        [&self.dirs.extra, &self.dirs.state]
            .into_iter()
            .flat_map(|path| in_directory(path))
            .map(stamp)
            .collect()
    }
}

/// Time of change (of content, owner or mode), size and inode of a file, or why they are not known.
type Stamp = Result<(i64, i64, u64, u64), io::ErrorKind>;

fn stamp(path: PathBuf) -> Stamp {
    let metadata = std::fs::metadata(path).map_err(|error| error.kind())?;
    Ok((metadata.ctime(), metadata.ctime_nsec(), metadata.size(), metadata.ino()))
}

impl PreparedTls {
    /// Checks what was read, or makes or reads our own certificate; without root's rights.
    pub(crate) fn start(self) -> Result<(Tls, CertificateReloader), TlsError> {
        let Self { source, pair } = self;
        let stamps = source.stamps();
        let current = source.load_first(pair)?;
        let config = Arc::new(server_config(&current.served)?);
        let (serving, receiver) = watch::channel(Serving { config, authority: current.own.clone() });
        announce(&current);
        Ok((Tls { serving: receiver }, CertificateReloader { source, serving, current, stamps }))
    }
}

fn server_config(served: &Served) -> Result<ServerConfig, rustls::Error> {
    let resolver = Arc::new(SingleCertAndKey::from(Arc::clone(&served.key)));
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A classroom that connects again is cheaper by a signature for each client, at no memory here.
    config.ticketer = Ticketer::new()?;
    Ok(config)
}

/// Says what is served, and what a person compares at the first meeting.
fn announce(current: &Current) {
    let Served { path, about, .. } = &current.served;
    let whose = if current.own.is_some() { "made for this device, " } else { "" };
    info!(
        "certificate {} ({whose}valid until {}), SHA-256 fingerprint {}",
        path.display(),
        about.not_after.date(),
        about.fingerprint
    );
    if let Some(Authority { about, .. }) = &current.own {
        info!(
            "it is signed by the certificate authority of this device (GET /certificate, valid until {}), SHA-256 \
             fingerprint of the authority {}",
            about.not_after.date(),
            about.fingerprint
        );
    }
    let now = OffsetDateTime::now_utc();
    if current.own.is_none() && (about.not_after < now || about.not_before > now) {
        warn!("{} is not valid today: browsers will refuse it", path.display());
    }
}

impl CertificateReloader {
    /// Exchanges the certificate when its files change or its end comes near, for ever. Open connections keep
    /// theirs.
    pub(crate) async fn keep_current(mut self) {
        let mut seen = self.stamps.clone();
        let mut last_renewal: Option<Instant> = None;
        if self.current.own.is_none() && stamp(self.current.served.path.clone()).is_err() {
            info!(
                "the account that serves cannot see {}: changes count from the next start",
                self.source.dirs.extra.display()
            );
        }
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let source = self.source.clone();
            // The directory may be on a disk that hangs.
            let looked = tokio::task::spawn_blocking(move || (source.stamps(), source.names()));
            let Ok((stamps, names)) = looked.await else { return };
            let changed = stamps != self.stamps && stamps == seen;
            let is_due = |authority: &Authority| {
                own_certificate::is_due(&self.current.served.about, &names, authority)
            };
            let due = self.current.own.as_ref().is_some_and(is_due)
                && last_renewal.is_none_or(|last| last.elapsed() > RENEWAL_PAUSE);
            if due {
                last_renewal = Some(Instant::now());
            }
            if changed || due {
                self.reload().await;
            }
            if changed {
                self.stamps.clone_from(&stamps);
            }
            seen = stamps;
        }
    }

    /// Takes what is there now, if it is good; says so once if it is not.
    async fn reload(&mut self) {
        let (source, own_is_served) = (self.source.clone(), self.current.own.is_some());
        let loaded = tokio::task::spawn_blocking(move || source.load(own_is_served));
        let Ok(loaded) = loaded.await else { return };
        let loaded = loaded.map_err(TlsError::from);
        match loaded.and_then(|current| Ok((server_config(&current.served)?, current))) {
            Ok((_, current)) if current.served.key.cert == self.current.served.key.cert => {}
            Ok((config, current)) => {
                announce(&current);
                let authority = current.own.clone();
                self.serving.send_replace(Serving { config: Arc::new(config), authority });
                self.current = current;
            }
            Err(error) => {
                let repair = if let TlsError::File(error) = &error { error.repair() } else { String::new() };
                warn!("{error}; the certificate that was read before stays in use{repair}");
            }
        }
    }
}

impl Tls {
    /// The authority that has signed what is served now, if it is this device's.
    pub(crate) fn authority(&self) -> Option<Authority> {
        self.serving.borrow().authority.clone()
    }

    /// Shakes hands with a client that has sent this byte, which is still to be read. None if it does not, or
    /// speaks plain HTTP, which it is told.
    pub(crate) async fn accept(&self, stream: TcpStream, first: u8) -> Option<TlsStream<TcpStream>> {
        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
            if first != HANDSHAKE_RECORD {
                return Box::pin(refuse_plain(stream)).await;
            }
            let config = Arc::clone(&self.serving.borrow().config);
            Box::pin(TlsAcceptor::from(config).accept(stream)).await
        });
        match shaken.await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                debug!("handshake: {error}");
                None
            }
            Err(_) => {
                debug!("handshake: not done within {HANDSHAKE_TIMEOUT:?}");
                None
            }
        }
    }
}

/// Tells a client that speaks plain HTTP what it has reached. A person gets a link to the right address.
async fn refuse_plain<T>(mut stream: TcpStream) -> io::Result<T> {
    // What is left unread would become a reset, and take the answer with it.
    let mut request = [0; PLAIN_REQUEST];
    let length = stream.try_read(&mut request).unwrap_or_default();
    stream.write_all(plain_answer(request.get(..length).unwrap_or_default()).as_bytes()).await?;
    stream.shutdown().await?;
    Err(io::Error::other("a plain request"))
}

fn plain_answer(request: &[u8]) -> String {
    let header = |name: &str| {
        let lines = request.split(|byte| *byte == b'\n').skip(1);
        let mut fields = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    // Only what a host and a port can have, so that nothing has to be escaped.
    let plain =
        |host: &&str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    let host = header("host").filter(plain).filter(|host| !host.is_empty());
    let is_person = header("accept").is_some_and(|accept| accept.contains("text/html"));
    let (kind, body) = match host {
        Some(host) if is_person => {
            let url = format!("https://{host}/");
            let link = format!(
                "<p>This port speaks https. Go to <a href=\"{url}\">{url}</a>. Your browser may warn you of the \
                 device's certificate at the first visit.</p>\n"
            );
            ("html", page_text("further-link", &link))
        }
        _ => ("plain", PLAIN_ANSWER.to_owned()),
    };
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/{kind}; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_who_speaks_plain_http_gets_a_link_and_a_program_a_line() {
        let person = plain_answer(b"GET / HTTP/1.1\r\nHost: pi.local:8028\r\nAccept: text/html,*/*\r\n\r\n");
        assert!(person.contains("<a href=\"https://pi.local:8028/\">"), "{person}");
        for request in [
            "GET / HTTP/1.1\r\nHost: pi.local:8028\r\nAccept: */*\r\n\r\n",
            "GET / HTTP/1.1\r\nAccept: text/html\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: \"><script>\r\nAccept: text/html\r\n\r\n",
            "nonsense",
            "",
        ] {
            let answer = plain_answer(request.as_bytes());
            assert!(answer.ends_with("\r\n\r\nThis port speaks https and wss.\n"), "{request:?}: {answer}");
        }
    }
}
