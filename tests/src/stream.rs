//! What a client's bytes travel through: TCP, or TLS over it, with the daemon's certificate as the only
//! trusted one.
//!
//! `client` and `http` talk through it. Nothing is ever switched off: a certificate that does not name the
//! address, or is signed by another authority, ends the test.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::retry_stream::Patient;
use crate::wait::DEADLINE;

/// How clients trust a daemon.
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    /// The last certificate of this file, and no other: its own, or the root at a chain's end.
    #[track_caller]
    pub fn in_file(path: &Path) -> Self {
        Self::with(path, &[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    /// The same, for these versions of TLS only.
    #[track_caller]
    pub fn with(path: &Path, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let chain = CertificateDer::pem_file_iter(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let last = chain.last().expect("a certificate").expect("PEM");
        let mut roots = RootCertStore::empty();
        roots.add(last).expect("a certificate that can be trusted");
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("versions that the library knows")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // As browsers offer it.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Plain(Patient),
    /// TLS over it.
    Tls(Box<StreamOwned<ClientConnection, Patient>>),
}

impl Stream {
    /// Connects, with TLS if a trust is given, and the usual deadline for reading.
    #[track_caller]
    pub fn connect(address: SocketAddr, trust: Option<&Trust>) -> Self {
        let tcp = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        match trust {
            None => Self::over(tcp),
            Some(trust) => Self::shake_hands(tcp, trust).unwrap_or_else(|e| panic!("{address}: {e}")),
        }
    }

    /// Without TLS, on a connection that there is.
    pub fn over(tcp: TcpStream) -> Self {
        prepare(&tcp);
        Self::Plain(Patient(tcp))
    }

    /// Does the TLS handshake, and reports how it fails.
    pub fn shake_hands(tcp: TcpStream, trust: &Trust) -> io::Result<Self> {
        prepare(&tcp);
        let name = ServerName::from(tcp.peer_addr()?.ip());
        let connection = ClientConnection::new(Arc::clone(&trust.0), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, Patient(tcp));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self::Tls(Box::new(stream)))
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => &stream.0,
            Self::Tls(stream) => &stream.sock.0,
        }
    }

    /// The TLS connection.
    #[track_caller]
    pub fn tls(&self) -> &ClientConnection {
        match self {
            Self::Plain(_) => panic!("a plain connection"),
            Self::Tls(stream) => &stream.conn,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// The usual deadline for reading; keystrokes do not wait for one another.
fn prepare(tcp: &TcpStream) {
    tcp.set_nodelay(true).expect("a socket option");
    tcp.set_read_timeout(Some(DEADLINE)).expect("a timeout");
}
