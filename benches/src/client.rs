//! A blocking WebSocket client that is as cheap as it can be: one buffer, no copies, no masking (a mask of
//! zeros), and one write for each message.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    ops::Range,
    path::Path,
    time::{Duration, Instant},
};

use further_link_api::{ClientMessage, Dialect, EXEC, PYTHON3, ProcessId, Start};

use crate::{
    Result,
    bare::Times,
    daemon::Daemon,
    message::{Body, Message, unescape},
    wire::{self, Wire},
};

/// Holds the largest messages, which have 64 KiB of output, escaped. Costs nothing before it is used.
const BUFFER: usize = 512 * 1024;

/// One connection to `/run`.
pub(crate) struct Client {
    wire: Box<dyn Wire>,
    buffer: Vec<u8>,
    unread: Range<usize>,
}

impl Client {
    /// Connects and shakes hands (RFC 6455, 4.1).
    pub(crate) fn connect(daemon: &Daemon, terminal: bool) -> Result<Self> {
        let path = if terminal { "/run?pty=1" } else { "/run" };
        Self::shake_hands(daemon.address, daemon.tls, path)
    }

    /// Connects to another server.
    pub(crate) fn of_peer(address: SocketAddr) -> Result<Self> {
        Self::shake_hands(address, false, "/")
    }

    fn shake_hands(address: SocketAddr, tls: bool, path: &str) -> Result<Self> {
        let wire = wire::connect(address, tls)?;
        let mut client = Self { wire, buffer: vec![0; BUFFER], unread: 0..0 };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.wire.write_all(request.as_bytes())?;
        client.wire.flush()?;
        let head = loop {
            if let Some(end) = memchr::memmem::find(client.unread_bytes(), b"\r\n\r\n") {
                break client.take(end + 4);
            }
            if !client.fill()? {
                return Err("no answer to a handshake".into());
            }
        };
        let head = client.buffer.get(head).unwrap_or_default();
        if !head.starts_with(b"HTTP/1.1 101 ") {
            let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default());
            return Err(format!("no WebSocket: {line}").into());
        }
        Ok(client)
    }

    /// Asks for the start of a file.
    pub(crate) fn start(&mut self, id: &str, file: &Path) -> Result<()> {
        self.send(&exec_message(id, file)?)
    }

    /// Types.
    pub(crate) fn input(&mut self, id: &str, text: &str) -> Result<()> {
        let process = ProcessId::new(id);
        self.send(&json(&ClientMessage::Stdin { process, input: text.to_owned(), end: false, n: None })?)
    }

    /// Asks for the end of a process, and waits for it whatever else comes.
    pub(crate) fn stop(&mut self, id: &str) -> Result<()> {
        self.send(&json(&ClientMessage::Stop { process: ProcessId::new(id), signal: None })?)?;
        loop {
            let message = self.next()?;
            if message.process == id && matches!(message.body, Body::Stopped(_)) {
                return Ok(());
            }
        }
    }

    /// One text frame.
    pub(crate) fn send(&mut self, text: &str) -> Result<()> {
        let mut frame = Vec::with_capacity(text.len() + 14);
        frame.push(0x81);
        // The highest bit of the length says that a mask follows.
        match (u8::try_from(text.len()), u16::try_from(text.len())) {
            (Ok(length @ ..=125), _) => frame.push(0x80 | length),
            (_, Ok(length)) => {
                frame.push(0xfe);
                frame.extend(length.to_be_bytes());
            }
            _ => {
                frame.push(0xff);
                frame.extend(u64::try_from(text.len())?.to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.wire.write_all(&frame)?;
        Ok(self.wire.flush()?)
    }

    /// The next message. An error that the daemon reports is an error here.
    pub(crate) fn next(&mut self) -> Result<Message<'_>> {
        let payload = self.frame()?;
        let message = Message::parse(self.buffer.get(payload).unwrap_or_default())?;
        match message.body {
            Body::Error(text) => Err(text.into()),
            body => Ok(Message { process: message.process, body }),
        }
    }

    /// Waits until a terminal program has said that it is ready.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        let mut all = Vec::new();
        while !all.ends_with(b"ready\n") {
            if let Body::Output(text) = self.next()?.body {
                unescape(text, |piece| all.extend_from_slice(piece))?;
            }
        }
        Ok(())
    }

    /// One run from its start to its end: when what came. `message` is ready-made, of [`exec_message`] or
    /// [`code_message`].
    pub(crate) fn run(&mut self, message: &str, expected: &[u8]) -> Result<Times> {
        let begin = Instant::now();
        self.send(message)?;
        let (mut started, mut first): (Option<Duration>, Option<Duration>) = (None, None);
        let mut output = Vec::new();
        loop {
            match self.next()?.body {
                Body::Started => started = Some(begin.elapsed()),
                Body::Output(text) => {
                    first = first.or_else(|| Some(begin.elapsed()));
                    unescape(text, |piece| output.extend_from_slice(piece))?;
                }
                Body::Stopped(code) => {
                    let stopped = begin.elapsed();
                    let started = started.ok_or("stopped before started")?;
                    if code != 0 || output != expected {
                        let output = String::from_utf8_lossy(&output);
                        return Err(format!("exit code {code}, output {output:?}").into());
                    }
                    return Ok(Times { started, first, stopped });
                }
                Body::Error(text) => return Err(text.into()),
            }
        }
    }

    /// The payload of the next text frame. The daemon's frames are whole and not masked.
    fn frame(&mut self) -> Result<Range<usize>> {
        self.next_frame()?.ok_or_else(|| "the daemon has closed the connection".into())
    }

    /// The next text; none once the connection is closed.
    pub(crate) fn text(&mut self) -> Result<Option<&[u8]>> {
        let payload = self.next_frame()?;
        Ok(payload.map(|payload| self.buffer.get(payload).unwrap_or_default()))
    }

    fn next_frame(&mut self) -> Result<Option<Range<usize>>> {
        loop {
            let Some((opcode, header, payload)) = header(self.unread_bytes())? else {
                if !self.fill()? {
                    return Ok(None);
                }
                continue;
            };
            while self.unread.len() < header + payload {
                if !self.fill()? {
                    return Ok(None);
                }
            }
            self.take(header);
            let payload = self.take(payload);
            match opcode {
                0x81 => return Ok(Some(payload)),
                0x89 | 0x8a => {}
                0x88 => return Ok(None),
                other => return Err(format!("a frame that starts with {other:#x}").into()),
            }
        }
    }

    fn unread_bytes(&self) -> &[u8] {
        self.buffer.get(self.unread.clone()).unwrap_or_default()
    }

    fn take(&mut self, length: usize) -> Range<usize> {
        let taken = self.unread.start..self.unread.start + length;
        self.unread.start = taken.end;
        taken
    }

    /// Reads more. False at the end.
    fn fill(&mut self) -> Result<bool> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.buffer.len() {
            if self.unread.start == 0 {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let length = self.unread.len();
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..length;
        }
        let room = self.buffer.get_mut(self.unread.end..).unwrap_or_default();
        match self.wire.read(room)? {
            0 => Ok(false),
            length => {
                self.unread.end += length;
                Ok(true)
            }
        }
    }
}

/// The start of a file.
pub(crate) fn exec_message(id: &str, file: &Path) -> Result<String> {
    let path = Some(file.to_str().ok_or("a path that is not UTF-8")?.to_owned());
    start_message(id, Start { path, ..Start::new(EXEC) })
}

/// The start of a python text.
pub(crate) fn code_message(id: &str, code: &str) -> Result<String> {
    start_message(id, Start { code: Some(code.to_owned()), ..Start::new(PYTHON3) })
}

fn start_message(id: &str, start: Start) -> Result<String> {
    json(&ClientMessage::Start { process: ProcessId::new(id), start })
}

fn json(message: &ClientMessage) -> Result<String> {
    message.to_json(Dialect::Run).ok_or_else(|| "a message that /run does not have".into())
}

/// First byte, length of the header, length of the payload, once they are there (RFC 6455, 5.2).
fn header(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>> {
    let [first, length, rest @ ..] = bytes else { return Ok(None) };
    Ok(match length {
        ..=125 => Some((*first, 2, (*length).into())),
        126 => rest.first_chunk().map(|length| (*first, 4, u16::from_be_bytes(*length).into())),
        127 => match rest.first_chunk() {
            Some(length) => Some((*first, 10, usize::try_from(u64::from_be_bytes(*length))?)),
            None => None,
        },
        128.. => return Err("a masked frame".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn headers_of_the_three_sizes_are_read_once_they_are_whole() {
        assert_eq!(header(&[0x81, 5]).unwrap(), Some((0x81, 2, 5)));
        assert_eq!(header(&[0x81, 126, 1, 0]).unwrap(), Some((0x81, 4, 256)));
        assert_eq!(header(&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]).unwrap(), Some((0x81, 10, 65536)));
        for part in [&[][..], &[0x81], &[0x81, 126, 1], &[0x81, 127, 0, 0, 0, 0, 0, 1, 0]] {
            assert_eq!(header(part).unwrap(), None);
        }
        assert!(header(&[0x81, 0x85, 0, 0, 0, 0]).is_err());
    }
}
