//! One upload, from the parsed request to `Stored`: the frontend's half of the conversation that PROTOCOL.md
//! has as a picture. `http` and the session of `/run-py` call it.
//!
//! It knows names and bytes, never a file: the helper, which has become the user, writes what comes through
//! the pipe. Whatever goes wrong, the conversation is dropped before `Commit`, and the upload never was.

pub(crate) mod download;
pub(crate) mod json;
pub(crate) mod public_address;
pub(crate) mod request;

use std::{
    ops::Range,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use further_link_api::{UploadFailure, UserFailure};
use further_link_proto::{Event, FileMode, Identity, RelativePath, Request, Upload, UserName};
use tokio::{sync::Semaphore, time::timeout};
use tracing::{info, warn};

use crate::{
    access::run_as::{self, RunOptions},
    access::tokens::TokenAttempts,
    helper::pool::{HelperAddress, HelperError},
    helper::reasons::not_stored,
    helper::sending::{Broken, Sending, within},
    upload::download::{DownloadError, Downloads, cache_path},
    upload::request::{Content, UploadRequest, UploadRequestError},
};

/// Most uploads that are being stored at once: a handful of people press "save" in the same second. Below
/// what the helper's socket accepts (`MaxConnections=`).
const MAX_UPLOADS: usize = 8;
/// How long an upload waits for one of these slots.
const SLOT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time of all, downloads included. A minute less than the helper has (`RuntimeMaxSec=`), so that the
/// client hears why.
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(14);
/// Written into the pipe at once: what it holds (pipe(7)).
const CHUNK: usize = 64 * 1024;

/// Why nothing was stored. The texts are for the client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error(transparent)]
    Request(#[from] UploadRequestError),
    #[error(transparent)]
    User(#[from] UserFailure),
    /// The helper has said so.
    #[error(transparent)]
    NotStored(UploadFailure),
    /// The helper has said nothing. The reason is for the log.
    #[error("{}", UploadFailure::NoHelper)]
    NoHelper(HelperError),
    #[error("{file}: {error}")]
    Download { file: String, error: DownloadError },
    #[error("the path of {0} in the cache would be too long, or too deep")]
    CachePath(String),
    #[error("{MAX_UPLOADS} uploads are being stored already")]
    Busy,
    #[error("it takes too long")]
    Slow,
}

/// What all uploads share.
pub(crate) struct Uploads {
    helper: HelperAddress,
    downloads: Downloads,
    slots: Semaphore,
}

impl Uploads {
    pub(crate) fn new(helper: HelperAddress, downloads: Downloads) -> Self {
        Self { helper, downloads, slots: Semaphore::new(MAX_UPLOADS) }
    }

    /// Stores it as the user whom the client has chosen.
    pub(crate) async fn store(
        &self,
        options: &RunOptions,
        attempts: &TokenAttempts,
        request: &UploadRequest,
    ) -> Result<(), UploadError> {
        let identity = run_as::identity(options)?;
        let _turn = if identity.token.is_some() { Some(attempts.begin().await?) } else { None };
        let user = identity.user.as_ref().map_or("the default user", UserName::as_str).to_owned();
        let slot = timeout(SLOT_TIMEOUT, self.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else { return Err(UploadError::Busy) };
        let begun = Instant::now();
        let stored = timeout(UPLOAD_TIMEOUT, self.converse(identity, request)).await;
        let stored = stored.unwrap_or(Err(UploadError::Slow));
        if matches!(stored, Err(UploadError::User(UserFailure::TokenWrong { .. }))) {
            attempts.wrong().await;
        }
        let (connection, files, time) = (options.connection, request.files.len(), begun.elapsed());
        match &stored {
            Ok(()) => info!(
                "connection {connection}: uploaded {files} files as {user} for {} in {time:.1?}",
                options.caller
            ),
            Err(error) => {
                warn!(
                    "connection {connection}: an upload of {files} files as {user} failed: {}",
                    error.loggable()
                );
            }
        }
        stored
    }

    async fn converse(&self, identity: Identity, request: &UploadRequest) -> Result<(), UploadError> {
        let user = identity.user.as_ref().map(|user| user.as_str().to_owned());
        let mut files = Vec::with_capacity(request.files.len());
        for (path, content) in &request.files {
            files.push((path, self.planned(path, content)?));
        }
        let upload = Upload {
            identity,
            directory: request.directory.clone(),
            project_of: request.project_of.clone(),
            keep: request.keep,
        };
        let storing = Storing::begin(&self.helper, upload, user).await?;
        for (path, file) in files {
            match file {
                Planned::Text(text, mode) => storing.file(path, request.text(text), mode).await?,
                Planned::Link { url, cached } => storing.link(path, cached, url, &self.downloads).await?,
            }
        }
        storing.commit().await
    }

    fn planned<'a>(&self, path: &RelativePath, content: &'a Content) -> Result<Planned<'a>, UploadError> {
        let (url, bucket, file) = match content {
            Content::Text { text, mode } => return Ok(Planned::Text(text, *mode)),
            Content::Url { url, bucket, file } => (url, bucket, file),
        };
        self.downloads.check(url).map_err(|error| download_error(path, error))?;
        let cached = cache_path(bucket, url, file);
        let cached = cached.ok_or_else(|| UploadError::CachePath(path.as_str().to_owned()))?;
        Ok(Planned::Link { url, cached })
    }
}

impl UploadError {
    /// The text for the log, which has no names of files.
    fn loggable(&self) -> String {
        match self {
            Self::Download { error, .. } => error.to_string(),
            Self::NoHelper(error) => error.to_string(),
            Self::CachePath(_) => "a path in the cache would be too long".to_owned(),
            other => other.to_string(),
        }
    }
}

/// A file with everything about it settled that can be before the helper is asked.
enum Planned<'a> {
    Text(&'a Range<usize>, FileMode),
    Link { url: &'a str, cached: RelativePath },
}

/// An upload that a helper has begun.
struct Storing {
    sending: Sending,
    user: Option<String>,
}

impl Storing {
    async fn begin(
        helper: &HelperAddress,
        upload: Upload,
        user: Option<String>,
    ) -> Result<Self, UploadError> {
        let failed = |broken| failed(broken, user.as_deref());
        let conversation = helper.connect().await.map_err(UploadError::NoHelper)?;
        let (event, descriptors) =
            within(conversation.begin(&Request::Upload(upload))).await.map_err(failed)?;
        let (Event::Data, Ok([pipe])) = (&event, <[OwnedFd; 1]>::try_from(descriptors)) else {
            return Err(failed(Broken::Said(event)));
        };
        let sending = Sending::new(conversation, pipe);
        let sending = sending.map_err(|error| UploadError::NoHelper(error.into()))?;
        Ok(Self { sending, user })
    }

    async fn commit(self) -> Result<(), UploadError> {
        let Self { sending, user } = self;
        match sending.commit().await {
            Ok(Event::Stored) => Ok(()),
            Ok(event) => Err(failed(Broken::Said(event), user.as_deref())),
            Err(broken) => Err(failed(broken, user.as_deref())),
        }
    }

    /// A file with this text. Nothing is waited for but room in the pipe: what goes wrong is heard of later.
    async fn file(&self, path: &RelativePath, text: &[u8], mode: FileMode) -> Result<(), UploadError> {
        // Bodies are far below 4 GiB.
        let length = u32::try_from(text.len()).map_err(|_| UploadError::Slow)?;
        self.send(&Request::File { path: path.clone(), length, mode }).await?;
        for part in text.chunks(CHUNK) {
            self.write(part).await?;
        }
        Ok(())
    }

    /// A link to a file of the cache, which is downloaded if it is not there yet.
    async fn link(
        &self,
        path: &RelativePath,
        cached: RelativePath,
        url: &str,
        downloads: &Downloads,
    ) -> Result<(), UploadError> {
        self.send(&Request::Link { path: path.clone(), cached }).await?;
        match self.recv().await? {
            Event::Cached => return Ok(()),
            Event::Missing => {}
            event => return Err(self.failed(Broken::Said(event))),
        }
        let not_there = |error| download_error(path, error);
        let mut download = downloads.begin(url).await.map_err(not_there)?;
        while let Some(piece) = download.next().await.map_err(not_there)? {
            for part in piece.chunks(CHUNK) {
                let length = u32::try_from(part.len()).map_err(|_| UploadError::Slow)?;
                self.send(&Request::Piece { length }).await?;
                self.write(part).await?;
            }
        }
        self.send(&Request::Downloaded).await
    }

    async fn send(&self, request: &Request) -> Result<(), UploadError> {
        self.sending.send(request).await.map_err(|broken| self.failed(broken))
    }

    async fn write(&self, bytes: &[u8]) -> Result<(), UploadError> {
        self.sending.write(bytes).await.map_err(|broken| self.failed(broken))
    }

    async fn recv(&self) -> Result<Event, UploadError> {
        self.sending.recv().await.map_err(|broken| self.failed(broken))
    }

    fn failed(&self, broken: Broken) -> UploadError {
        failed(broken, self.user.as_deref())
    }
}

fn failed(broken: Broken, user: Option<&str>) -> UploadError {
    match broken {
        Broken::Said(event) => match not_stored(&event, user) {
            UploadFailure::User(failure) => UploadError::User(failure),
            failure => UploadError::NotStored(failure),
        },
        Broken::Silent(error) => UploadError::NoHelper(error),
        Broken::Slow => UploadError::Slow,
    }
}

fn download_error(path: &RelativePath, error: DownloadError) -> UploadError {
    UploadError::Download { file: path.as_str().to_owned(), error }
}
