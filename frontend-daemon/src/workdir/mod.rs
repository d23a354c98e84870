//! Files below the user's work dir, one thing at a time: the frontend's half of the conversation that
//! PROTOCOL.md has as a picture. `http` calls it.
//!
//! It knows names and bytes, and opens no path: the helper, which has become the user, hands over what it has
//! opened, and takes what comes through a pipe. A file that is read needs no helper any more when it is
//! handed over.

pub(crate) mod download;
pub(crate) mod tag;

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use further_link_api::{FilesFailure, UserFailure};
use further_link_proto::{
    Event, FileVersion, Files, FilesAct, Listing, MAX_LISTING, Opened, RelativePath, Request, UploadId,
    UserName, Write,
};
use tokio::{
    io::Interest,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::{debug, info};

use crate::{
    access::run_as::{self, RunOptions},
    access::tokens::TokenAttempts,
    helper::pool::{Conversation, HelperAddress, HelperError},
    helper::reasons::not_done,
    helper::sending::{Broken, Sending, within},
    helper::stream::{Read, Stream, take},
    workdir::download::{Archive, Download, End},
};

/// Most helpers at once for what takes a moment: a list, a rename, the beginning of a download. With uploads
/// below what the helper's socket accepts (`MaxConnections=`).
const MAX_SHORT: usize = 8;
/// Most helpers at once that are held as long as a client takes: files that are put, directories that are
/// read. They have places of their own, so that slow clients do not keep others from listing.
const MAX_LONG: usize = 8;
/// Most downloads of files at once: each has a descriptor, and a thread while it reads.
const MAX_DOWNLOADS: usize = 16;
/// How long a request waits for its place.
const SLOT_TIMEOUT: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) options: &'a RunOptions,
    pub(crate) attempts: &'a TokenAttempts,
}

/// What all requests share.
pub(crate) struct WorkFiles {
    helper: HelperAddress,
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

/// A helper that has answered.
struct Answered {
    conversation: Conversation,
    event: Event,
    descriptors: Vec<OwnedFd>,
    user: Option<String>,
    slot: OwnedSemaphorePermit,
}

impl Answered {
    fn failure(&self, reading: bool) -> FilesFailure {
        not_done(&self.event, self.user.as_deref(), reading)
    }
}

/// What a path leads to.
pub(crate) enum Content {
    File(Download),
    Archive(Archive),
}

/// A file that is being put.
pub(crate) struct Writing {
    sending: Sending,
    user: Option<String>,
    #[expect(dead_code, reason = "held until it is dropped")]
    slot: OwnedSemaphorePermit,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// It is in its place.
    Whole { version: FileVersion, replaced: bool },
    /// So many bytes are there; more are wanted.
    Part(u64),
}

impl WorkFiles {
    pub(crate) fn new(helper: HelperAddress) -> Self {
        let slots = |most| Arc::new(Semaphore::new(most));
        Self { helper, short: slots(MAX_SHORT), long: slots(MAX_LONG), downloads: slots(MAX_DOWNLOADS) }
    }

    /// What a directory has.
    pub(crate) async fn list(
        &self,
        asker: Asker<'_>,
        path: Option<RelativePath>,
    ) -> Result<Listing, FilesFailure> {
        let answered = self.ask(asker, FilesAct::List { path }, &self.short).await?;
        let failure = answered.failure(true);
        let (Event::Opened(Opened::Listing), Ok([pipe])) =
            (&answered.event, <[OwnedFd; 1]>::try_from(answered.descriptors))
        else {
            return Err(failure);
        };
        let pipe = Stream::new(pipe, Interest::READABLE).map_err(|error| no_helper(&error.into()))?;
        let bytes = within(async { Ok(whole(&pipe).await?) }).await;
        let bytes = bytes.map_err(|broken| failed(&broken, None, true))?;
        let end = End::new(answered.conversation, answered.slot);
        if !end.is_complete().await {
            return Err(FilesFailure::NoHelper);
        }
        Listing::from_bytes(&bytes).map_err(|error| {
            debug!("a listing: {error}");
            FilesFailure::NoHelper
        })
    }

    /// What the path leads to, opened.
    pub(crate) async fn open(&self, asker: Asker<'_>, path: RelativePath) -> Result<Content, FilesFailure> {
        let place = slot(&self.downloads).await?;
        let answered = self.ask(asker, FilesAct::Read { path }, &self.short).await?;
        let failure = answered.failure(true);
        let Ok([descriptor]) = <[OwnedFd; 1]>::try_from(answered.descriptors) else { return Err(failure) };
        match answered.event {
            Event::Opened(Opened::File) => {
                let download = Download::new(descriptor, place);
                download.map(Content::File).map_err(|error| FilesFailure::Device(error.to_string()))
            }
            Event::Opened(Opened::Archive) => {
                // As long as the client takes: it leaves its place to those who need it for a moment.
                let slot = slot(&self.long).await?;
                let pipe =
                    Stream::new(descriptor, Interest::READABLE).map_err(|error| no_helper(&error.into()))?;
                let end = End::new(answered.conversation, slot);
                Ok(Content::Archive(Archive::new(pipe, end)))
            }
            _ => Err(failure),
        }
    }

    /// Begins to put a file. The other answer is that another part is the next one.
    pub(crate) async fn write(
        &self,
        asker: Asker<'_>,
        write: Write,
    ) -> Result<Result<Writing, u64>, FilesFailure> {
        let mut answered = self.ask(asker, FilesAct::Write(write), &self.long).await?;
        let failure = answered.failure(false);
        match (&answered.event, <[OwnedFd; 1]>::try_from(std::mem::take(&mut answered.descriptors))) {
            (Event::Data, Ok([pipe])) => {
                let Answered { conversation, user, slot, .. } = answered;
                let sending = Sending::new(conversation, pipe).map_err(|error| no_helper(&error.into()))?;
                Ok(Ok(Writing { sending, user, slot }))
            }
            (Event::Progress { bytes }, _) => Ok(Err(*bytes)),
            _ => Err(failure),
        }
    }

    /// How much of an upload has come.
    pub(crate) async fn progress(&self, asker: Asker<'_>, upload: UploadId) -> Result<u64, FilesFailure> {
        let answered = self.ask(asker, FilesAct::Progress { upload }, &self.short).await?;
        match answered.event {
            Event::Progress { bytes } => Ok(bytes),
            _ => Err(answered.failure(true)),
        }
    }

    /// Renames, makes a directory, or removes.
    pub(crate) async fn change(&self, asker: Asker<'_>, act: FilesAct) -> Result<(), FilesFailure> {
        let answered = self.ask(asker, act, &self.short).await?;
        match answered.event {
            Event::Done => {
                let user = answered.user.as_deref().unwrap_or("the default user");
                let RunOptions { connection, caller, .. } = asker.options;
                info!("connection {connection}: changed files as {user} for {caller}");
                Ok(())
            }
            _ => Err(answered.failure(false)),
        }
    }

    async fn ask(
        &self,
        asker: Asker<'_>,
        act: FilesAct,
        slots: &Arc<Semaphore>,
    ) -> Result<Answered, FilesFailure> {
        let identity = run_as::identity(asker.options)?;
        let _turn = if identity.token.is_some() { Some(asker.attempts.begin().await?) } else { None };
        let user = identity.user.as_ref().map(UserName::as_str).map(str::to_owned);
        let slot = slot(slots).await?;
        let conversation = self.helper.connect().await.map_err(|error| no_helper(&error))?;
        let request = Request::Files(Files { identity, act });
        let (event, descriptors) =
            within(conversation.begin(&request)).await.map_err(|broken| failed(&broken, None, true))?;
        let answered = Answered { conversation, event, descriptors, user, slot };
        if matches!(answered.failure(true), FilesFailure::User(UserFailure::TokenWrong { .. })) {
            asker.attempts.wrong().await;
        }
        Ok(answered)
    }
}

impl Writing {
    /// Takes some more of the file.
    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<(), FilesFailure> {
        let written = self.sending.write(bytes).await;
        written.map_err(|broken| failed(&broken, self.user.as_deref(), false))
    }

    /// All of the body has come. Dropped without it, what came of a resumable upload is kept, and any other
    /// never was.
    pub(crate) async fn commit(self) -> Result<Wrote, FilesFailure> {
        let broken = match self.sending.commit().await {
            Ok(Event::Written { version, replaced }) => return Ok(Wrote::Whole { version, replaced }),
            Ok(Event::Progress { bytes }) => return Ok(Wrote::Part(bytes)),
            Ok(event) => Broken::Said(event),
            Err(broken) => broken,
        };
        Err(failed(&broken, self.user.as_deref(), false))
    }
}

/// Reads a pipe to its end. More than a listing can have is none.
async fn whole(pipe: &Stream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        bytes.reserve(64 * 1024);
        match pipe.read(&mut bytes, take, |length, room| length < room).await? {
            Read::Eof => return Ok(bytes),
            _ if bytes.len() > MAX_LISTING => return Err(std::io::ErrorKind::FileTooLarge.into()),
            Read::More | Read::Drained => {}
        }
    }
}

async fn slot(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, FilesFailure> {
    let slot = timeout(SLOT_TIMEOUT, Arc::clone(slots).acquire_owned()).await;
    slot.ok().and_then(Result::ok).ok_or(FilesFailure::Busy)
}

fn no_helper(error: &HelperError) -> FilesFailure {
    debug!("the helper for files: {error}");
    FilesFailure::NoHelper
}

fn failed(broken: &Broken, user: Option<&str>, reading: bool) -> FilesFailure {
    match broken {
        Broken::Said(event) => not_done(event, user, reading),
        Broken::Silent(error) => no_helper(error),
        Broken::Slow => FilesFailure::Device("it takes too long".to_owned()),
    }
}
