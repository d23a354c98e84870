//! Where files of this process's control group are (cgroups(7)). Under systemd it is the group of the run's
//! unit. A kernel has one hierarchy for all controllers (version 2), or one for each (version 1).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The names of a file in the two versions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    pub(crate) controller: &'static str,
    pub(crate) version1: &'static str,
    pub(crate) version2: &'static str,
}

/// The group of this process, in each hierarchy.
pub(crate) struct Group(String);

impl Group {
    pub(crate) fn own() -> Self {
        Self(fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
    }

    /// Where this file is, if the kernel has that controller.
    pub(crate) fn file(&self, names: Names) -> Option<PathBuf> {
        let of = |wanted: &str| {
            let mut hierarchies = self.0.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
            let found =
                hierarchies.find(|(controllers, _)| controllers.split(',').any(|name| name == wanted));
            found.map(|(_, path)| path.trim_start_matches('/'))
        };
        let root = Path::new("/sys/fs/cgroup");
        match of(names.controller) {
            Some(path) => Some(root.join(names.controller).join(path).join(names.version1)),
            None => Some(root.join(of("")?).join(names.version2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_in_both_versions_of_cgroups() {
        let names = Names { controller: "memory", version1: "memory.oom_control", version2: "memory.events" };
        let unit = "/system.slice/further-link-exec@1.service";
        let found =
            |text: &str| Group(text.to_owned()).file(names).map(|path| path.to_string_lossy().into_owned());
        assert_eq!(found(&format!("0::{unit}\n")), Some(format!("/sys/fs/cgroup{unit}/memory.events")));
        let hybrid = format!("4:pids:/x\n3:cpu,memory:{unit}\n0::/y\n");
        assert_eq!(found(&hybrid), Some(format!("/sys/fs/cgroup/memory{unit}/memory.oom_control")));
        assert_eq!(found("4:pids:/x\n"), None);
    }
}
