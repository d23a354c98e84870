//! What every attack starts from and must leave as it was: a helper, another user's run on it, and a
//! inventory.

use further_link_proto::{PathText, Run, VERSION};

use super::{HelperOnly, Inventory, Running};
use crate::scratch::set_mode;
use crate::{DEADLINE, wait_until};

/// A helper under attack, with another user's run on it.
#[derive(Debug)]
pub struct Fixture {
    /// What is attacked.
    pub helper: HelperOnly,
    /// The other user's run.
    pub bystander: Bystander,
    /// What there was at first.
    pub before: Inventory,
}

impl Fixture {
    /// Starts a helper that runs programs for `pi`, who cannot make a folder in its work directory.
    #[track_caller]
    pub fn new() -> Self {
        Self::of(HelperOnly::start())
    }

    /// The same with this helper.
    #[track_caller]
    pub fn of(helper: HelperOnly) -> Self {
        set_mode(&helper.scratch().work(), 0o755);
        let bystander = helper.bystander();
        // The listening process may still have the bystander's connection open; not once a later run was
        // collected.
        helper.assert_serves();
        wait_until(DEADLINE, "only the bystander's instance is left", || helper.instances().len() == 1);
        let before = helper.inventory();
        Self { helper, bystander, before }
    }

    /// Fails unless everything is as it was, the other run goes on, and the helper serves.
    #[track_caller]
    pub fn assert_unharmed(&mut self, after_what: &str) {
        self.bystander.assert_unharmed();
        self.helper.assert_as_before(&self.before, after_what);
        self.helper.assert_serves();
        self.bystander.assert_unharmed();
    }
}

impl Default for Fixture {
    fn default() -> Self {
        Self::new()
    }
}

/// Another run that goes on while a hostile frontend does its worst: `cat`, through three pipes.
#[derive(Debug)]
pub struct Bystander(pub Running);

impl Bystander {
    /// Fails unless what it is told comes back.
    #[track_caller]
    pub fn assert_unharmed(&mut self) {
        self.0.write_line("are you there?");
        assert_eq!(self.0.read_line(), "are you there?\n");
        assert!(self.0.program.is_alive());
    }
}

/// A run that would leave a trace if it were started: it makes its directory.
pub fn traced(run: Run) -> Run {
    Run { path: Some(PathText::new("../tmp/trace").expect("a path")), ..run }
}

/// A `Run` with this text as user name, whatever the types say (PROTOCOL.md, "Encoding").
#[track_caller]
pub fn with_user(name: &[u8]) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("short");
    [&[VERSION, 0, 1, length], name, &[0, 0, 5], b"shell", &[1, 12], b"../tmp/trace", &[0, 0, 0]].concat()
}
