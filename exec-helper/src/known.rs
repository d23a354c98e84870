//! What the name service has said of a user, for as long as it would say the same: a spare asks while it
//! waits, so that a start need not.
//!
//! An answer is kept only where it comes from files alone, and counts only while none of them has changed.
//! Whether the account is switched off is decided each time: days pass, and `/etc/nologin` comes and
//! goes. With any other source (LDAP, a cache, records of systemd's) each start asks.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use further_link_proto::UserName;

use crate::account::{self, Found};

/// Which sources there are, and for whom.
const SWITCH: &str = "/etc/nsswitch.conf";
/// What the source `files` reads.
const FILES: [&str; 3] = ["/etc/passwd", "/etc/group", "/etc/shadow"];
/// Where the source `systemd` finds records, and the services that it asks (systemd-userdbd.service(8)).
const RECORDS: [&str; 6] = [
    "/etc/userdb",
    "/run/userdb",
    "/run/host/userdb",
    "/usr/local/lib/userdb",
    "/usr/lib/userdb",
    "/run/systemd/userdb",
];
/// PID 1's users of services, which are in no group of an account.
const HARMLESS_SERVICE: &str = "io.systemd.DynamicUser";
/// A cache in front of all of them (nscd(8)).
const CACHE: &str = "/run/nscd/socket";

/// A file that was changed so shortly before it was looked at could change again with the same times.
const SETTLED: Duration = Duration::from_secs(2);

/// The answer, and what it came from.
pub(crate) struct Known {
    name: UserName,
    found: Found,
    sources: Sources,
}

impl Known {
    /// Asks. None if there is no such account, or where the answer could not be kept.
    pub(crate) fn ask(name: &UserName) -> Option<Self> {
        let sources = Sources::look().ok()?;
        let found = account::find(name).ok()??;
        let keeps = Sources::are_files_only().ok()? && sources.are_settled();
        (keeps && Sources::look().ok()? == sources).then(|| Self { name: name.clone(), found, sources })
    }

    /// The answer, if it is about this user and the name service would still say the same.
    pub(crate) fn about(&self, name: &UserName) -> Option<Found> {
        (self.name == *name && self.holds()).then(|| self.found.clone())
    }

    pub(crate) fn holds(&self) -> bool {
        Sources::look().is_ok_and(|sources| sources == self.sources)
    }
}

/// A file or directory as it was: none if there was none. One that is replaced has another number, and one
/// that is written another time.
type Seen = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// All that the answer depends on.
#[derive(Debug, PartialEq, Eq)]
struct Sources(Vec<Seen>);

impl Sources {
    fn look() -> io::Result<Self> {
        let paths = [SWITCH, CACHE].into_iter().chain(FILES).chain(RECORDS);
        paths.map(|path| seen(Path::new(path))).collect::<io::Result<_>>().map(Self)
    }

    /// Whether nothing but the files can answer.
    fn are_files_only() -> io::Result<bool> {
        if Path::new(CACHE).exists() || !names_files_only(&fs::read_to_string(SWITCH)?) {
            return Ok(false);
        }
        for directory in RECORDS {
            match fs::read_dir(directory) {
                Ok(mut entries) => {
                    if entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != HARMLESS_SERVICE))
                    {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn are_settled(&self) -> bool {
        let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return false };
        let latest = i64::try_from(now.saturating_sub(SETTLED).as_secs()).unwrap_or_default();
        self.0.iter().flatten().all(|(.., (modified, _), (changed, _))| *modified.max(changed) < latest)
    }
}

fn seen(path: &Path) -> io::Result<Seen> {
    match fs::metadata(path) {
        Ok(file) => Ok(Some((
            file.dev(),
            file.ino(),
            file.size(),
            (file.mtime(), file.mtime_nsec()),
            (file.ctime(), file.ctime_nsec()),
        ))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether users, groups and passwords come from files and from systemd's records alone (nsswitch.conf(5)).
fn names_files_only(switch: &str) -> bool {
    let mut databases = switch.lines().filter_map(|line| {
        let (database, sources) = line.split('#').next()?.split_once(':')?;
        ["passwd", "group", "shadow", "initgroups"].contains(&database.trim()).then_some(sources)
    });
    let is_known = |source: &str| ["files", "systemd", "[NOTFOUND=return]"].contains(&source);
    let named = |name: &str| switch.lines().any(|line| line.trim_start().starts_with(name));
    ["passwd:", "group:", "shadow:"].into_iter().all(named)
        && databases.all(|sources| sources.split_whitespace().all(is_known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_and_records_of_systemd_are_known_sources() {
        let debian = "passwd: files systemd\ngroup:\tfiles systemd # x\nshadow: files\nhosts: dns\n";
        assert!(names_files_only(debian));
        assert!(names_files_only(&format!("{debian}initgroups: files [NOTFOUND=return] systemd\n")));
        for other in ["sss", "ldap", "compat", "winbind", "[SUCCESS=merge]"] {
            assert!(
                !names_files_only(&debian.replace("files # x", other).replace("files\n", other)),
                "{other}"
            );
            assert!(!names_files_only(&format!("{debian}initgroups: files {other}\n")), "{other}");
        }
        assert!(!names_files_only("passwd: files\n"), "what is not named has another default on each libc");
    }

    #[test]
    fn a_change_of_a_file_is_seen_and_a_new_one_could_change_unseen() {
        let file = std::env::temp_dir().join(format!("further-link-known.{}", std::process::id()));
        let look = || Sources(vec![seen(&file).unwrap()]);
        assert_eq!(look(), Sources(vec![None]));
        fs::write(&file, "x").unwrap();
        let first = look();
        assert!(!first.are_settled());
        assert_eq!(look(), first);
        let beside = file.with_extension("new");
        fs::write(&beside, "y").unwrap();
        fs::rename(&beside, &file).unwrap();
        assert_ne!(look(), first, "replaced, as usermod(8) does");
        let old = SystemTime::now() - Duration::from_mins(1);
        fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        assert!(!look().are_settled(), "the time of its content can be set, not that of the change");
        fs::remove_file(&file).unwrap();
        assert!(look().are_settled(), "what is not there can only come");
    }

    #[test]
    fn what_is_known_is_about_one_user() {
        let (root, daemon) = (UserName::new("root").unwrap(), UserName::new("daemon").unwrap());
        match Known::ask(&root) {
            Some(known) => {
                assert_eq!(known.about(&root).unwrap().account.uid.as_raw(), 0);
                assert!(known.about(&daemon).is_none());
            }
            None => {
                eprintln!("SKIPPED: this machine's name service asks more than files, so NOTHING was tried");
            }
        }
        assert!(Known::ask(&UserName::new("no-such-user").unwrap()).is_none());
    }
}
