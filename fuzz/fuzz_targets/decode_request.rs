//! What root decodes: any bytes give a request or an error, and a request is what its type allows.
//!
//! A request that was decoded means the same after another trip over the wire, and what only its type could
//! have let through is checked here once more, against PROTOCOL.md and not against the code.
#![no_main]

use further_link_proto::{FilesAct, MAX_MESSAGE, Request, VERSION, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = decode::<Request>(bytes) else { return };
    assert_eq!(bytes.first(), Some(&VERSION));
    assert!(bytes.len() <= MAX_MESSAGE + 1, "decoded beyond the limit");
    let again = encode(&request).expect("what was decoded can be encoded");
    assert!(again.len() <= bytes.len(), "the form of `encode` is the shortest");
    assert_eq!(decode::<Request>(&again).expect("what was encoded can be decoded"), request);
    let identity = match &request {
        Request::Run(run) => Some(&run.identity),
        Request::Upload(upload) => Some(&upload.identity),
        Request::Files(files) => Some(&files.identity),
        _ => None,
    };
    if let Some(user) = identity.and_then(|identity| identity.user.as_ref()) {
        let name = user.as_str();
        assert!((1..=32).contains(&name.len()));
        assert!(!name.contains(['/', ':', ',', '\0', '\n', ' ', '\t']));
        assert!(!name.bytes().all(|byte| byte.is_ascii_digit()));
        assert!(!name.starts_with(['-', '+', '~', '.']));
    }
    let below = match &request {
        Request::Upload(upload) => vec![Some(&upload.directory), upload.project_of.as_ref()],
        Request::File { path, .. } => vec![Some(path)],
        Request::Link { path, cached } => vec![Some(path), Some(cached)],
        Request::Files(files) => match &files.act {
            FilesAct::List { path } => vec![path.as_ref()],
            FilesAct::Read { path } | FilesAct::MakeDirectory { path } | FilesAct::Remove { path } => vec![Some(path)],
            FilesAct::Write(write) => vec![Some(&write.path)],
            FilesAct::Rename { from, to } => vec![Some(from), Some(to)],
            FilesAct::Progress { .. } => Vec::new(),
        },
        _ => Vec::new(),
    };
    for path in below.into_iter().flatten() {
        let plain = |name: &str| !name.is_empty() && name.len() <= 255 && name != "." && name != "..";
        assert!(path.as_str().len() <= 4095 && !path.as_str().contains('\0'));
        assert!(path.as_str().split('/').all(plain) && path.as_str().split('/').count() <= 32);
    }
    if let Request::Files(files) = &request {
        let upload = match &files.act {
            FilesAct::Progress { upload } => Some(upload),
            FilesAct::Write(write) => write.part.as_ref().map(|part| &part.upload),
            _ => None,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(upload.is_none_or(|id| (16..=64).contains(&id.as_str().len()) && id.as_str().bytes().all(plain)));
    }
    let Request::Run(run) = request else { return };
    if let Some(path) = &run.path {
        assert!((1..=4095).contains(&path.as_str().len()) && !path.as_str().contains('\0'));
    }
    let id = run.runner.as_str().trim_start_matches('~');
    assert!((1..=32).contains(&id.len()) && !id.contains(['/', '\0', '~']) && !id.starts_with('.'));
    assert!(run.code.is_none_or(|code| code.bytes() <= 4 * 1024 * 1024));
});
