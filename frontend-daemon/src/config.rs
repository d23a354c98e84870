//! Settings from the command line and the environment, checked before anything is started.
//!
//! README.md lists every option and variable; a test compares that table with what is declared here.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser};

/// The name under which an administrator finds a setting, by the way in which this program was installed: the
/// package has variables in a file, and a program that is started by hand has options.
macro_rules! setting {
    ($option:literal, $variable:literal) => {
        if cfg!(feature = "embedded-helper") {
            $option
        } else {
            concat!($variable, " in /etc/default/further-link")
        }
    };
}
pub(crate) use setting;

/// Where the package's service has the administrators' socket.
pub(crate) const ADMIN_SOCKET: &str = "/run/further-link/admin.sock";

/// Where runner files are: those of the administrator, and those of the package.
const RUNNERS_DIRS: [&str; 2] = ["/etc/further-link/runners.d", "/usr/share/further-link/runners.d"];
/// Those of the checkout that this was built in.
const OWN_RUNNERS_DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../runners.d");

/// The settings of the daemon.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Config {
    /// TCP port; 0 takes any free one.
    #[arg(long, global = true, env = "FURTHER_LINK_PORT", default_value_t = 8028, value_name = "PORT")]
    pub(crate) port: u16,

    /// Address to listen on [default: all]
    #[arg(long, env = "FURTHER_LINK_ADDRESS", value_name = "ADDRESS")]
    pub(crate) address: Option<IpAddr>,

    /// Serve without TLS.
    #[arg(long, global = true, env = "FURTHER_LINK_NOSSL", value_parser = is_on, num_args = 0..=1, require_equals = true, default_value = "",
        default_missing_value = "1", hide_default_value = true, hide_possible_values = true)]
    pub(crate) no_tls: bool,

    #[command(flatten)]
    pub(crate) tls: TlsDirs,

    /// Directory that relative paths start from, for all users [default: ~/further]
    #[arg(long, env = "FURTHER_LINK_WORK_DIR", value_name = "DIR", value_parser = absolute)]
    pub(crate) work_dir: Option<PathBuf>,

    /// Working directory of programs that name none [default: /tmp]
    #[arg(long, env = "FURTHER_LINK_TEMP_DIR", value_name = "DIR", value_parser = absolute)]
    pub(crate) temp_dir: Option<PathBuf>,

    /// Folders of runner files, separated by commas; the first has the last word
    /// [default: /etc/further-link/runners.d,/usr/share/further-link/runners.d]
    #[arg(long, env = "FURTHER_LINK_RUNNERS_DIRS", value_name = "DIRS", value_delimiter = ',', value_parser = absolute)]
    pub(crate) runners_dirs: Vec<PathBuf>,

    /// User who may run programs; repeat it, or separate names by commas. NAME:token lets only those in who
    /// have the token of --user-token-file. The default user is pi if named, else the
    /// first named [default: pi if root starts the server and pi exists, else the user who starts it]
    #[arg(long = "allow-user", env = "FURTHER_LINK_ALLOW_USERS", value_name = "NAME", value_delimiter = ',')]
    pub(crate) allow_users: Vec<String>,

    /// Seconds between SIGTERM and SIGKILL when a program is stopped, at most 60 [default: 2]
    #[arg(long, env = "FURTHER_LINK_GRACE", value_name = "SECONDS")]
    pub(crate) grace: Option<String>,

    /// Variable of this server's environment that programs get as well; repeat it, or separate names by
    /// commas. They have the search path, the language and the time zone anyway
    #[arg(long, env = "FURTHER_LINK_PASS_ENV", value_name = "NAME", value_delimiter = ',')]
    pub(crate) pass_env: Vec<String>,

    /// Seconds after which a client that does not answer any more (a cable pulled) is gone, and its programs
    /// end.
    #[arg(long, env = "FURTHER_LINK_CLIENT_TIMEOUT", value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(6..=86400))]
    pub(crate) client_timeout: u64,

    /// Seconds of silence after which a client gets a WebSocket ping, so that proxies keep its connection; 0
    /// means never.
    #[arg(long, env = "FURTHER_LINK_PING_INTERVAL", value_name = "SECONDS", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) ping_interval: u64,

    /// Web page that may use this server, as scheme, name and port; repeat it, or separate them by commas.
    /// Beside <https://further.pi-top.com> and pages of this server itself
    #[arg(
        long = "allow-origin",
        env = "FURTHER_LINK_ALLOW_ORIGINS",
        value_name = "ORIGIN",
        value_parser = origin,
        value_delimiter = ','
    )]
    pub(crate) allow_origins: Vec<String>,

    /// Name under which clients reach this device; repeat it, or separate names by commas. Beside its
    /// addresses, localhost, its host name alone and with .local, and A-B-C-D.further-link.pi-top.com
    #[arg(long = "allow-host", env = "FURTHER_LINK_ALLOW_HOSTS", value_name = "NAME", value_parser = host, value_delimiter = ',')]
    pub(crate) allow_hosts: Vec<String>,

    /// Serve programs that send no Origin (whatever is no browser) from other machines, too. They can run
    /// programs then, without a token if there is none
    #[arg(long, env = "FURTHER_LINK_ALLOW_NO_ORIGIN", value_parser = is_on, num_args = 0..=1, require_equals = true,
        default_value = "", default_missing_value = "1", hide_default_value = true, hide_possible_values = true)]
    pub(crate) allow_no_origin: bool,

    /// File with a token in its first line, which everything but /status and /version then needs.
    /// `further-link token` makes one. Read once, at the start
    #[arg(long, global = true, env = "FURTHER_LINK_TOKEN_FILE", value_name = "PATH", value_parser = absolute)]
    pub(crate) token_file: Option<PathBuf>,

    /// File with the token for users named with :token (root:token), which only the helper reads, each time
    #[arg(long, env = "FURTHER_LINK_USER_TOKEN_FILE", value_name = "PATH", value_parser = absolute)]
    pub(crate) user_token_file: Option<PathBuf>,

    /// Most connections at once.
    #[arg(long, env = "FURTHER_LINK_MAX_CONNECTIONS", value_name = "NUMBER", default_value_t = 2048,
        value_parser = clap::value_parser!(u16).range(1..=8192))]
    pub(crate) max_connections: u16,

    /// Most connections at once from one address (IPv6: from one /64) that is not this machine's.
    #[arg(long, env = "FURTHER_LINK_MAX_CONNECTIONS_PER_ADDRESS", value_name = "NUMBER", default_value_t = 256,
        value_parser = clap::value_parser!(u16).range(1..=8192))]
    pub(crate) max_connections_per_address: u16,

    /// Most programs at once, over all connections.
    #[arg(long, env = "FURTHER_LINK_MAX_PROGRAMS", value_name = "NUMBER", default_value_t = 512,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) max_programs: u16,

    /// Most programs at once on one connection.
    #[arg(long, env = "FURTHER_LINK_MAX_PROGRAMS_PER_CONNECTION", value_name = "NUMBER", default_value_t = 256,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) max_programs_per_connection: u16,

    #[command(flatten)]
    pub(crate) keep: KeepOptions,

    /// Socket of a running helper. Its own settings then apply: users, directories, grace and variables are
    /// not passed on.
    #[arg(long, env = "FURTHER_LINK_HELPER_SOCKET", value_name = "PATH", value_parser = absolute)]
    pub(crate) helper_socket: Option<PathBuf>,

    /// Socket of the helper for uploads and files [default: that for programs]
    #[arg(long, env = "FURTHER_LINK_FILES_SOCKET", value_name = "PATH", value_parser = absolute)]
    pub(crate) files_socket: Option<PathBuf>,

    /// Socket for `further-link sessions`, for root and for who starts the server [default: of that command
    /// /run/further-link/admin.sock, of the server none]
    #[arg(long, global = true, env = "FURTHER_LINK_ADMIN_SOCKET", value_name = "PATH", value_parser = absolute)]
    pub(crate) admin_socket: Option<PathBuf>,

    /// Largest body of an upload, in MiB.
    #[arg(long, env = "FURTHER_LINK_UPLOAD_LIMIT", value_name = "MIB", default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(1..=128))]
    pub(crate) upload_limit: u16,

    /// Largest file that is put by itself, in MiB.
    #[arg(long, env = "FURTHER_LINK_FILE_LIMIT", value_name = "MIB", default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) file_limit: u16,

    /// Let uploads name urls of this device and its neighbours.
    #[arg(long, env = "FURTHER_LINK_ALLOW_PRIVATE_DOWNLOADS", value_parser = is_on, num_args = 0..=1, require_equals = true,
        default_value = "", default_missing_value = "1", hide_default_value = true, hide_possible_values = true)]
    pub(crate) allow_private_downloads: bool,

    /// Log more. Never what programs read or print.
    #[arg(long, env = "FURTHER_LINK_DEBUG", value_parser = is_on, num_args = 0..=1, require_equals = true, default_value = "",
        default_missing_value = "1", hide_default_value = true, hide_possible_values = true)]
    pub(crate) debug: bool,
}

/// How much is kept of programs that outlive their connection.
#[derive(Debug, Args)]
pub(crate) struct KeepOptions {
    /// Longest time that a program may ask to be kept without a client, in seconds; 30 days at the most.
    #[arg(long, env = "FURTHER_LINK_MAX_KEEP_SECONDS", value_name = "SECONDS", default_value_t = 86400,
        value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    pub(crate) max_keep_seconds: u64,

    /// Most kept programs that run at once; 0 means that no program outlives its connection.
    #[arg(long, env = "FURTHER_LINK_MAX_KEPT", value_name = "NUMBER", default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) max_kept: u16,

    /// Most kept programs of one client that run at once.
    #[arg(long, env = "FURTHER_LINK_MAX_KEPT_PER_CLIENT", value_name = "NUMBER", default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) max_kept_per_client: u16,

    /// Most clients that are attached to one kept program.
    #[arg(long, env = "FURTHER_LINK_MAX_VIEWERS", value_name = "NUMBER", default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) max_viewers: u16,

    /// Output that is kept of one program, in KiB.
    #[arg(long, env = "FURTHER_LINK_KEPT_TEXT", value_name = "KIB", default_value_t = 1024,
        value_parser = clap::value_parser!(u16).range(256..=65535))]
    pub(crate) kept_text: u16,

    /// Output that is kept of all programs together, in MiB; the first 64 KiB of each do not count.
    #[arg(long, env = "FURTHER_LINK_KEPT_TEXT_OF_ALL", value_name = "MIB", default_value_t = 64,
        value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) kept_text_of_all: u16,
}

impl KeepOptions {
    /// Output that is kept of all programs together, in bytes.
    pub(crate) fn text_of_all(&self) -> usize {
        usize::from(self.kept_text_of_all) * 1024 * 1024
    }
}

/// Where the files for TLS lie.
#[derive(Debug, Args)]
pub(crate) struct TlsDirs {
    /// Directory of your own cert.pem and key.pem [default: ./extra if it is there, else
    /// /etc/further-link/extra]
    #[arg(long, env = "FURTHER_LINK_EXTRA_DIR", value_name = "DIR", value_parser = absolute, global = true)]
    pub(crate) extra_dir: Option<PathBuf>,

    /// Directory of the certificate that is made where there is no other [default: what systemd names, else
    /// ~/.local/state/further-link, or /var/lib/further-link for root]
    #[arg(long, env = "FURTHER_LINK_STATE_DIR", value_name = "DIR", value_parser = absolute, global = true)]
    pub(crate) state_dir: Option<PathBuf>,
}

/// A switch: on, off, or refused. Unset is off, and so is empty. Any other word stops the start: a typing
/// mistake must not open a device.
fn is_on(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("a switch is 1, true, yes or on; or 0, false, no, off or empty"),
    }
}

/// An origin as browsers send it. An empty one counts as not given.
fn origin(text: &str) -> Result<String, &'static str> {
    const WRONG: &str =
        "an origin is scheme, name and port (https://editor.example:8443), without a path or wildcards";
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return Ok(text);
    }
    let (scheme, rest) = text.split_once("://").ok_or(WRONG)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let rest = match scheme {
        "https" => rest.strip_suffix(":443").unwrap_or(rest),
        "http" => rest.strip_suffix(":80").unwrap_or(rest),
        _ => rest,
    };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if scheme.is_empty() || scheme == "file" || rest.is_empty() || !rest.bytes().all(known) {
        return Err(WRONG);
    }
    Ok(format!("{scheme}://{rest}"))
}

/// A host name. An empty one counts as not given.
fn host(text: &str) -> Result<String, &'static str> {
    let text = text.trim().to_ascii_lowercase();
    let name = text.strip_suffix('.').unwrap_or(&text);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.bytes().all(known) || name.parse::<IpAddr>().is_ok() {
        return Ok(name.to_owned());
    }
    Err("a host is a name alone (pi7.school.example), without a scheme, a port or wildcards")
}

fn absolute(text: &str) -> Result<PathBuf, std::io::Error> {
    std::path::absolute(text)
}

impl Config {
    /// Where runner files are. In development those of the checkout take the place of the package's.
    pub(crate) fn runners_dirs(&self) -> Vec<PathBuf> {
        if !self.runners_dirs.is_empty() {
            return self.runners_dirs.clone();
        }
        let [administrator, package] = RUNNERS_DIRS.map(PathBuf::from);
        let own = PathBuf::from(OWN_RUNNERS_DIR);
        let is_own = cfg!(feature = "embedded-helper") && own.is_dir();
        vec![administrator, if is_own { own } else { package }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_understands_these_words_in_any_case_and_refuses_others() {
        for on in ["1", "true", "True", "YES", "on", " on "] {
            assert_eq!(is_on(on), Ok(true), "{on:?}");
        }
        for off in ["0", "false", "FALSE", "no", "Off", "", " "] {
            assert_eq!(is_on(off), Ok(false), "{off:?}");
        }
        for nonsense in ["2", "maybe", "nope", "-", "true false"] {
            assert!(is_on(nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn origins_and_hosts_are_as_browsers_send_them_or_refused() {
        for (given, taken) in [
            ("https://editor.example/", "https://editor.example"),
            (" https://Editor.Example:443", "https://editor.example"),
            ("http://editor.example:80", "http://editor.example"),
            ("http://editor.example:443", "http://editor.example:443"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("", ""),
        ] {
            assert_eq!(origin(given).as_deref(), Ok(taken), "{given:?}");
        }
        for wrong in [
            "editor.example",
            "https://*.school.example",
            "*",
            "file://",
            "null",
            "https://",
            "https://a/b",
            "://a",
        ] {
            assert!(origin(wrong).is_err(), "{wrong:?}");
        }
        for (given, taken) in [
            ("VM-2.local.", "vm-2.local"),
            ("pi7.school.example", "pi7.school.example"),
            ("::1", "::1"),
            ("", ""),
        ] {
            assert_eq!(host(given).as_deref(), Ok(taken), "{given:?}");
        }
        for wrong in
            ["vm-2.local:38170", "https://pi7.school.example", "*.school.example", "*", "a b", "[::1]"]
        {
            assert!(host(wrong).is_err(), "{wrong:?}");
        }
    }
}
