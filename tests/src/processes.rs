//! Reading /proc: who descends from whom, who still lives, what a process may do.
//!
//! Used by the supervisor to find every descendant, and by tests that check ids, capabilities, signals and
//! descriptors from outside the program. It never sends a signal.

use std::collections::{BTreeMap, HashSet};
use std::fs;

/// One line of the process table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The kernel's number.
    pub pid: i32,
    /// The pid of its parent.
    pub parent: i32,
    /// `R`, `S`, `Z` and so on, see proc(5).
    pub state: char,
    /// The kernel's short name of the program.
    pub name: String,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The process group in the foreground of its controlling terminal, -1 without one.
    pub foreground: i32,
    /// Start time in clock ticks, which tells a reused pid from the old one.
    pub start: u64,
}

impl Process {
    /// Reads `/proc/<pid>/stat`; `None` when there is no such process.
    pub fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may itself hold spaces and brackets, so the last bracket ends it.
        let (head, tail) = stat.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            state: fields.first()?.chars().next()?,
            name: name.to_owned(),
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            foreground: fields.get(5)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// The arguments it was started with.
    pub fn arguments(&self) -> Vec<String> {
        let raw = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        raw.split(|byte| *byte == 0)
            .filter(|argument| !argument.is_empty())
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect()
    }
}

/// Every process of the machine.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .collect()
}

/// Every descendant of `root`, zombies included, `root` itself not.
pub fn descendants(root: i32) -> Vec<Process> {
    let everybody = all();
    let mut family = HashSet::from([root]);
    let mut found = Vec::new();
    loop {
        let before = found.len();
        for process in &everybody {
            if family.contains(&process.parent) && family.insert(process.pid) {
                found.push(process.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// A process that a test looks after: pid and start time, so that a reused pid is not taken for it.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// The kernel's number.
    pub pid: i32,
    start: u64,
}

impl Watched {
    /// Starts to look after `pid`, which must live now.
    #[track_caller]
    pub fn new(pid: i32) -> Self {
        let process = Process::read(pid).unwrap_or_else(|| panic!("there is no process {pid}"));
        Self { pid, start: process.start }
    }

    /// Whether it still runs; a zombie does not.
    pub fn is_alive(&self) -> bool {
        Process::read(self.pid).is_some_and(|now| now.start == self.start && now.state != 'Z')
    }
}

/// `/proc/<pid>/status`, the page of facts about one process.
#[derive(Debug)]
pub struct Status(String);

impl Status {
    /// Reads the page of `pid`, which must live.
    #[track_caller]
    pub fn of(pid: i32) -> Self {
        Self(
            fs::read_to_string(format!("/proc/{pid}/status"))
                .unwrap_or_else(|e| panic!("process {pid}: {e}")),
        )
    }

    /// The text after `name:`.
    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_else(|| panic!("no {name} in\n{}", self.0))
            .trim()
    }

    /// The numbers of a decimal field such as `Uid` (real, effective, saved, file system) or `VmRSS`.
    #[track_caller]
    pub fn numbers(&self, name: &str) -> Vec<u64> {
        self.text(name).split_whitespace().filter_map(|word| word.parse().ok()).collect()
    }

    /// A mask such as `CapEff` or `SigIgn`.
    #[track_caller]
    pub fn mask(&self, name: &str) -> u64 {
        u64::from_str_radix(self.text(name), 16).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The supplementary groups, in order.
    #[track_caller]
    pub fn groups(&self) -> Vec<u64> {
        let mut groups = self.numbers("Groups");
        groups.sort_unstable();
        groups
    }
}

/// The descriptors that `pid` has open, in order, with what they are (`pipe:[123]`, a path).
#[track_caller]
pub fn descriptors(pid: i32) -> BTreeMap<u32, String> {
    let entries =
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap_or_else(|e| panic!("descriptors of {pid}: {e}"));
    let named = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        // One that is closed meanwhile is not open.
        let target = fs::read_link(&path).ok()?;
        Some((path.file_name()?.to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
    });
    named.collect()
}
