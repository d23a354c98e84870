//! The property that `fragments` promises: any split of any frames gives the same messages.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::io::{AsyncWriteExt, duplex};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{
            Role,
            frame::{
                FrameHeader,
                coding::{Control, Data, OpCode},
            },
        },
    },
};

use super::fragments::Fragments;
use crate::{
    access::limits::ConnectionLimits,
    http::pings::Pings,
    memory::budget::{Budget, MAX_UNFINISHED},
};

/// Numbers that are the same in each run, for a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % u64::try_from(limit).unwrap()).unwrap()
    }

    /// Mostly short, sometimes longer than several fragments.
    fn length(&mut self) -> usize {
        let limit = [1, 2, 127, 5_000, 16 * 1024 + 2, 70_000][self.below(6)];
        self.below(limit)
    }
}

fn frame(bytes: &mut Vec<u8>, opcode: OpCode, is_final: bool, payload: &[u8], mask: [u8; 4]) {
    let header = FrameHeader { is_final, opcode, mask: Some(mask), ..FrameHeader::default() };
    header.format(payload.len().try_into().unwrap(), bytes).unwrap();
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Some messages, and one way to send them: each in some frames, with pings between.
fn messages_and_frames(random: &mut Random) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut messages, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..=random.below(4) {
        let length = random.length();
        let message: Vec<u8> = (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        let (mut rest, mut opcode) = (&message[..], Data::Binary);
        loop {
            // Often all of it, so that long frames end messages, too.
            let length = if random.below(3) == 0 { rest.len() } else { random.below(rest.len() + 1) };
            let (now, later) = rest.split_at(length);
            let is_final = later.is_empty() && random.below(2) == 0;
            let mask = std::array::from_fn(|_| u8::try_from(random.below(256)).unwrap());
            frame(&mut bytes, OpCode::Data(opcode), is_final, now, mask);
            if random.below(4) == 0 {
                frame(&mut bytes, OpCode::Control(Control::Ping), true, b"ping", mask);
            }
            if is_final {
                break;
            }
            (rest, opcode) = (later, Data::Continue);
        }
        messages.push(message);
    }
    (messages, bytes)
}

/// Sends the bytes in pieces, and returns the messages that the library makes of them.
async fn received(bytes: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let (permit, _) = Arc::new(ConnectionLimits::new(1, 1, Budget::new(MAX_UNFINISHED)))
        .reserve(IpAddr::from([10, 0, 0, 1]));
    let (mut client, server) = duplex(64 * 1024);
    let send = async {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(1 + random.below(rest.len().min(9_000)));
            client.write_all(now).await.unwrap();
            tokio::task::yield_now().await;
            rest = later;
        }
        client.shutdown().await.unwrap();
        client
    };
    let receive = async {
        let stream = Fragments::new(server, Arc::new(permit), Pings::new(Duration::ZERO).register());
        let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        let data = socket.filter_map(async |message| match message {
            Ok(Message::Binary(data)) => Some(data.to_vec()),
            // Pings; and the end, since the client leaves without a close frame.
            Ok(_) | Err(_) => None,
        });
        data.collect::<Vec<_>>().await
    };
    let (_client, messages) = tokio::join!(send, receive);
    messages
}

#[tokio::test]
async fn any_split_of_any_frames_gives_the_same_messages() {
    for seed in 1..=150 {
        let mut random = Random(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
        let (messages, bytes) = messages_and_frames(&mut random);
        for _ in 0..2 {
            let received = received(&bytes, &mut random).await;
            assert!(received == messages, "seed {seed}: {} messages sent", messages.len());
        }
    }
}
