//! `further-link token`: makes the token of `--token-file` and says how clients use it. The daemon itself
//! never makes one, and never writes the file.

use std::{
    fs::{self, File, Permissions},
    io::{self, IsTerminal, Write},
    os::unix::fs::{PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use nix::unistd::{Group, Uid};
use qrcode::{QrCode, render::unicode::Dense1x2};

use crate::{access::tokens, config::Config, files::write_atomic, random};

/// Random bytes of a token.
const BYTES: usize = 32;
/// The packaged service's group: its file may be root's, and is read by this group.
const SERVICE_GROUP: &str = "further-link";
/// Where the package's documentation puts it.
const DEFAULT_PLACE: &str = "/etc/further-link/token";

/// How to make it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Replace the token there is: after a restart of the service the old one is refused.
    #[arg(long)]
    new: bool,

    /// Name or address by which clients reach this device [default: its host name with .local]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewTokenError {
    #[error("cannot use the token in {path}: {error} (--new replaces it)", path = .path.display())]
    Old { path: PathBuf, error: tokens::TokenFileError },
    #[error("cannot write {path}: {error}", path = .path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("the kernel gives no random bytes: {0}")]
    Random(io::Error),
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// Makes it, or reads the one there is, and prints the addresses.
pub(crate) fn run(options: &Options, config: &Config) -> Result<(), NewTokenError> {
    let mut out = io::stdout().lock();
    let Some(path) = &config.token_file else {
        let token = random::text::<BYTES>().map_err(NewTokenError::Random)?;
        writeln!(out, "{token}")?;
        return hints(
            &mut out,
            "No --token-file was given, so this token is stored nowhere. To have it made and stored:",
        );
    };
    let token = if path.exists() && !options.new {
        tokens::read(path).map_err(|error| NewTokenError::Old { path: path.clone(), error })?;
        first_line(path)?
    } else {
        let token = random::text::<BYTES>().map_err(NewTokenError::Random)?;
        write(path, &token).map_err(|error| NewTokenError::Write { path: path.clone(), error })?;
        writeln!(out, "A new token is in {}. Restart the service that uses it.", path.display())?;
        token
    };
    print(&mut out, &place(options, config), config.no_tls, &token)
}

fn hints(out: &mut impl Write, why: &str) -> Result<(), NewTokenError> {
    writeln!(out, "\n{why}\n  sudo further-link token --token-file {DEFAULT_PLACE}")?;
    writeln!(out, "and set FURTHER_LINK_TOKEN_FILE={DEFAULT_PLACE} in /etc/default/further-link.")?;
    Ok(())
}

fn print(out: &mut impl Write, place: &str, no_tls: bool, token: &str) -> Result<(), NewTokenError> {
    let (http, ws) = if no_tls { ("http", "ws") } else { ("https", "wss") };
    // What stands behind the # is sent to no server, and is in no log.
    let page = format!("{http}://{place}/#token={token}");
    let address = format!("{ws}://{place}/run?token={token}");
    writeln!(out, "Browsers open\n  {page}")?;
    writeln!(
        out,
        "Clients connect to\n  {address}\nfor example: websocat '{address}' (cargo install websocat)"
    )?;
    if !no_tls {
        writeln!(out, "(websocat -k for a certificate that the device has made itself)")?;
    }
    writeln!(
        out,
        "or send the header \"Authorization: Bearer TOKEN\". Whoever has it can run programs here."
    )?;
    // Paper and files get none; for a text of this length there always is one.
    if io::stdout().is_terminal()
        && let Ok(code) = QrCode::new(page)
    {
        writeln!(
            out,
            "\nThe page, for the camera of a tablet or phone:\n{}",
            code.render::<Dense1x2>().build()
        )?;
    }
    Ok(())
}

fn first_line(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn write(path: &Path, token: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    write_atomic(path, format!("{token}\n").as_bytes(), give_to_service)
}

/// Root's file, which only the packaged service can read.
fn give_to_service(file: &File) -> io::Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    if let Some(group) = Group::from_name(SERVICE_GROUP)? {
        fchown(file, None, Some(group.gid.as_raw()))?;
        file.set_permissions(Permissions::from_mode(0o640))?;
    }
    Ok(())
}

/// The host and port, as addresses write them.
fn place(options: &Options, config: &Config) -> String {
    let host = options.host.clone().unwrap_or_else(|| {
        format!("{}.local", rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase())
    });
    // An IPv6 address as addresses write it.
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    format!("{host}:{}", config.port)
}
