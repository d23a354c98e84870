//! The limits of a runner's file, set just before the program is executed, so that they do not count for its
//! compiler.
//!
//! Where a run has a control group of its own (`--limits cgroup`, as the package's unit says) the group keeps
//! them. Its files belong to root: they are opened while this process is root, and written to when it is the
//! user and knows its runner. A limit of the unit that is lower stays. Everywhere else the limits are
//! rlimits, which each process has for itself.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
};

use further_link_runners::Limits;
use nix::unistd::Uid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    cgroup::{Group, Names},
    identity::IsUser,
};

const MEMORY: Names =
    Names { controller: "memory", version1: "memory.limit_in_bytes", version2: "memory.max" };
/// Only version 2 counts it apart.
const SWAP: Names = Names { controller: "memory", version1: "", version2: "memory.swap.max" };
const PROCESSES: Names = Names { controller: "pids", version1: "pids.max", version2: "pids.max" };

/// The watcher, which is in the run's group as well.
const WATCHER: u64 = 1;
const MIB: u64 = 1024 * 1024;

/// The files that keep the limits of the run's own control group, and those only that are there.
#[derive(Default)]
pub(crate) struct GroupLimits {
    memory: Option<File>,
    swap: Option<File>,
    processes: Option<File>,
}

impl GroupLimits {
    pub(crate) fn open() -> Self {
        let group = Group::own();
        let open = |names| File::options().read(true).write(true).open(group.file(names)?).ok();
        Self { memory: open(MEMORY), swap: open(SWAP), processes: open(PROCESSES) }
    }
}

/// Limits this process, and what it will start.
pub(crate) fn set(_: IsUser, limits: Limits, group: &GroupLimits, uid: Uid) -> io::Result<()> {
    if let Some(mebibytes) = limits.memory {
        let bytes = u64::from(mebibytes) * MIB;
        match &group.memory {
            Some(file) => {
                lower(file, bytes)?;
                // Else the program would go on, slowly, in the swap.
                group.swap.as_ref().map_or(Ok(()), |file| lower(file, 0))?;
            }
            None => lower_own(Resource::Data, bytes)?,
        }
    }
    if let Some(processes) = limits.processes {
        let processes = u64::from(processes);
        match &group.processes {
            Some(file) => lower(file, processes + WATCHER)?,
            // Counted by the kernel for all of the user's, and this process is one of them.
            None => lower_own(Resource::Nproc, tasks_of(uid).saturating_sub(1) + processes)?,
        }
    }
    Ok(())
}

/// Writes a limit, unless the one that is there is lower.
fn lower(mut file: &File, limit: u64) -> io::Result<()> {
    let mut there = String::new();
    file.read_to_string(&mut there)?;
    // "max" is no number.
    if there.trim().parse::<u64>().is_ok_and(|there| there <= limit) {
        return Ok(());
    }
    file.write_all(limit.to_string().as_bytes())
}

fn lower_own(resource: Resource, limit: u64) -> io::Result<()> {
    let there = getrlimit(resource);
    let least = |there: Option<u64>| Some(there.map_or(limit, |there| there.min(limit)));
    Ok(setrlimit(resource, Rlimit { current: least(there.current), maximum: least(there.maximum) })?)
}

/// How many processes and threads the user has.
fn tasks_of(uid: Uid) -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let statuses = processes.filter_map(|process| fs::read_to_string(process.path().join("status")).ok());
    statuses.filter_map(|status| tasks_in(&status, uid)).sum()
}

/// The threads of a process by its status file (proc(5)), if it is this user's.
fn tasks_in(status: &str, uid: Uid) -> Option<u64> {
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let real: u32 = field("Uid:")?.parse().ok()?;
    if real == uid.as_raw() { field("Threads:")?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_the_user_are_counted() {
        let status = "Name:\tx\nUid:\t7\t8\t9\t9\nThreads:\t3\nFoo:\tbar\n";
        assert_eq!(tasks_in(status, Uid::from_raw(7)), Some(3));
        assert_eq!(tasks_in(status, Uid::from_raw(8)), None);
        assert!(tasks_of(Uid::current()) > 0);
    }
}
