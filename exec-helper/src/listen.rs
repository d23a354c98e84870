//! For machines without systemd and for tests: accepts connections and forks one helper for each.
//!
//! The fork is the wall between runs that systemd's `Accept=yes` otherwise gives: an instance that dies takes one run
//! with it. This process only accepts and reaps. It is a subreaper as well, so that what a killed instance leaves behind
//! comes to it and is killed.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd, OwnedFd},
};

use further_link_proto::Connection;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use rustix::net::SocketFlags;
use tracing::{error, warn};

use crate::{
    reap::{self, Reaped},
    serve::{self, Settings},
    signals::Signals,
    sys,
};

/// Most helpers at once, as `MaxConnections=` of the systemd socket: more programs than a small device can run.
const MAX_INSTANCES: usize = 1024;

/// Serves until told to end, and then until the last run has ended.
pub(crate) fn run(listener: &OwnedFd, settings: &Settings) -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    let signals = Signals::new()?;
    let mut instances = HashSet::new();
    let mut accepting = true;
    while accepting || !instances.is_empty() {
        let mut polled = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if accepting {
            polled.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = polled.iter().map(|fd| fd.any().unwrap_or(false));
        let (signaled, connected) = (ready.next() == Some(true), ready.next() == Some(true));
        if signaled {
            accepting &= !signals.told_to_end()?;
            reap_instances(&mut instances);
            if !accepting {
                end(&instances);
            }
        }
        if connected {
            accept(listener, settings, &mut instances);
        }
    }
    Ok(())
}

fn accept(listener: &OwnedFd, settings: &Settings, instances: &mut HashSet<Pid>) {
    let socket = match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
        Ok(socket) => socket,
        Err(error) => return warn!("cannot accept: {error}"),
    };
    if instances.len() >= MAX_INSTANCES {
        return warn!("refused a connection: {MAX_INSTANCES} helpers run already");
    }
    let instance = sys::fork(|| {
        sys::close_in_child(listener.as_fd());
        serve::run(&Connection::new(socket), settings);
        0
    });
    match instance {
        Ok(pid) => {
            instances.insert(pid);
        }
        Err(error) => error!("cannot fork a helper: {error}"),
    }
}

/// Forgets instances that have ended, and kills what one of them has left behind.
fn reap_instances(instances: &mut HashSet<Pid>) {
    loop {
        match reap::reap() {
            Reaped::Child(pid, _) => {
                instances.remove(&pid);
            }
            Reaped::Nothing => break,
            Reaped::NoChildren => return,
        }
    }
    reap::kill_children(|pid| instances.contains(&pid));
}

fn end(instances: &HashSet<Pid>) {
    for instance in instances {
        // ESRCH cannot be: it is unreaped.
        let (Ok(()) | Err(_)) = kill(*instance, Signal::SIGTERM);
    }
}
