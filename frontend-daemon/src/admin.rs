//! The administrators' socket: by it `further-link sessions` lists, watches and ends kept programs, without a
//! key, and `further-link self-test` has the tests of the runner files run.
//!
//! It lies in the file system of this device, where no web page and no other machine reaches it, and it can
//! do these four things only: no message of it says which program to start, or types into one. The mode of
//! the socket says who may connect, and each peer is looked at once more.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use further_link_api::{
    AdminRequest, BadMessage, ClientError, Dialect, KeptMessage, MAX_ADMIN_REQUEST, ProcessId, ServerMessage,
    TestAnswer,
};
use nix::{
    sys::stat::{Mode, umask},
    unistd::{getegid, getuid},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    access::limits::Network,
    access::refusal_log::RefusalLog,
    access::who::Who,
    kept::KeptPrograms,
    lifecycle::shutdown::Shutdown,
    outbox::Message,
    outbox::outbox,
    self_test::{SelfTest, missing},
};

/// Most connections at once: a class has some teachers, and each watches some programs.
const MAX_CONNECTIONS: usize = 64;
/// A request is written at once by a program on this device.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// After an accept that failed for lack of descriptors or memory: some will be free by then.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What the kernel says of an account that the user namespace of this process does not have.
const UNSEEN: u32 = 65534;

/// What an administrator asks about.
pub(crate) struct Service {
    pub(crate) kept: Arc<KeptPrograms>,
    pub(crate) tests: SelfTest,
}

/// The socket.
pub(crate) struct Door {
    listener: net::UnixListener,
    admins: Admins,
}

/// Who may come in, beside root.
#[derive(Clone, Copy)]
enum Admins {
    /// Who has started this server, and made the socket.
    Starter(u32),
    /// The members of this group: the service manager has made the socket for them.
    Group(u32),
}

impl Door {
    /// Makes the socket, for root and for who starts this server. To be called before root is given up, and
    /// before there are threads.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another further-link serves it"));
        }
        if is_socket {
            // Of one that has ended.
            fs::remove_file(path)?;
        }
        let usual = umask(Mode::S_IXUSR | Mode::S_IRWXG | Mode::S_IRWXO);
        let listener = net::UnixListener::bind(path);
        umask(usual);
        Ok(Self { listener: listener?, admins: Admins::Starter(getuid().as_raw()) })
    }

    /// The socket that the service manager has made, for root and the group of this service.
    pub(crate) fn passed(listener: net::UnixListener) -> Self {
        Self { listener, admins: Admins::Group(getegid().as_raw()) }
    }

    /// Answers on it until the service ends.
    pub(crate) async fn run(
        self,
        service: Arc<Service>,
        refusals: Arc<RefusalLog>,
        shutdown: Shutdown,
    ) -> io::Result<()> {
        let path = self.listener.local_addr()?.as_pathname().map(Path::to_owned);
        self.listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(self.listener)?;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.begun() => return Ok(()),
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!("the administrators' socket cannot accept: {error}");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(who) = self.admins.let_in(&stream, path.as_ref(), &refusals) else { continue };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                warn!("{who}: {MAX_CONNECTIONS} connections are open on the administrators' socket already");
                continue;
            };
            let (service, shutdown) = (Arc::clone(&service), shutdown.clone());
            tokio::spawn(async move {
                if let Err(error) = serve(stream, &who, &service, &shutdown).await {
                    debug!("{who}: {error}");
                }
                drop(place);
            });
        }
    }
}

impl Admins {
    /// Who a peer is, if it may come in.
    fn let_in(self, stream: &UnixStream, path: Option<&PathBuf>, refusals: &RefusalLog) -> Option<Who> {
        let peer = match stream.peer_cred() {
            Ok(peer) => peer,
            Err(error) => {
                warn!("the administrators' socket does not say who connects: {error}");
                return None;
            }
        };
        let is_one = match self {
            Self::Starter(starter) => peer.uid() == starter,
            // The other groups of a peer cannot be seen: then it is a member if the file keeps others out.
            Self::Group(group) => peer.gid() == group || path.is_some_and(|path| is_closed_to_others(path)),
        };
        if peer.uid() != 0 && !is_one {
            let details = format_args!(": uid {}", peer.uid());
            refusals.note("no administrator", Network::of(Ipv4Addr::LOCALHOST.into()), details);
            return None;
        }
        Some(Who::Administrator { uid: Some(peer.uid()).filter(|uid| *uid != UNSEEN), pid: peer.pid() })
    }
}

fn is_closed_to_others(path: &Path) -> bool {
    let others = Mode::S_IRWXO.bits();
    fs::metadata(path).is_ok_and(|found| found.mode() & others == 0)
}

/// Answers one request.
async fn serve(stream: UnixStream, who: &Who, service: &Service, shutdown: &Shutdown) -> io::Result<()> {
    let kept = &service.kept;
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input);
    let request = tokio::select! {
        request = timeout(REQUEST_TIMEOUT, read(&mut input)) => request??,
        () = shutdown.begun() => return Ok(()),
    };
    let (answer, about) = match request {
        Ok(AdminRequest::List) => {
            (ServerMessage::Kept(KeptMessage::Sessions { sessions: kept.of_all() }), None)
        }
        Ok(AdminRequest::Watch { session }) => {
            match watch(&session, who, kept, &mut input, &mut output, shutdown).await {
                Ok(()) => return Ok(()),
                Err(error) => (ServerMessage::from(&error), None),
            }
        }
        Ok(AdminRequest::Test { runners }) => {
            // Whatever it sends, or if it has gone: no one waits for the rest.
            return tokio::select! {
                tested = test(&service.tests, &runners, who, &mut output) => tested,
                gone = input.fill_buf() => gone.map(|_| ()),
                () = shutdown.begun() => Ok(()),
            };
        }
        Ok(AdminRequest::End { session }) => match kept.end(&session, who).await {
            Ok(outcome) => {
                let stopped = KeptMessage::Stopped(outcome);
                (ServerMessage::Kept(stopped), Some(ProcessId::new(session)))
            }
            Err(error) => (ServerMessage::from(&error), None),
        },
        Err(error) => (ServerMessage::from(&error), None),
    };
    say(&mut output, answer.to_json(Dialect::Version1, about.as_ref()).into()).await
}

/// Runs the tests of these runners, or of all, and says how each went.
async fn test(tests: &SelfTest, ids: &[String], who: &Who, output: &mut OwnedWriteHalf) -> io::Result<()> {
    let runners = match tests.chosen(ids) {
        Ok(runners) => runners,
        Err(failure) => {
            return say_tested(output, &TestAnswer::Error { message: failure.to_string() }).await;
        }
    };
    info!("{who}: tests {} languages", runners.len());
    for runner in &runners {
        if let Some(missing) = missing(runner) {
            say_tested(output, &missing).await?;
            continue;
        }
        for test in &runner.tests {
            say_tested(output, &tests.run(runner, test).await).await?;
        }
    }
    say_tested(output, &TestAnswer::Done).await
}

async fn say_tested(output: &mut OwnedWriteHalf, answer: &TestAnswer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    output.write_all(&line).await
}

async fn read(input: &mut BufReader<OwnedReadHalf>) -> io::Result<Result<AdminRequest, ClientError>> {
    let most = u64::try_from(MAX_ADMIN_REQUEST).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    input.take(most).read_until(b'\n', &mut line).await?;
    Ok(AdminRequest::parse(&line).map_err(|_| BadMessage::UnknownType.into()))
}

/// Says what a client is told that watches, until the program has ended or the administrator has gone.
async fn watch(
    session: &str,
    who: &Who,
    kept: &KeptPrograms,
    input: &mut BufReader<OwnedReadHalf>,
    output: &mut OwnedWriteHalf,
    shutdown: &Shutdown,
) -> Result<(), ClientError> {
    let process = ProcessId::new(session);
    let (attachment, first) = kept.watch(session, &process, who)?;
    let (outbox, mut messages) = outbox(Dialect::Version1);
    let watcher = attachment.clone();
    let told = async {
        let all = async {
            while let Some(message) = messages.next().await {
                say(output, message).await?;
            }
            io::Result::Ok(())
        };
        let told = tokio::select! {
            told = all => told,
            // Whatever it sends: there is nothing more to say on this connection.
            gone = input.fill_buf() => gone.map(|_| ()),
            () = shutdown.begun() => Ok(()),
        };
        if let Err(error) = told {
            debug!("{who}: {error}");
        }
        drop(messages);
        watcher.leave();
    };
    // Together: what is taken in is taken out again.
    tokio::join!(kept.serve(attachment, Some(first), outbox, process, who.clone()), told);
    Ok(())
}

/// Writes one line. What there is to confirm is confirmed when it is written: a socket between two processes
/// of one device loses nothing.
async fn say(output: &mut OwnedWriteHalf, message: Message) -> io::Result<()> {
    let Message { mut json, room, confirm } = message;
    if !json.is_empty() {
        json.push('\n');
        output.write_all(json.as_bytes()).await?;
    }
    drop(room);
    if let Some(confirm) = confirm {
        confirm();
    }
    Ok(())
}
