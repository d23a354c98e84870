//! Everything that a helper could leave behind, counted: processes, descriptors, files.
//!
//! Taken before and after an attack and compared. Exact, not "about as many": the same processes, the same
//! descriptors under the same numbers, the same files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::HelperOnly;
use crate::processes;

/// What there is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// All that descends from the start of the helper, itself and zombies included: pid and name.
    pub processes: BTreeMap<i32, String>,
    /// What the listening process has open.
    pub descriptors: BTreeMap<u32, String>,
    /// All files below its folders.
    pub files: BTreeSet<PathBuf>,
}

impl Inventory {
    /// Counts.
    pub fn take(helper: &HelperOnly) -> Self {
        let descendants = helper.process.descendants();
        let mut files = BTreeSet::new();
        collect(&helper.scratch().root(), &mut files);
        Self {
            processes: descendants.into_iter().map(|process| (process.pid, process.name)).collect(),
            descriptors: processes::descriptors(helper.pid()),
            files,
        }
    }

    /// What `now` has more or less, in words.
    pub fn difference(&self, now: &Self) -> String {
        let mut words = Vec::new();
        let mut compare = |what: &str, before: Vec<String>, after: Vec<String>| {
            let more: Vec<_> = after.iter().filter(|one| !before.contains(one)).collect();
            let less: Vec<_> = before.iter().filter(|one| !after.contains(one)).collect();
            if !(more.is_empty() && less.is_empty()) {
                words.push(format!("{what}: more {more:?}, less {less:?}"));
            }
        };
        let processes =
            |inventory: &Self| inventory.processes.iter().map(|entry| format!("{entry:?}")).collect();
        let descriptors =
            |inventory: &Self| inventory.descriptors.iter().map(|entry| format!("{entry:?}")).collect();
        let files =
            |inventory: &Self| inventory.files.iter().map(|path| path.display().to_string()).collect();
        compare("processes", processes(self), processes(now));
        compare("descriptors", descriptors(self), descriptors(now));
        compare("files", files(self), files(now));
        words.join("; ")
    }
}

/// What disappears while it is read is not there.
fn collect(directory: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, found);
        }
        found.insert(path);
    }
}
