//! The `SOCK_SEQPACKET` connection under the messages, for both sides: datagrams with descriptors, nothing
//! truncated.
//!
//! The helper reads requests with no room for descriptors. The kernel drops what a hostile frontend
//! attaches, and the mark of that (`MSG_CTRUNC`) ends the conversation. The frontend, and a helper's
//! watcher from its launcher, take at most four. Blocking or not is the caller's choice of file status
//! flag; both sides use the same two calls.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
};

use bincode::{Decode, Encode};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::codec::{self, CodecError, MAX_MESSAGE};

/// Most descriptors in one message: the three pipes of `Started`, the socket of the user channel,
/// and the pipe of a compiler.
pub const MAX_DESCRIPTORS: usize = 5;

/// Waiting connections of a listener: more starts at one moment than `MaxConnections=` of the unit lets
/// through.
const BACKLOG: i32 = 128;

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel's refusal; `WouldBlock` on a non-blocking socket.
    #[error("helper socket: {0}")]
    Io(#[from] io::Error),
    /// The peer closed, or sent an empty datagram, which looks the same.
    #[error("the peer closed the connection")]
    Closed,
    /// Longer than [`MAX_MESSAGE`].
    #[error("message longer than {MAX_MESSAGE} bytes")]
    TooLong,
    /// Descriptors where none belong, or more than there is room for.
    #[error("descriptors that do not belong to the message")]
    Descriptors,
    /// Not a message.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// An end of a conversation.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Takes a connected socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// The uid that the peer had when it connected (`SO_PEERCRED`, unix(7)).
    pub fn peer_uid(&self) -> io::Result<u32> {
        Ok(rustix::net::sockopt::socket_peercred(&self.0)?.uid.as_raw())
    }

    /// The pid and the uid that the peer had when it connected.
    pub fn peer(&self) -> io::Result<(u32, u32)> {
        let peer = rustix::net::sockopt::socket_peercred(&self.0)?;
        Ok((peer.pid.as_raw_pid().unsigned_abs(), peer.uid.as_raw()))
    }

    /// Sends one message.
    pub fn send<M: Encode>(&self, message: &M) -> Result<(), SocketError> {
        self.send_with(message, &[])
    }

    /// Sends one message with descriptors, which stay open here.
    pub fn send_with<M: Encode>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SocketError> {
        let bytes = codec::encode(message)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(SocketError::TooLong);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(SocketError::Descriptors);
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
            .map_err(io::Error::from)?;
        Ok(())
    }

    /// Says that nothing more is to come from here. What the peer still says can be read.
    pub fn end_sending(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }

    /// Receives one message that must come without descriptors.
    pub fn recv<M: Decode<()>>(&self) -> Result<M, SocketError> {
        self.recv_into(&mut []).map(|(message, _)| message)
    }

    /// Receives one message with up to [`MAX_DESCRIPTORS`] descriptors, closed on exec.
    pub fn recv_with<M: Decode<()>>(&self) -> Result<(M, Vec<OwnedFd>), SocketError> {
        self.recv_into(&mut [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))])
    }

    fn recv_into<M: Decode<()>>(
        &self,
        space: &mut [MaybeUninit<u8>],
    ) -> Result<(M, Vec<OwnedFd>), SocketError> {
        let mut bytes = [0_u8; MAX_MESSAGE];
        let mut control = RecvAncillaryBuffer::new(space);
        let received = rustix::net::recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(io::Error::from)?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > MAX_DESCRIPTORS {
            return Err(SocketError::Descriptors);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(SocketError::TooLong);
        }
        match bytes.get(..received.bytes) {
            None => Err(SocketError::TooLong),
            Some([]) => Err(SocketError::Closed),
            Some(datagram) => Ok((codec::decode(datagram)?, descriptors)),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A listening socket. Without a path it gets an address of its own in the abstract namespace (unix(7),
/// autobind), which leaves nothing in the file system.
pub fn bind_listener(path: Option<&Path>) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let socket = seqpacket()?;
    let address = match path {
        Some(path) => SocketAddrUnix::new(path)?,
        None => SocketAddrUnix::new_unnamed(),
    };
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let bound = rustix::net::getsockname(&socket)?;
    Ok((socket, SocketAddrUnix::try_from(bound)?))
}

/// Two connected ends, for processes of one family.
pub fn pair() -> io::Result<(Connection, Connection)> {
    let flags = SocketFlags::CLOEXEC;
    let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((Connection(one), Connection(other)))
}

/// Connects to a listening helper. It answers at once or with an error, so it may be called from async code.
pub fn connect(address: &SocketAddrUnix) -> io::Result<Connection> {
    let socket = seqpacket()?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    rustix::net::connect(&socket, address)?;
    Ok(Connection::new(socket))
}

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Request};

    fn pair() -> (Connection, Connection) {
        let (a, b) = super::pair().unwrap();
        rustix::io::ioctl_fionbio(&a, true).unwrap();
        rustix::io::ioctl_fionbio(&b, true).unwrap();
        (a, b)
    }

    fn raw(connection: &Connection, bytes: &[u8]) {
        rustix::net::send(connection, bytes, SendFlags::empty()).unwrap();
    }

    #[test]
    fn descriptors_arrive_in_their_order_and_close_on_exec() {
        let (helper, frontend) = pair();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        helper.send_with(&Event::Started { pid: 1 }, &[reader.as_fd(), writer.as_fd()]).unwrap();
        let (event, descriptors) = frontend.recv_with::<Event>().unwrap();
        assert_eq!(event, Event::Started { pid: 1 });
        assert_eq!(descriptors.len(), 2);
        for descriptor in &descriptors {
            assert!(rustix::io::fcntl_getfd(descriptor).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
        rustix::io::write(&descriptors[1], b"x").unwrap();
        assert_eq!(rustix::io::read(&reader, &mut [0; 2]).unwrap(), 1);
    }

    /// True when every copy of the pipe's writing end is closed.
    fn all_closed(reader: &OwnedFd) -> bool {
        rustix::io::ioctl_fionbio(reader, true).unwrap();
        rustix::io::read(reader, &mut [0; 1]) == Ok(0)
    }

    #[test]
    fn a_request_with_descriptors_is_refused_and_none_is_kept() {
        let (helper, frontend) = pair();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        frontend.send_with(&Request::Stop { first: None }, &[writer.as_fd(); 3]).unwrap();
        drop(writer);
        assert!(!all_closed(&reader), "they are in flight");
        assert!(matches!(helper.recv::<Request>(), Err(SocketError::Descriptors)));
        assert!(all_closed(&reader));
    }

    #[test]
    fn too_many_descriptors_are_refused_and_none_is_kept() {
        let (helper, frontend) = pair();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let many = [writer.as_fd(); 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        let bytes = codec::encode(&Event::Data).unwrap();
        rustix::net::sendmsg(&helper, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
        drop(writer);
        assert!(matches!(frontend.recv_with::<Event>(), Err(SocketError::Descriptors)));
        assert!(all_closed(&reader));
    }

    #[test]
    fn empty_and_oversized_datagrams_and_a_closed_peer_are_told_apart() {
        let (helper, frontend) = pair();
        raw(&frontend, &[]);
        assert!(matches!(helper.recv::<Request>(), Err(SocketError::Closed)));
        raw(&frontend, &vec![1; MAX_MESSAGE + 1]);
        assert!(matches!(helper.recv::<Request>(), Err(SocketError::TooLong)));
        assert!(
            matches!(helper.recv::<Request>(), Err(SocketError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock)
        );
        drop(frontend);
        assert!(matches!(helper.recv::<Request>(), Err(SocketError::Closed)));
    }
}
