//! A sequence of datagrams on a real socket, as the helper receives it: each is what it would be alone,
//! nothing of one gets into the next, and the end comes when it should. The first two bytes of each part of
//! the input are its length.
//!
//! The phases of the helper are a process, a fork and a program away, so they are not here but in
//! `tests/tests/helper/helper_model.rs`.
#![no_main]

use std::io::ErrorKind;

use further_link_proto::{Connection, MAX_MESSAGE, Request, SocketError, decode};
use libfuzzer_sys::fuzz_target;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

fuzz_target!(|input: &[u8]| {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (frontend, helper) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("a pair of sockets");
    let helper = Connection::new(helper);
    let mut rest = input;
    while let [low, high, tail @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*low, *high])) % (MAX_MESSAGE + 64);
        let (datagram, next) = tail.split_at(length.min(tail.len()));
        rest = next;
        send(&frontend, datagram, SendFlags::NOSIGNAL).expect("an empty socket takes one datagram");
        match (helper.recv::<Request>(), decode::<Request>(datagram)) {
            (Err(SocketError::Closed), _) => assert!(datagram.is_empty()),
            (Err(SocketError::TooLong), _) => assert!(datagram.len() > MAX_MESSAGE),
            (Ok(received), Ok(decoded)) => assert_eq!(received, decoded),
            (Err(SocketError::Codec(_)), Err(_)) => {}
            (received, decoded) => panic!("{received:?} came of {decoded:?}"),
        }
    }
    let nothing = helper.recv::<Request>();
    assert!(matches!(nothing, Err(SocketError::Io(error)) if error.kind() == ErrorKind::WouldBlock));
    drop(frontend);
    assert!(matches!(helper.recv::<Request>(), Err(SocketError::Closed)));
});
