//! Says once, at the start of the service, which of the units' limits this kernel cannot keep.
//!
//! Raspberry Pi kernels boot without the memory controller unless told otherwise; `MemoryMax=` then does
//! nothing, and it would show only when a program takes the device along.

use std::{fs, path::Path};

use tracing::warn;

/// The controllers that the units rely on, and what is missing without them.
const NEEDED: [(&str, &str); 2] = [
    (
        "memory",
        "programs can use up all memory. On a Raspberry Pi add cgroup_enable=memory cgroup_memory=1 at the end of the \
         line in /boot/firmware/cmdline.txt, and reboot",
    ),
    ("pids", "a fork bomb is limited by the system's number of processes only"),
];

/// Looks below `/sys/fs/cgroup`. Only a service of systemd has such limits at all.
pub(crate) fn report_missing() {
    if std::env::var_os("INVOCATION_ID").is_none() {
        return;
    }
    for (controller, consequence) in missing(Path::new("/sys/fs/cgroup")) {
        warn!("this kernel has no {controller} controller: {consequence}");
    }
}

/// Version 2 lists its controllers in a file, version 1 has a folder for each.
fn missing(root: &Path) -> Vec<(&'static str, &'static str)> {
    let listed = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let present =
        |name: &str| listed.split_ascii_whitespace().any(|listed| listed == name) || root.join(name).is_dir();
    NEEDED.into_iter().filter(|(name, _)| !present(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_there_if_listed_or_a_folder() {
        let root = std::env::temp_dir().join(format!("further-link-controllers-{}", std::process::id()));
        fs::create_dir_all(root.join("pids")).unwrap();
        let names = |root| missing(root).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&root), ["memory"]);
        fs::write(root.join("cgroup.controllers"), "cpuset cpu memory\n").unwrap();
        assert!(names(&root).is_empty());
        fs::remove_dir_all(&root).unwrap();
    }
}
