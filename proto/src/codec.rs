//! The wire form of a message: one byte of protocol version, then bincode. No other file names the codec.
//!
//! Decoding works on one complete datagram, never on a stream, under a byte limit, and refuses what is
//! left over. No message of the contract has a recursive type or a vector. So a decode cannot take more
//! memory or time than the datagram has bytes. bincode has no maintainer any more (RUSTSEC-2025-0141, see
//! deny.toml): the golden bytes in PROTOCOL.md pin the form.

use bincode::{Decode, Encode, config};

/// Version of the protocol. Both sides come from one package and must agree exactly.
pub const VERSION: u8 = 6;

/// Largest message in bytes: a rename of files with two of the longest paths, rounded up. A datagram above it
/// is an error.
pub const MAX_MESSAGE: usize = 16 * 1024;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The first byte is another version, or there is none.
    #[error(
        "the peer speaks protocol version {}, this process {VERSION}: restart further-link.service",
        .theirs.map_or("none".to_owned(), |version| version.to_string())
    )]
    Version {
        /// What the peer sent.
        theirs: Option<u8>,
    },
    /// Not the bytes of any message, or a value that its type refuses.
    #[error("malformed message: {0}")]
    Malformed(#[from] bincode::error::DecodeError),
    /// More bytes than the message has.
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
    /// Cannot happen with the messages of this crate.
    #[error("cannot encode: {0}")]
    Encode(#[from] bincode::error::EncodeError),
}

const CONFIG: config::Configuration<config::LittleEndian, config::Varint, config::Limit<MAX_MESSAGE>> =
    config::standard().with_limit::<MAX_MESSAGE>();

/// The bytes of a message.
pub fn encode<M: Encode>(message: &M) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![VERSION];
    bincode::encode_into_std_write(message, &mut bytes, CONFIG)?;
    Ok(bytes)
}

/// The message in a datagram.
pub fn decode<M: Decode<()>>(datagram: &[u8]) -> Result<M, CodecError> {
    let Some((&VERSION, body)) = datagram.split_first() else {
        return Err(CodecError::Version { theirs: datagram.first().copied() });
    };
    let (message, read) = bincode::decode_from_slice(body, CONFIG)?;
    match body.len() - read {
        0 => Ok(message),
        left => Err(CodecError::Trailing(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{MAX_DEPTH, MAX_DETAILS, MAX_NAME, MAX_PATH, MAX_RUNNER_ID, MAX_TOKEN, MAX_USER_NAME};
    use crate::{
        CodeLength, Condition, DetailsLength, Ended, Event, ExitStatus, FileMode, FileVersion, Files,
        FilesAct, Identity, Limit, Opened, Part, PathText, Refusal, RelativePath, Request, Run, RunnerId,
        Signal, Step, Token, Upload, UploadId, Usage, UserName, WindowSize, Write,
    };

    fn run() -> Request {
        Request::Run(Run {
            identity: Identity {
                user: Some(UserName::new("pi").unwrap()),
                token: Some(Token::new("s3cret").unwrap()),
                origin: Some(7),
            },
            runner: RunnerId::new("python3").unwrap(),
            path: Some(PathText::new("my project").unwrap()),
            details: Some(DetailsLength::new(9).unwrap()),
            code: Some(CodeLength::new(300).unwrap()),
            terminal: Some(WindowSize { rows: 4, cols: 60 }),
        })
    }

    fn least_run() -> Request {
        Request::Run(Run {
            identity: Identity::default(),
            runner: RunnerId::new("shell").unwrap(),
            path: None,
            details: None,
            code: None,
            terminal: None,
        })
    }

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    fn upload() -> Request {
        Request::Upload(Upload {
            identity: Identity::default(),
            directory: path("my project"),
            project_of: Some(path("ann")),
            keep: false,
        })
    }

    fn version() -> FileVersion {
        FileVersion { device: 1, inode: 2, size: 3, seconds: -1, nanoseconds: 4 }
    }

    fn write(path: RelativePath, upload: UploadId) -> Write {
        let part = Some(Part { upload, offset: 5, total: 6 });
        Write { path, parents: true, condition: Condition::Same(version()), part }
    }

    /// The hexdump that PROTOCOL.md prints under a heading `` `name` ``.
    fn documented(name: &str) -> Vec<u8> {
        let page = include_str!("../PROTOCOL.md");
        let start =
            page.find(&format!("<!-- hexdump {name} -->")).unwrap_or_else(|| panic!("no hexdump of {name}"));
        let block = page[start..].split("```").nth(1).unwrap().trim_start_matches("text");
        block
            .lines()
            .flat_map(|line| line.split('#').next().unwrap().split_whitespace())
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    }

    fn agrees<M: Encode + Decode<()> + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
        assert_eq!(encode(message).unwrap(), documented(name), "{name}: the page and the codec differ");
        assert_eq!(&decode::<M>(&documented(name)).unwrap(), message, "{name}");
    }

    #[test]
    fn the_hexdumps_of_protocol_md_are_the_wire_form() {
        agrees("run", &run());
        agrees("run-least", &least_run());
        agrees("stop", &Request::Stop { first: None });
        agrees("stop-first", &Request::Stop { first: Some(Signal::Interrupt) });
        agrees("signal", &Request::Signal(Signal::HangUp));
        agrees("upload", &upload());
        agrees("file", &Request::File { path: path("a/b.py"), length: 300, mode: FileMode::Plain });
        agrees("link", &Request::Link { path: path("c.png"), cached: path("k/c.png") });
        agrees("piece", &Request::Piece { length: 65_536 });
        agrees("downloaded", &Request::Downloaded);
        agrees("commit", &Request::Commit);
        agrees("data", &Event::Data);
        agrees("cached", &Event::Cached);
        agrees("missing", &Event::Missing);
        agrees("stored", &Event::Stored);
        agrees("compiled", &Event::Compiled);
        agrees("opened", &Event::Opened(Opened::File));
        agrees("written", &Event::Written { version: version(), replaced: true });
        agrees("progress", &Event::Progress { bytes: 300 });
        agrees("changed", &Event::Changed);
        agrees("done", &Event::Done);
        let upload = || UploadId::new("0123456789abcdef").unwrap();
        for (name, act) in [
            ("list", FilesAct::List { path: Some(path("a")) }),
            ("read", FilesAct::Read { path: path("a/b") }),
            ("write", FilesAct::Write(write(path("a"), upload()))),
            ("ask-progress", FilesAct::Progress { upload: upload() }),
            ("rename", FilesAct::Rename { from: path("a"), to: path("b") }),
            ("make-directory", FilesAct::MakeDirectory { path: path("a") }),
            ("remove", FilesAct::Remove { path: path("a") }),
        ] {
            agrees(name, &Request::Files(Files { identity: Identity::default(), act }));
        }
        agrees("started", &Event::Started { pid: 4711 });
        agrees("refused", &Event::Refused(Refusal::UserNotAllowed));
        agrees("failed", &Event::Failed { step: Step::Execute, errno: 8 });
        let usage = Usage { cpu: 20_000, memory: 9000 };
        let ended = |status, limit| Event::Exited(Ended { status, limit, usage });
        agrees("exited", &ended(ExitStatus::Exited(3), None));
        agrees("signaled", &ended(ExitStatus::Signaled(9), Some(Limit::Memory)));
    }

    #[test]
    fn every_shorter_datagram_and_every_trailing_byte_is_refused() {
        let whole = encode(&run()).unwrap();
        for end in 0..whole.len() {
            assert!(
                decode::<Request>(&whole[..end]).is_err(),
                "{end} of {} bytes were accepted",
                whole.len()
            );
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert!(matches!(decode::<Request>(&longer), Err(CodecError::Trailing(1))));
    }

    #[test]
    fn another_version_is_told_apart_from_nonsense() {
        let mut bytes = encode(&Request::Stop { first: None }).unwrap();
        bytes[0] = VERSION + 1;
        assert!(matches!(decode::<Request>(&bytes), Err(CodecError::Version { theirs: Some(7) })));
        assert!(matches!(decode::<Request>(&[]), Err(CodecError::Version { theirs: None })));
        let said = CodecError::Version { theirs: Some(7) }.to_string();
        assert!(said.starts_with("the peer speaks protocol version 7, this process 6:"), "{said}");
    }

    #[test]
    fn decoding_applies_the_checks_of_the_value_types() {
        let with_user = |name: &str| {
            let mut bytes = vec![VERSION, 0, 1, u8::try_from(name.len()).unwrap()];
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&[0, 0, 2, b's', b'h', 0, 0, 0, 0]);
            decode::<Request>(&bytes)
        };
        assert!(with_user("pi").is_ok());
        for bad in ["", "0", "../x", "a:b", "-u"] {
            assert!(matches!(with_user(bad), Err(CodecError::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn the_longest_messages_fit_into_a_datagram() {
        let longest = ["d"; MAX_DEPTH].join("/") + &"n".repeat(MAX_NAME - 1);
        let token = Some(Token::new("t".repeat(MAX_TOKEN)).unwrap());
        let user = Some(UserName::new("u".repeat(MAX_USER_NAME)).unwrap());
        let identity = Identity { user, token, origin: Some(u64::MAX) };
        let widest = path(&[&"n".repeat(MAX_NAME)[..]; 15].join("/"));
        let run = Request::Run(Run {
            identity: identity.clone(),
            runner: RunnerId::new(format!("~{}", "r".repeat(MAX_RUNNER_ID))).unwrap(),
            path: Some(PathText::new("p".repeat(MAX_PATH)).unwrap()),
            details: Some(DetailsLength::new(MAX_DETAILS).unwrap()),
            code: Some(CodeLength::new(1).unwrap()),
            terminal: Some(WindowSize { rows: u16::MAX, cols: u16::MAX }),
        });
        let act = FilesAct::Rename { from: widest.clone(), to: widest.clone() };
        let files = Request::Files(Files { identity: identity.clone(), act });
        let upload =
            Upload { identity, directory: widest.clone(), project_of: Some(path(&longest)), keep: true };
        let link = Request::Link { path: widest.clone(), cached: widest };
        for message in [run, Request::Upload(upload), link, files] {
            assert_eq!(decode::<Request>(&encode(&message).unwrap()).unwrap(), message);
            assert!(encode(&message).unwrap().len() <= MAX_MESSAGE);
        }
    }

    #[test]
    fn a_length_far_beyond_the_datagram_is_refused_without_allocating_it() {
        // Run, user present, and a string length of 2^32 - 1.
        let bytes = [VERSION, 0, 1, 252, 0xff, 0xff, 0xff, 0xff, b'p'];
        assert!(matches!(decode::<Request>(&bytes), Err(CodecError::Malformed(_))));
    }
}
