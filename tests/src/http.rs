//! A tiny HTTP/1.1 client: one request per connection, read to its end.
//!
//! It sends what it is told byte for byte, because half of the tests ask for what no proper client would. It
//! knows neither redirects nor chunks: no answer of the daemon needs them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::DEADLINE;
use crate::stream::{Stream, Trust};

/// An answer, taken apart.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The whole first line.
    pub status_line: String,
    /// Names in lower case with their values, in order.
    pub headers: Vec<(String, String)>,
    /// What follows the head.
    pub body: String,
}

impl Response {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn parse(raw: &[u8]) -> Self {
        let text = String::from_utf8_lossy(raw);
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no end of the head: {text:?}"));
        let mut lines = head.split("\r\n");
        let status_line = lines.next().expect("a status line").to_owned();
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let headers = lines
            .map(|line| line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self {
            status: status.unwrap_or_else(|| panic!("no status: {status_line:?}")),
            status_line,
            headers,
            body: body.to_owned(),
        }
    }
}

/// Sends one request without a body and reads the answer.
#[track_caller]
pub fn request(address: SocketAddr, trust: Option<&Trust>, method: &str, path: &str) -> Response {
    let mut stream = Stream::connect(address, trust);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the request can be sent");
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap_or_else(|e| panic!("{method} {path}: {e}"));
    Response::parse(&raw)
}

/// A request for a WebSocket, with extra header lines.
pub fn upgrade_request(path: &str, host: &str, extra: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
    )
}

/// Posts a body with extra header lines and reads the answer.
#[track_caller]
pub fn post(address: SocketAddr, path: &str, extra: &str, body: &[u8]) -> Response {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{extra}\r\n",
        body.len()
    );
    exchange(address, &[head.as_bytes(), body].concat())
}

/// Sends these bytes, as far as they are taken, and reads the answer up to the end of the connection.
#[track_caller]
pub fn exchange(address: SocketAddr, request: &[u8]) -> Response {
    let mut stream = connect(address);
    // A large body takes its time in a debug build.
    stream.set_read_timeout(Some(DEADLINE * 6)).expect("a timeout");
    // Whatever is refused half-way: the answer tells.
    if let Err(error) = stream.write_all(request) {
        eprintln!("not all was taken: {error}");
    }
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap_or_else(|e| panic!("after {} bytes: {e}", raw.len()));
    Response::parse(&raw)
}

/// Asks for a WebSocket with extra header lines and reads the head of the answer only.
#[track_caller]
pub fn upgrade(address: SocketAddr, path: &str, extra: &str) -> Response {
    ask(&connect(address), &upgrade_request(path, &address.to_string(), extra))
}

/// Sends a request as it is, head and all, and reads the head of the answer, and a body of the length it
/// names.
#[track_caller]
pub fn ask(mut stream: &TcpStream, request: &str) -> Response {
    // The daemon may refuse before it has read all.
    if let Err(error) = stream.write_all(request.as_bytes()) {
        eprintln!("not all was taken: {error}");
    }
    let mut raw = Vec::new();
    let mut byte = [0];
    while !raw.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap_or_else(|e| panic!("no answer to {request:.200}: {e}"));
        raw.push(byte[0]);
    }
    let length =
        Response::parse(&raw).header("content-length").map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body");
    raw.extend(body);
    Response::parse(&raw)
}

/// Connects, with a deadline on every read.
#[track_caller]
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream
}
