//! Bodies of uploads: any bytes give a request or a reason, names stay below their directory, and texts are
//! decoded as `serde_json` decodes them.

use serde_json::value::RawValue;

use crate::upload::{
    json_str::{JsonStr, Piece},
    request::{self, Content},
};

/// Parses the bytes as a JSON string and as a body.
pub fn upload_body(bytes: &[u8]) {
    if let Ok(literal) = serde_json::from_slice::<&RawValue>(bytes)
        && literal.get().starts_with('"')
    {
        let ours = JsonStr::new(literal.get()).ok().map(decoded);
        assert_eq!(ours, serde_json::from_str::<String>(literal.get()).ok());
    }
    match request::parse(bytes) {
        Ok(request) => {
            for (path, content) in &request.files {
                assert!(path.names().all(|name| name != ".." && !name.is_empty()));
                if let Content::Text { text, .. } = content {
                    decoded(*text);
                }
            }
        }
        Err(wrong) => assert!(wrong.why.len() < 2000 && !wrong.why.contains('\n')),
    }
}

fn decoded(text: JsonStr<'_>) -> String {
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
