//! A program that uses up the memory its run may have: it alone ends, and the person is told why.
//!
//! Under systemd the limit is the unit's (`MemoryMax=`). Here the test makes a memory cgroup of its own
//! around a whole daemon, where the machine lets it.
use std::fs;
use std::path::{Path, PathBuf};

use further_link_tests::programs::python;
use further_link_tests::{DEADLINE, Daemon, wait_until};

/// Enough for the daemon, its helpers and a python; far too little for the hog.
const LIMIT: &str = "150000000";
const HOG: &str = "print('before', flush=True)\nhoard = bytearray(600_000_000)\nprint('after', len(hoard))\n";

/// A memory cgroup of this test's own, of either version.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Self> {
        let own = format!("further-link-test-{}", std::process::id());
        let roots = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        roots.into_iter().find_map(|(root, limit)| {
            let group = Path::new(root).join(&own);
            fs::create_dir(&group).ok()?;
            let group = Self(group);
            fs::write(group.0.join(limit), LIMIT).ok().map(|()| group)
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        wait_until(DEADLINE, "an empty cgroup", || fs::remove_dir(&self.0).is_ok());
    }
}

#[test]
fn a_memory_hog_ends_alone_and_the_person_is_told_why() {
    further_link_tests::require_root();
    let Some(group) = Cgroup::new() else {
        eprintln!("SKIPPED: this machine lets nobody make a memory cgroup");
        return;
    };
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.0.display());
    let daemon = Daemon::builder().wrapped_in(&["sh", "-c", &enter, "sh"]).start();
    let mut neighbour = daemon.run("");
    neighbour.start("1", python("print(input())"));
    for query in ["", "pty=1"] {
        let mut client = daemon.run(query);
        let finished = client.run("1", python(HOG));
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(finished.exit_code, -9, "{query}: {said}");
        assert!(said.starts_with("before"), "{query}: {said}");
        assert!(
            said.ends_with("the program was ended because it used too much memory\r\n"),
            "{query}: {said}"
        );
    }
    // A program that a signal kills is not taken for one.
    let killed = daemon.run("").run("1", python("import os; os.kill(os.getpid(), 9)"));
    assert_eq!((killed.exit_code, killed.stderr.as_str()), (-9, ""));
    neighbour.stdin("1", "still here\n");
    assert_eq!(neighbour.wait_stopped("1"), 0);
    assert_eq!(neighbour.stdout("1"), "still here\n");
    drop(neighbour);
    drop(daemon);
}
