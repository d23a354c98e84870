//! For machines without systemd and for tests: accepts connections and forks one helper for each.
//!
//! The fork is the wall between runs that systemd's `Accept=yes` otherwise gives: an instance that dies
//! takes one run with it. This process only accepts and reaps. As a subreaper it gets the processes that
//! a killed instance has left, and kills them.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use further_link_proto::{Connection, ExitStatus};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use rustix::net::SocketFlags;
use tracing::{error, warn};

use crate::{
    inputs::timeout,
    reap::{self, Children, KILL_TIMEOUT, Reaped},
    serve::{self, Settings},
    signals::Signals,
    sys,
};

/// Most helpers at once, as `MaxConnections=` of the systemd socket: more programs than a small device can
/// run.
const MAX_INSTANCES: usize = 1024;

/// Time between two log lines about refused connections, so that other users of the machine cannot fill the
/// log.
const REFUSED_INTERVAL: Duration = Duration::from_secs(10);

/// What there is to look after.
struct Listener<'a> {
    socket: BorrowedFd<'a>,
    signals: Signals,
    settings: &'a Settings,
    /// The only process that may connect, in development.
    only_pid: Option<u32>,
    refused: Refused,
    instances: HashSet<Pid>,
    /// The queue of children that have ended.
    children: Children,
    /// Set once told to end: when the patience with the last runs is over.
    give_up_at: Option<Instant>,
}

/// Connections of processes that are not the frontend.
#[derive(Default)]
struct Refused {
    count: u64,
    last_line: Option<Instant>,
}

impl Refused {
    fn note(&mut self) {
        self.count += 1;
        if self.last_line.is_none_or(|last| last.elapsed() > REFUSED_INTERVAL) {
            warn!("refused {} connections of processes that are not the frontend", self.count);
            (self.count, self.last_line) = (0, Some(Instant::now()));
        }
    }
}

/// Serves until told to end, or until the parent has ended, and then until nothing of any run is left.
///
/// With a parent, which is the frontend of a development helper, only that process may connect: its
/// descriptor keeps the pid from being used again.
pub(crate) fn run(socket: &OwnedFd, parent: Option<(&OwnedFd, u32)>, settings: &Settings) -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    let (parent, only_pid) = parent.unzip();
    let mut listener = Listener {
        socket: socket.as_fd(),
        signals: Signals::new()?,
        settings,
        only_pid,
        refused: Refused::default(),
        instances: HashSet::new(),
        children: Children::new(),
        give_up_at: None,
    };
    while !listener.turn(parent)? {}
    Ok(())
}

impl Listener<'_> {
    /// Waits for one thing to happen. True when all is over.
    fn turn(&mut self, parent: Option<&OwnedFd>) -> io::Result<bool> {
        let accepting = self.give_up_at.is_none();
        let mut polled = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if accepting {
            polled.push(PollFd::new(self.socket, PollFlags::POLLIN));
            polled.extend(parent.map(|parent| PollFd::new(parent.as_fd(), PollFlags::POLLIN)));
        }
        // More may have ended than were collected at once.
        let now_if_more = self.children.may_have_ended().then(Instant::now);
        match poll(&mut polled, timeout(now_if_more.or(self.give_up_at))) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = polled.iter().map(|fd| fd.any().unwrap_or(false));
        let mut next = || ready.next() == Some(true);
        let (signaled, connected, orphaned) = (next(), next(), next());
        if orphaned || (signaled && self.signals.terminate_requested()?) {
            self.end();
        }
        // Each look at children is at all of them.
        let look = signaled || self.children.may_have_ended() || self.give_up_at.is_some();
        let nothing_left = look && self.reap();
        if self.give_up_at.is_some_and(|at| at <= Instant::now()) {
            self.kill();
            return Ok(true);
        }
        if connected && self.give_up_at.is_none() {
            self.accept();
        }
        Ok(nothing_left && self.give_up_at.is_some())
    }

    fn accept(&mut self) {
        let socket = match rustix::net::accept_with(self.socket, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(error) => return warn!("cannot accept: {error}"),
        };
        if self.instances.len() >= MAX_INSTANCES {
            return warn!("refused a connection: {MAX_INSTANCES} helpers run already");
        }
        let connection = Connection::new(socket);
        // Before the fork: refusals cost other users of this machine's processor time next to nothing.
        if !self.is_frontend(&connection) {
            return self.refused.note();
        }
        let instance = sys::fork(|| {
            // An instance that is taken over later must not accept in this process's place.
            sys::close_in_child(self.socket);
            sys::close_in_child(self.signals.as_fd());
            serve::run(&connection, self.settings);
            u8::from(!matches!(reap::reap(), Reaped::NoChildren))
        });
        match instance {
            Ok(pid) => {
                self.instances.insert(pid);
            }
            Err(error) => error!("cannot fork a helper: {error}"),
        }
    }

    fn is_frontend(&self, connection: &Connection) -> bool {
        connection.peer().is_ok_and(|(pid, uid)| {
            uid == self.settings.frontend_uid.as_raw() && self.only_pid.is_none_or(|only| only == pid)
        })
    }

    /// Forgets some instances that have ended, and kills the processes that one has left: those that make
    /// others for ever do not keep it from killing. An instance that was not killed says whether it has left
    /// any, so that a start costs no look at all other instances. True when no child is left.
    fn reap(&mut self) -> bool {
        let instances = &mut self.instances;
        let mut leaves_none = true;
        let nothing_left = self.children.reap(|pid, status| {
            leaves_none &= instances.remove(&pid) && status == ExitStatus::Exited(0);
        });
        if !nothing_left && !leaves_none {
            reap::kill_children(|pid| self.instances.contains(&pid));
        }
        nothing_left
    }

    /// Tells all instances to end their runs.
    fn end(&mut self) {
        if self.give_up_at.is_some() {
            return;
        }
        for instance in &self.instances {
            // ESRCH cannot be: it is unreaped.
            let (Ok(()) | Err(_)) = kill(*instance, Signal::SIGTERM);
        }
        // An instance needs the grace, and at most the limit for killing.
        self.give_up_at = Some(Instant::now() + self.settings.grace + KILL_TIMEOUT + Duration::from_secs(1));
    }

    fn kill(&self) {
        error!("{} helpers did not end in time and are killed", self.instances.len());
        if !reap::kill_all(Instant::now() + KILL_TIMEOUT, |_, _| {}) {
            error!("processes are left: stuck in the kernel, or held by a tracer");
        }
    }
}
