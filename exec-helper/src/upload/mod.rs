//! The upload: its code runs as the user, which the process becomes for good before it looks at a file.
//!
//! One upload, from the request to its directory being in its place: the conversation that PROTOCOL.md has as
//! a picture.
//!
//! The process becomes the user for good before it looks at a single file, and never was anything else to
//! what it writes. Two processes share the work: the worker does it, the guard waits, and sweeps up should
//! the worker be killed.

mod staging;

use std::{
    fs::{File, Permissions},
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use further_link_proto::{Connection, Event, FileMode, RelativePath, Request, SocketError, Step, Upload};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use rustix::pipe::{PipeFlags, pipe_with};
use tracing::{debug, info, warn};

use self::staging::Stage;
use crate::{
    check::Permitted,
    confine,
    dir::Dir,
    handoff::of_connection,
    identity,
    inputs::EventSource,
    plan::Directories,
    reap::{self, Reaped},
    step_error::StepError,
    sys,
};

/// Most files and links in one upload: a hundred times a large project of a school.
const MAX_FILES: u32 = 20_000;

/// What the pipe of contents holds: four writes of the frontend, so that the two need not take turns.
const CONTENT_PIPE: usize = 256 * 1024;

/// Why an upload was given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("a message out of place")]
    OutOfPlace,
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("failed at {}: {}", .0.step().in_words(), .0.reason())]
    Failed(StepError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Becomes the user and stores the upload.
pub(crate) fn store(
    connection: &Connection,
    inputs: &EventSource<'_>,
    directories: &Directories,
    permitted: &Permitted<Upload>,
    numbers: [u64; 2],
) -> Result<(), UploadError> {
    let account = permitted.account();
    let (user, origin) = (account.name.as_str(), permitted.request().identity.origin);
    let of = of_connection(origin);
    if let Err(errno) = become_user_for_good(permitted) {
        let failure = StepError::new(Step::Identity, &errno.into());
        connection.send(&failure.event())?;
        return Err(UploadError::Failed(failure));
    }
    let projects = permitted.request().project_of.as_ref().map(|_| directories.projects_dir_of(account));
    let places: Vec<PathBuf> =
        [Some(directories.work_dir_of(account)), projects].into_iter().flatten().collect();
    sweep(&places);
    let worker = sys::fork(|| {
        let outcome = sys::reset_signals()
            .map_err(|errno| UploadError::Io(errno.into()))
            .and_then(|()| Ok(confine(&places, permitted.request())?))
            .and_then(|()| work(connection, directories, permitted, numbers));
        match outcome {
            Ok(files) => {
                info!(
                    user,
                    connection = origin,
                    files,
                    outcome = "stored",
                    "{of}stored an upload of {files} files as {user}"
                );
            }
            // The frontend has gone before the end, which is its way to take an upload back.
            Err(UploadError::Socket(SocketError::Closed)) => {
                info!(
                    user,
                    connection = origin,
                    outcome = "taken back",
                    "{of}an upload as {user} was taken back"
                );
            }
            Err(error) => {
                warn!(user, connection = origin, outcome = %error, "{of}an upload as {user} failed: {error}");
            }
        }
        0
    })?;
    if !guard(inputs, worker)? {
        warn!(user, connection = origin, outcome = "killed", "{of}an upload as {user} was killed");
    }
    sweep(&places);
    Ok(())
}

/// Removes what this and earlier uploads have left: old directories that no program works in any more. The
/// guard does it, since the worker cannot see where programs work.
fn sweep(places: &[PathBuf]) {
    for place in places {
        match Dir::make(place) {
            Ok(base) => staging::sweep(&base),
            // The worker meets the same error, and says it.
            Err(error) => debug!("{}: {error}", place.display()),
        }
    }
}

/// From here on the worker, which reads what the frontend sends, reaches these directories and no others.
/// Only a copy of files that were kept takes more: it has what their links lead to, which a program may
/// have made to anywhere.
fn confine(places: &[PathBuf], upload: &Upload) -> io::Result<()> {
    let copies_kept_files = upload.keep && upload.project_of.is_some();
    let everywhere = copies_kept_files.then_some((Path::new("/"), confine::READ));
    let places = places.iter().map(|place| (place.as_path(), confine::WRITE));
    confine::to_directories(&places.chain(everywhere).collect::<Vec<_>>())
}

fn become_user_for_good(permitted: &Permitted<Upload>) -> Result<(), Errno> {
    // What a killed worker leaves comes to this process, also where a watcher is above it.
    prctl::set_child_subreaper(true)?;
    identity::become_user_for_good(permitted.account())
}

/// Waits for the worker, and passes on that it shall end. False if it was killed.
fn guard(inputs: &EventSource<'_>, worker: Pid) -> io::Result<bool> {
    loop {
        if inputs.wait_for_signal()? {
            // ESRCH cannot be: it is unreaped.
            let (Ok(()) | Err(_)) = kill(worker, Signal::SIGTERM);
        }
        while let Reaped::Child(pid, status) = reap::reap() {
            if pid == worker {
                return Ok(status == further_link_proto::ExitStatus::Exited(0));
            }
        }
    }
}

/// How many files and links were stored. What fails is told to the frontend.
fn work(
    connection: &Connection,
    directories: &Directories,
    permitted: &Permitted<Upload>,
    numbers: [u64; 2],
) -> Result<u32, UploadError> {
    match receive(connection, directories, permitted, numbers) {
        Ok(Stored { files, stages }) => {
            connection.send(&Event::Stored)?;
            // The guard removes the old directories after this: it may take long, and no client waits for it.
            stages.into_iter().for_each(Stage::leave);
            Ok(files)
        }
        Err(UploadError::Failed(failure)) => {
            connection.send(&failure.event())?;
            Err(UploadError::Failed(failure))
        }
        Err(error) => Err(error),
    }
}

/// What is in its place now, and what was there before.
struct Stored {
    files: u32,
    stages: Vec<Stage>,
}

fn at(step: Step) -> impl Fn(io::Error) -> UploadError {
    move |error| UploadError::Failed(StepError::new(step, &error))
}

fn receive(
    connection: &Connection,
    directories: &Directories,
    permitted: &Permitted<Upload>,
    [number, project_number]: [u64; 2],
) -> Result<Stored, UploadError> {
    let (account, upload) = (permitted.account(), permitted.request());
    let stage = Stage::new(&directories.work_dir_of(account), number).map_err(at(Step::Stage))?;
    let (from_frontend, to_us) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| at(Step::Stage)(error.into()))?;
    // Without it (a user's share of pipe memory is used up, pipe(7)) things are slower.
    let (Ok(_) | Err(_)) = rustix::pipe::fcntl_setpipe_size(&to_us, CONTENT_PIPE);
    connection.send_with(&Event::Data, &[to_us.as_fd()])?;
    drop(to_us);
    let mut content = File::from(from_frontend);
    for files in 0..=MAX_FILES {
        match connection.recv()? {
            Request::File { path, length, mode } => {
                write_file(&stage, &path, length, mode, &mut content).map_err(at(Step::WriteFile))?;
            }
            Request::Link { path, cached } => {
                if stage.link(&path, &cached).map_err(at(Step::WriteFile))? {
                    connection.send(&Event::Cached)?;
                } else {
                    connection.send(&Event::Missing)?;
                    receive_download(connection, &stage, &cached, &mut content)?;
                    stage.link(&path, &cached).map_err(at(Step::WriteFile))?;
                }
            }
            Request::Commit => {
                if upload.keep {
                    stage.keep_others(&upload.directory).map_err(at(Step::Replace))?;
                }
                let project = stage_project(&stage, directories, permitted, project_number)?;
                stage.sync();
                stage.replace(&upload.directory).map_err(at(Step::Replace))?;
                if let Some((copy, directory)) = &project {
                    copy.replace(directory).map_err(at(Step::Replace))?;
                }
                let stages = [Some(stage), project.map(|(copy, _)| copy)].into_iter().flatten().collect();
                return Ok(Stored { files, stages });
            }
            _ => return Err(UploadError::OutOfPlace),
        }
    }
    Err(at(Step::WriteFile)(Errno::EMFILE.into()))
}

fn write_file(
    stage: &Stage,
    path: &RelativePath,
    length: u32,
    mode: FileMode,
    content: &mut File,
) -> io::Result<()> {
    let mut file = stage.create(path)?;
    write(&mut file, length, content)?;
    if mode == FileMode::Executable || is_script(&file)? {
        file.set_permissions(Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Whether the kernel would start it by an interpreter: a script that a person uploads to run it.
fn is_script(file: &File) -> io::Result<bool> {
    let mut start = [0; 2];
    Ok(file.read_at(&mut start, 0)? == start.len() && start == *b"#!")
}

/// Copies this number of bytes, however long they take to come.
fn write(file: &mut File, length: u32, content: &mut File) -> io::Result<()> {
    let length = length.into();
    let copied = io::copy(&mut content.take(length), file)?;
    if copied == length { Ok(()) } else { Err(Errno::EPIPE.into()) }
}

fn receive_download(
    connection: &Connection,
    stage: &Stage,
    cached: &RelativePath,
    content: &mut File,
) -> Result<(), UploadError> {
    let mut file = stage.download().map_err(at(Step::WriteFile))?;
    loop {
        match connection.recv()? {
            Request::Piece { length } => write(&mut file, length, content).map_err(at(Step::WriteFile))?,
            Request::Downloaded => return stage.keep_download(cached).map_err(at(Step::WriteFile)),
            _ => return Err(UploadError::OutOfPlace),
        }
    }
}

/// The copy among the projects of a person (B11.12), made before anything is replaced.
fn stage_project(
    stage: &Stage,
    directories: &Directories,
    permitted: &Permitted<Upload>,
    number: u64,
) -> Result<Option<(Stage, RelativePath)>, UploadError> {
    let Upload { directory, project_of: Some(person), .. } = permitted.request() else { return Ok(None) };
    let place = RelativePath::new(format!("{}/{}", person.as_str(), directory.as_str()))
        .map_err(|error| at(Step::Stage)(io::Error::other(error)))?;
    let copy =
        Stage::new(&directories.projects_dir_of(permitted.account()), number).map_err(at(Step::Stage))?;
    stage.copy_to(&copy).map_err(at(Step::WriteFile))?;
    Ok(Some((copy, place)))
}
