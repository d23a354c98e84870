//! The one private directory of a benchmark, with the files that are run. Removed at the end.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use further_link_benches::pattern::Kind;

use crate::Result;

/// More lines than a person will read.
pub(crate) const ENDLESS: u64 = 1 << 40;

/// The directory.
pub(crate) struct Place {
    root: PathBuf,
    sockets: AtomicU32,
}

impl Place {
    /// Makes it, and puts the program into it, where every user may run it.
    pub(crate) fn new(program: &Path) -> Result<Self> {
        let root = std::env::temp_dir().join(format!("further-link-bench-{}", std::process::id()));
        fs::DirBuilder::new().create(&root)?;
        let place = Self { root, sockets: AtomicU32::new(0) };
        fs::copy(program, place.program())?;
        for (directory, mode) in [(place.root.clone(), 0o755), (place.work(), 0o1777), (place.temp(), 0o1777)]
        {
            fs::create_dir_all(&directory)?;
            fs::set_permissions(&directory, Permissions::from_mode(mode))?;
        }
        // What `cat` is sent, it writes: a program's echo, not the kernel's.
        place.script("echo", "#!/bin/sh\nstty raw -echo\necho ready\nexec cat\n")?;
        place.script("echo-pipe", "#!/bin/sh\necho ready\nexec cat\n")?;
        place.script("sleep", "#!/bin/sh\nexec sleep 1000\n")?;
        Ok(place)
    }

    /// Says hello, or is the interpreter of floods.
    pub(crate) fn program(&self) -> PathBuf {
        self.root.join("program")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub(crate) fn temp(&self) -> PathBuf {
        self.root.join("temp")
    }

    /// A program that is `ready`, and then answers each byte with the same.
    pub(crate) fn echo(&self, terminal: bool) -> PathBuf {
        self.root.join(if terminal { "echo" } else { "echo-pipe" })
    }

    /// A path for one more listening helper.
    pub(crate) fn socket(&self) -> PathBuf {
        let number = self.sockets.fetch_add(1, Ordering::Relaxed);
        self.root.join(format!("helper-{number}"))
    }

    pub(crate) fn sleep(&self) -> PathBuf {
        self.root.join("sleep")
    }

    /// A file that floods its output with so many lines.
    pub(crate) fn flood(&self, kind: Kind, lines: u64) -> Result<PathBuf> {
        let kind = match kind {
            Kind::Ascii => "ascii",
            Kind::Mixed => "mixed",
        };
        let program = self.program();
        self.script(&format!("flood-{kind}-{lines}"), &format!("#!{} {kind} {lines}\n", program.display()))
    }

    fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        if !path.exists() {
            fs::write(&path, text)?;
            fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.root) {
            eprintln!("cannot remove {}: {error}", self.root.display());
        }
    }
}
