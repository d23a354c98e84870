//! The environment of a program, built from nothing (B7.5, D15) as a login would give it.
//!
//! `launch` calls this as the user, after the identity switch: it reads `/etc/environment` and looks into the
//! home. Values are layered: the client's, the account's, those of the helper's settings, `/etc/environment`,
//! and defaults.

use std::{
    fs,
    io::Read,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::unistd::Uid;

use crate::{account::Account, sys};

/// PATH of a person's login on Debian (`ENV_PATH` in login.defs(5)), with the games and without `sbin`.
const LOGIN_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
/// PATH of root's login (`ENV_SUPATH`).
const ROOT_LOGIN_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What systemd gives to services (systemd.exec(5), `$PATH`): no person chose it, so it is not passed on.
const SERVICE_PATHS: [&str; 3] = [
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "/usr/local/bin:/usr/bin",
];
/// The locale of every Debian that speaks UTF-8 and needs no generation.
const UTF8_LOCALE: &str = "C.UTF-8";
/// Variables for all sessions of the machine, such as a school's proxies (`pam_env(8)`).
const MACHINE_FILE: &str = "/etc/environment";
/// Most bytes read of it: a few proxies take a hundredth.
const MAX_MACHINE_FILE: u64 = 64 * 1024;
const X_SOCKETS: &str = "/tmp/.X11-unix";

/// A name and a value.
pub(crate) type Variable = (String, String);

/// The variables of a program that this account runs in this directory. `passed` comes from the helper's
/// settings, `chosen` from the client.
pub(crate) fn environment(
    account: &Account,
    cwd: &Path,
    passed: &[Variable],
    chosen: Vec<Variable>,
) -> Vec<Variable> {
    let mut environment = Environment(of_account(account, cwd));
    for (name, value) in passed.iter().filter(|(name, value)| !is_of_service(name, value)) {
        environment.fill(name, value.clone());
    }
    for (name, value) in machine_variables(Path::new(MACHINE_FILE)) {
        environment.fill(&name, value);
    }
    let path = if account.uid.is_root() { ROOT_LOGIN_PATH } else { LOGIN_PATH };
    environment.fill("PATH", path.to_owned());
    environment.add_own_directories(&account.home);
    environment.speak_utf8(sys::has_locale);
    let runtime_dir = format!("/run/user/{}", account.uid);
    if fs::metadata(&runtime_dir).is_ok_and(|dir| dir.is_dir() && dir.uid() == account.uid.as_raw()) {
        environment.fill("XDG_RUNTIME_DIR", runtime_dir);
    }
    if let Some(display) = first_display(Path::new(X_SOCKETS), account.uid) {
        environment.fill("DISPLAY", display);
    }
    for (name, value) in chosen {
        environment.set(&name, value);
    }
    environment.0
}

fn of_account(account: &Account, cwd: &Path) -> Vec<Variable> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    vec![
        ("HOME".to_owned(), text(&account.home)),
        ("USER".to_owned(), account.name.clone()),
        ("LOGNAME".to_owned(), account.name.clone()),
        ("SHELL".to_owned(), text(&account.shell)),
        // Without a slash at the end, which a shell would print.
        ("PWD".to_owned(), text(&cwd.components().collect::<PathBuf>())),
        ("TERM".to_owned(), "xterm-256color".to_owned()),
    ]
}

/// The service manager's PATH, and an empty locale, which means the same as none (locale(7)).
fn is_of_service(name: &str, value: &str) -> bool {
    match name {
        "PATH" => value.is_empty() || SERVICE_PATHS.contains(&value),
        "LANG" | "LC_ALL" => value.is_empty(),
        _ => false,
    }
}

struct Environment(Vec<Variable>);

impl Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(present, _)| present == name).map(|(_, value)| value.as_str())
    }

    /// Adds a variable unless it is there.
    fn fill(&mut self, name: &str, value: String) {
        if self.get(name).is_none() {
            self.0.push((name.to_owned(), value));
        }
    }

    fn set(&mut self, name: &str, value: String) {
        self.0.retain(|(present, _)| present != name);
        self.0.push((name.to_owned(), value));
    }

    /// Puts `~/bin` and `~/.local/bin` first, where they exist, as Debian's `.profile` does: pip and pipx
    /// install there.
    fn add_own_directories(&mut self, home: &Path) {
        for name in ["bin", ".local/bin"] {
            let directory = home.join(name);
            let (Some(path), Some(text)) = (self.get("PATH"), directory.to_str()) else { continue };
            if directory.is_dir() && !path.split(':').any(|present| present == text) {
                self.set("PATH", format!("{text}:{path}"));
            }
        }
    }

    /// Makes the character set UTF-8, as clients write and read it, and keeps the language of messages where
    /// the machine has it. With a locale that is not there setlocale(3) sets none at all, so it is not
    /// passed on.
    fn speak_utf8(&mut self, is_known: impl Fn(&str) -> bool) {
        let chosen = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| self.get(name));
        let chosen = chosen.filter(|locale| is_builtin(locale) || is_known(locale)).map(str::to_owned);
        let Some(chosen) = chosen else {
            self.0.retain(|(name, _)| !matches!(name.as_str(), "LC_ALL" | "LC_CTYPE"));
            return self.set("LANG", UTF8_LOCALE.to_owned());
        };
        if is_utf8(&chosen) {
            return;
        }
        // LC_ALL would win over LC_CTYPE.
        if self.get("LC_ALL").is_some() {
            self.0.retain(|(name, _)| name != "LC_ALL");
            self.set("LANG", chosen);
        }
        self.set("LC_CTYPE", UTF8_LOCALE.to_owned());
    }
}

/// Whether every C library of the last years has it, so that no file needs to be looked at.
fn is_builtin(locale: &str) -> bool {
    [UTF8_LOCALE, "C", "POSIX"].contains(&locale)
}

/// Whether a locale's name says so: `de_DE.UTF-8`, `de_DE.utf8@euro`.
fn is_utf8(locale: &str) -> bool {
    let charset = locale.split_once('.').map_or("", |(_, charset)| charset);
    let charset = charset.split('@').next().unwrap_or_default();
    ["utf-8", "utf8"].into_iter().any(|name| charset.eq_ignore_ascii_case(name))
}

/// The lines `NAME=value` of such a file, as `pam_env(8)` reads them. None where it cannot be read: most
/// machines have none.
fn machine_variables(file: &Path) -> Vec<Variable> {
    let mut text = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(MAX_MACHINE_FILE).read_to_end(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    String::from_utf8_lossy(&text).lines().filter_map(machine_variable).collect()
}

/// A `#` ends the line wherever it stands, `export` is allowed, and quotes around the value go.
fn machine_variable(line: &str) -> Option<Variable> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).trim_start().split_once('=')?;
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // The user channel's address and its like are this program's to give.
    if name.is_empty() || !is_name(name) || name.starts_with("FURTHER_LINK_") {
        return None;
    }
    let quotes = ['"', '\''];
    let value = value.strip_prefix(quotes).map_or(value, |rest| rest.strip_suffix(quotes).unwrap_or(rest));
    (!value.contains('\0')).then(|| (name.to_owned(), value.to_owned()))
}

/// The first X server by number (B7.5) whose socket is root's or the account's own. The directory is open
/// to all users, and another user's server could type into the program's windows.
fn first_display(directory: &Path, own: Uid) -> Option<String> {
    let sockets = fs::read_dir(directory).ok()?.flatten();
    let numbers = sockets.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        let owner = Uid::from_raw(metadata.uid());
        let is_trusted = metadata.file_type().is_socket() && (owner.is_root() || owner == own);
        let number: u32 = entry.file_name().to_str()?.strip_prefix('X')?.parse().ok()?;
        is_trusted.then_some(number)
    });
    numbers.min().map(|number| format!(":{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn spoken(variables: &[(&str, &str)]) -> Vec<Variable> {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut environment = Environment(owned.collect());
        environment.speak_utf8(|locale| ["de_DE.UTF-8", "de_DE", "en_US", "C.utf8"].contains(&locale));
        environment.0.sort();
        environment.0
    }

    fn owned(variables: &[(&str, &str)]) -> Vec<Variable> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_character_set_is_utf_8_and_the_language_stays() {
        for (given, expected) in [
            (&[][..], &[("LANG", "C.UTF-8")][..]),
            (&[("LANG", "de_DE.UTF-8")], &[("LANG", "de_DE.UTF-8")]),
            (&[("LANG", "C.utf8")], &[("LANG", "C.utf8")]),
            (&[("LANG", "de_DE")], &[("LANG", "de_DE"), ("LC_CTYPE", "C.UTF-8")]),
            (&[("LANG", "C")], &[("LANG", "C"), ("LC_CTYPE", "C.UTF-8")]),
            (&[("LANG", "xx_XX.UTF-8")], &[("LANG", "C.UTF-8")]),
            (&[("LANG", "")], &[("LANG", "C.UTF-8")]),
            (
                &[("LANG", "de_DE.ISO-8859-1"), ("LC_CTYPE", "de_DE.UTF-8")],
                &[("LANG", "de_DE.ISO-8859-1"), ("LC_CTYPE", "de_DE.UTF-8")],
            ),
            (&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "en_US")], &[("LANG", "en_US"), ("LC_CTYPE", "C.UTF-8")]),
        ] {
            assert_eq!(spoken(given), owned(expected), "{given:?}");
        }
    }

    #[test]
    fn lines_are_read_as_pam_env_reads_them() {
        for (line, variable) in [
            ("http_proxy=http://proxy.school:3128", Some(("http_proxy", "http://proxy.school:3128"))),
            ("  export NO_PROXY=\"localhost,.school\"  # ours", Some(("NO_PROXY", "localhost,.school"))),
            ("A='b c'", Some(("A", "b c"))),
            ("EMPTY=", Some(("EMPTY", ""))),
            ("# A=b", None),
            ("no value", None),
            ("=x", None),
            ("A-B=c", None),
            ("FURTHER_LINK_CHANNEL=/x", None),
        ] {
            let variable = variable.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(machine_variable(line), variable, "{line}");
        }
    }

    #[test]
    fn the_service_managers_path_is_not_passed_on_and_a_persons_is() {
        assert!(is_of_service("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"));
        assert!(is_of_service("LANG", ""));
        assert!(!is_of_service("PATH", "/home/pi/venv/bin:/usr/bin"));
        assert!(!is_of_service("TZ", ""));
    }

    #[test]
    fn own_directories_come_first_where_they_exist() {
        let home = std::env::temp_dir().join(format!("further-link-home.{}", std::process::id()));
        fs::create_dir_all(home.join(".local/bin")).unwrap();
        let mut environment = Environment(owned(&[("PATH", "/usr/bin")]));
        environment.add_own_directories(&home);
        environment.add_own_directories(&home);
        let path = format!("{}:/usr/bin", home.join(".local/bin").display());
        assert_eq!(environment.get("PATH"), Some(path.as_str()));
        fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn the_display_is_the_lowest_number_whose_socket_is_trusted() {
        let directory = std::env::temp_dir().join(format!("further-link-x.{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let own = Uid::effective();
        let _sockets: Vec<_> =
            ["X10", "X2", "Xa"].map(|name| UnixListener::bind(directory.join(name)).unwrap()).into();
        fs::write(directory.join("X0"), "no socket").unwrap();
        assert_eq!(first_display(&directory, own).as_deref(), Some(":2"));
        if own.is_root() {
            let _stranger = UnixListener::bind(directory.join("X1")).unwrap();
            nix::unistd::chown(&directory.join("X1"), Some(Uid::from_raw(1)), None).unwrap();
            assert_eq!(first_display(&directory, own).as_deref(), Some(":2"));
            assert_eq!(first_display(&directory, Uid::from_raw(1)).as_deref(), Some(":1"));
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}
