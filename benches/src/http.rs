//! One plain HTTP request on a connection of its own.

use std::io::{Read, Write};

use crate::{Result, daemon::Daemon, wire};

/// Posts JSON; the status of the answer.
pub(crate) fn post(daemon: &Daemon, path: &str, body: &[u8]) -> Result<u16> {
    let mut wire = wire::connect(daemon.address, daemon.tls)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        daemon.address,
        body.len()
    );
    wire.write_all(head.as_bytes())?;
    // An early refusal closes while this still writes: the answer is there all the same.
    let written = wire.write_all(body).and_then(|()| wire.flush());
    let mut answer = Vec::new();
    let read = wire.read_to_end(&mut answer);
    let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    if let Some(status) = status {
        return Ok(status);
    }
    written?;
    read?;
    Err("no answer to an upload".into())
}
