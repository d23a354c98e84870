//! The limits of a runner's file, where each run has a control group of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::fs;
use std::path::PathBuf;

use further_link_proto::{ExitStatus, Limit};
use further_link_tests::helper_only::{HelperOnly, frontend};

/// Control groups for one helper, gone at the end.
struct Groups(Vec<PathBuf>);

impl Groups {
    /// None if this machine lets none be made.
    fn new(name: &str) -> Option<Self> {
        let root = PathBuf::from("/sys/fs/cgroup");
        let is_unified = root.join("cgroup.controllers").exists();
        let parents = if is_unified { vec![root] } else { vec![root.join("memory"), root.join("pids")] };
        let groups: Vec<_> = parents
            .into_iter()
            .map(|parent| parent.join(format!("further-link-test-{name}-{}", std::process::id())))
            .collect();
        let groups = Self(groups);
        let is_made = |group: &PathBuf| {
            fs::create_dir(group).is_ok()
                && ["memory.max", "memory.limit_in_bytes", "pids.max"]
                    .iter()
                    .any(|file| group.join(file).exists())
        };
        if groups.0.iter().all(is_made) { Some(groups) } else { None }
    }

    fn file(&self, names: [&str; 2]) -> PathBuf {
        let files = self.0.iter().flat_map(|group| names.map(|name| group.join(name)));
        files.into_iter().find(|file| file.exists()).unwrap()
    }

    /// Starts a helper in them.
    fn helper(&self, limits: &str) -> HelperOnly {
        let files: Vec<_> =
            self.0.iter().map(|group| group.join("cgroup.procs").display().to_string()).collect();
        let enter = format!("for file in {}; do echo $$ >$file; done; exec \"$@\"", files.join(" "));
        let builder = HelperOnly::builder().allow_users(&["pi"]).wrapped_in(&["sh", "-c", &enter, "sh"]);
        let folder = builder.scratch().root().join("runners.d");
        fs::create_dir(&folder).unwrap();
        let runner = format!(
            "id = \"x\"\ntitle = \"X\"\nentry = \"{{number}}.py\"\n\
             [run]\nargv = [\"python3\", \"-u\", \"{{file}}\"]\n[limits]\n{limits}\n"
        );
        fs::write(folder.join("x.toml"), runner).unwrap();
        builder.argument("--limits=cgroup").argument(&format!("--runners-dirs={}", folder.display())).start()
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in &self.0 {
            let (Ok(()) | Err(_)) = fs::remove_dir(group);
        }
    }
}

#[test]
fn a_run_that_uses_up_its_memory_ends_and_the_end_says_so() {
    let Some(groups) = Groups::new("memory") else {
        eprintln!("SKIPPED: no control groups can be made here, so NOTHING was tried");
        return;
    };
    let helper = groups.helper("memory = 64");
    let code = b"x = b'x' * (20 << 20)\nprint(len(x), flush=True)\ny = b'x' * (200 << 20)\n";
    let running = helper.connect().start(&frontend::with_text("x", code.len()), code);
    let ended = running.frontend.wait_ended();
    assert_eq!((ended.status, ended.limit), (ExitStatus::Signaled(9), Some(Limit::Memory)));
    assert!((20 << 10..100 << 10).contains(&ended.usage.memory), "{ended:?}");
    let limit = fs::read_to_string(groups.file(["memory.max", "memory.limit_in_bytes"])).unwrap();
    assert_eq!(limit.trim(), (64 << 20).to_string());
    drop(helper);
}

#[test]
fn a_run_that_makes_too_many_processes_makes_no_more_and_the_end_says_so() {
    let Some(groups) = Groups::new("processes") else {
        eprintln!("SKIPPED: no control groups can be made here, so NOTHING was tried");
        return;
    };
    let helper = groups.helper("processes = 8");
    let code = b"import os, signal\nwhile True:\n  if os.fork() == 0: signal.pause()\n";
    let running = helper.connect().start(&frontend::with_text("x", code.len()), code);
    let ended = running.frontend.wait_ended();
    assert_eq!((ended.status, ended.limit), (ExitStatus::Exited(1), Some(Limit::Processes)));
    // One that catches the error has not ended for it.
    let code = b"import os\ntry:\n  while True:\n    if os.fork() == 0: __import__('signal').pause()\nexcept OSError: pass\n";
    let running = helper.connect().start(&frontend::with_text("x", code.len()), code);
    let ended = running.frontend.wait_ended();
    assert_eq!((ended.status, ended.limit), (ExitStatus::Exited(0), None));
    // A lower limit than the runner's stays.
    let limit = groups.file(["pids.max", "pids.max"]);
    fs::write(&limit, "7").unwrap();
    let running = helper.connect().start(&frontend::with_text("x", 4), b"pass");
    assert_eq!(running.frontend.wait_ended().status, ExitStatus::Exited(0));
    assert_eq!(fs::read_to_string(limit).unwrap().trim(), "7");
    drop(helper);
}
