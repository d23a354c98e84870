//! Whether the kernel has killed something of this run because memory was used up. Of all reasons for an
//! end the person at the browser could not guess this one.
//!
//! Asked of this process's own memory cgroup, before and after: under systemd that is the run's unit. Without
//! a memory controller (Raspberry Pi kernels boot without) nothing is known, and nothing is said.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The counter, and its value at the start of the run.
pub(crate) struct OutOfMemory {
    counter: Option<PathBuf>,
    before: u64,
}

impl OutOfMemory {
    pub(crate) fn new() -> Self {
        let counter = fs::read_to_string("/proc/self/cgroup").ok().and_then(|cgroups| counter(&cgroups));
        let before = counter.as_deref().and_then(kills).unwrap_or(0);
        Self { counter, before }
    }

    /// Whether it has grown.
    pub(crate) fn has_killed(&self) -> bool {
        self.counter.as_deref().and_then(kills).is_some_and(|now| now > self.before)
    }
}

/// Where the counter of the memory cgroup is (cgroups(7)): version 1 has a hierarchy of its own, version 2
/// the one of all.
fn counter(cgroups: &str) -> Option<PathBuf> {
    let fields: Vec<_> = cgroups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    let of = |wanted: &str| {
        let found = fields.iter().find(|(names, _)| names.split(',').any(|name| name == wanted));
        found.map(|(_, path)| path.trim_start_matches('/'))
    };
    match of("memory") {
        Some(path) => Some(Path::new("/sys/fs/cgroup/memory").join(path).join("memory.oom_control")),
        None => Some(Path::new("/sys/fs/cgroup").join(of("")?).join("memory.events")),
    }
}

fn kills(counter: &Path) -> Option<u64> {
    let text = fs::read_to_string(counter).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_in_both_versions_of_cgroups() {
        let unit = "/system.slice/further-link-exec@1.service";
        let found = |text: &str| counter(text).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(found(&format!("0::{unit}\n")), Some(format!("/sys/fs/cgroup{unit}/memory.events")));
        let hybrid = format!("4:pids:/x\n3:cpu,memory:{unit}\n0::/y\n");
        assert_eq!(found(&hybrid), Some(format!("/sys/fs/cgroup/memory{unit}/memory.oom_control")));
        assert_eq!(found("4:pids:/x\n"), None);
    }
}
