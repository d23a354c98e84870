//! The body of an upload: any bytes give a request or a reason, names stay below their directory, and texts are decoded as
//! serde_json decodes them.
//!
//! The frontend is a binary, so its files are taken in by path; they know each other under the same names as there.
#![no_main]

#[path = "../../frontend-daemon/src/upload"]
mod upload {
    pub(crate) mod json_text;
    #[allow(dead_code, reason = "the fuzz target calls the parser only")]
    pub(crate) mod request;
}

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use upload::{
    json_text::{Piece, Text},
    request::{self, Content},
};

fn decoded(text: Text<'_>) -> String {
    let mut decoded = String::new();
    for piece in text.pieces() {
        match piece {
            Piece::Run(run) => decoded.push_str(run),
            Piece::Char(char) => decoded.push(char),
        }
    }
    assert_eq!(decoded.len(), text.length());
    decoded
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(literal) = serde_json::from_slice::<&RawValue>(bytes)
        && literal.get().starts_with('"')
    {
        let ours = Text::new(literal.get()).ok().map(decoded);
        assert_eq!(ours, serde_json::from_str::<String>(literal.get()).ok());
    }
    match request::parse(bytes) {
        Ok(request) => {
            for (path, content) in &request.files {
                assert!(path.names().all(|name| name != ".." && !name.is_empty()));
                if let Content::Text(text) = content {
                    decoded(*text);
                }
            }
        }
        Err(wrong) => assert!(wrong.why.len() < 2000 && !wrong.why.contains('\n')),
    }
});
