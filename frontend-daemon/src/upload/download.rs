//! One download: from a url that a client named to pieces of its content. The only file that knows the HTTP
//! client.
//!
//! It asks the url's server and no other (D48), and reaches only addresses that are out in the internet
//! unless told otherwise (D21): names are looked up here, so that the address that was checked is the one
//! that is connected to; addresses in urls and each hop of a redirect are checked too. A proxy from the
//! environment is not used, since what it connects to cannot be checked. Contents pass through piece by
//! piece; nothing here knows a file.

use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use further_link_proto::RelativePath;
use http::StatusCode;
use reqwest::{
    Client, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::{Attempt, Policy},
};
use tracing::{debug, info, warn};

use crate::{device::addresses, upload::public_address};

/// Most bytes of one file: a long video in good quality, and little enough for an SD card.
const MAX_DOWNLOAD: u64 = 256 * 1024 * 1024;
/// Most redirects: sites with a shortener, a login and a mirror need three.
const MAX_REDIRECTS: usize = 5;
/// Between two lines about progress in the debug log.
const PROGRESS: u64 = 8 * 1024 * 1024;

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// To connect: a name, an address and TLS.
    pub(crate) connect: Duration,
    /// Without a byte.
    pub(crate) silence: Duration,
    /// In all: [`MAX_DOWNLOAD`] over a line of 4 Mbit/s.
    pub(crate) total: Duration,
    pub(crate) bytes: u64,
}

/// What a download of the daemon may take.
const DEFAULT: Limits = Limits {
    connect: Duration::from_secs(10),
    silence: Duration::from_secs(30),
    total: Duration::from_mins(10),
    bytes: MAX_DOWNLOAD,
};

/// Why there is no such file. The texts are for the client of the upload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("the url is not one: {0}")]
    Url(String),
    #[error("only http and https urls are downloaded")]
    Scheme,
    #[error(
        "{0} is not out in the internet; whoever administers this device can allow it with --allow-private-downloads"
    )]
    Address(String),
    #[error("there is no server {0}, or its name cannot be looked up now")]
    Name(String),
    #[error("more than {MAX_REDIRECTS} redirects")]
    Redirects,
    #[error("the server answered {0}")]
    Status(StatusCode),
    #[error("the file is larger than {0} bytes")]
    TooLarge(u64),
    #[error("the server took too long")]
    Slow,
    #[error("this device has no certificates of authorities (Debian's package ca-certificates)")]
    Certificates,
    #[error("{0}")]
    Failed(String),
}

/// What all downloads share.
pub(crate) struct Downloads {
    allow_private: bool,
    limits: Limits,
    /// Made for the first download: the system's certificates take a megabyte.
    client: OnceLock<Client>,
}

impl Downloads {
    pub(crate) fn new(allow_private: bool) -> Self {
        Self::with(allow_private, DEFAULT)
    }

    fn with(allow_private: bool, limits: Limits) -> Self {
        Self { allow_private, limits, client: OnceLock::new() }
    }

    /// Whether this may be asked for, as far as the url itself tells.
    pub(crate) fn check(&self, url: &str) -> Result<Url, DownloadError> {
        let url = Url::parse(url).map_err(|error| DownloadError::Url(error.to_string()))?;
        check(&url, self.allow_private)?;
        Ok(url)
    }

    /// Asks for the url. Once this returns the server has answered, and its file is on its way.
    pub(crate) async fn begin(&self, url: &str) -> Result<Download, DownloadError> {
        let url = self.check(url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        info!("a download from {host} begins");
        let begun = Instant::now();
        let response = self.client()?.get(url).send().await.map_err(|error| reason(error, &host))?;
        if response.status() != StatusCode::OK {
            return Err(DownloadError::Status(response.status()));
        }
        let limit = self.limits.bytes;
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(DownloadError::TooLarge(limit));
        }
        Ok(Download { response, host, begun, received: 0, limit })
    }

    fn client(&self) -> Result<&Client, DownloadError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = client(self.allow_private, self.limits).map_err(|error| {
            warn!("no HTTP client: {error:?}");
            DownloadError::Certificates
        })?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// A file on its way. Dropping it hangs up.
pub(crate) struct Download {
    response: Response,
    host: String,
    begun: Instant,
    received: u64,
    limit: u64,
}

impl Download {
    /// The next piece; none at the end of the complete file.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        let Some(piece) = self.response.chunk().await.map_err(|error| reason(error, &self.host))? else {
            let (host, bytes) = (&self.host, self.received);
            info!("downloaded {bytes} bytes from {host} in {:.1?}", self.begun.elapsed());
            return Ok(None);
        };
        let before = self.received;
        self.received = before.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if self.received > self.limit {
            return Err(DownloadError::TooLarge(self.limit));
        }
        if before / PROGRESS != self.received / PROGRESS {
            debug!("{} bytes from {} so far", self.received, self.host);
        }
        Ok(Some(piece))
    }
}

/// Where in the cache the file of a url lies. Clients choose bucket and name as in the original; the part
/// that they cannot choose keeps the files of different urls apart (D22). None where that makes the path too
/// long.
pub(crate) fn cache_path(bucket: &RelativePath, url: &str, file: &RelativePath) -> Option<RelativePath> {
    let digest = ring::digest::digest(&ring::digest::SHA256, url.as_bytes());
    let key = digest.as_ref().first_chunk::<16>().map(|bytes| u128::from_be_bytes(*bytes))?;
    RelativePath::new(format!("{}/{key:032x}/{}", bucket.as_str(), file.as_str())).ok()
}

fn client(allow_private: bool, limits: Limits) -> Result<Client, reqwest::Error> {
    // Another task may have done so: it is the same one.
    let (Ok(()) | Err(_)) = rustls::crypto::ring::default_provider().install_default();
    let redirects = Policy::custom(move |attempt: Attempt<'_>| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(DownloadError::Redirects);
        }
        match check(attempt.url(), allow_private) {
            Ok(()) => attempt.follow(),
            Err(error) => attempt.error(error),
        }
    });
    Client::builder()
        .user_agent(concat!("further-link/", env!("CARGO_PKG_VERSION")))
        .referer(false)
        .no_proxy()
        .redirect(redirects)
        .dns_resolver(Lookup { allow_private })
        .connect_timeout(limits.connect)
        .read_timeout(limits.silence)
        .timeout(limits.total)
        // The next download is most likely another day.
        .pool_max_idle_per_host(0)
        .build()
}

/// What can be told of a url before anything is looked up. The client does not ask [`Lookup`] for addresses
/// in urls; the parser has brought those to one form, whatever they looked like (`2130706433`, `0x7f.1`).
fn check(url: &Url, allow_private: bool) -> Result<(), DownloadError> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(DownloadError::Scheme);
    }
    let host = url.host_str().unwrap_or_default();
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) if !allow_private && !is_elsewhere(address) => {
            Err(DownloadError::Address(host.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Whether it is out in the internet. Public addresses of this device itself are not: what listens there may
/// be meant for this device alone.
fn is_elsewhere(address: IpAddr) -> bool {
    public_address::is_public(address) && !addresses::is_of_this_device(address)
}

/// Names to addresses that may be connected to.
struct Lookup {
    allow_private: bool,
}

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = match tokio::net::lookup_host((host.as_str(), 0)).await {
                Ok(found) => found.collect(),
                Err(error) => {
                    debug!("cannot look up {host}: {error}");
                    Vec::new()
                }
            };
            if found.is_empty() {
                return Err(DownloadError::Name(host).into());
            }
            let allowed = |address: &SocketAddr| allow_private || is_elsewhere(address.ip());
            let addresses: Vec<SocketAddr> = found.into_iter().filter(allowed).collect();
            if addresses.is_empty() {
                return Err(DownloadError::Address(host).into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

/// The client's error in our words. Never its own text as a whole: that has the url, query included.
fn reason(error: reqwest::Error, host: &str) -> DownloadError {
    let error = error.without_url();
    let mut innermost: &(dyn Error + 'static) = &error;
    loop {
        if let Some(own) = innermost.downcast_ref::<DownloadError>() {
            return own.clone();
        }
        match innermost.source() {
            Some(source) => innermost = source,
            None => break,
        }
    }
    if error.is_timeout() {
        return DownloadError::Slow;
    }
    DownloadError::Failed(format!("{host}: {innermost}"))
}

#[cfg(test)]
mod tests;
