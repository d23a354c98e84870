//! Bodies of uploads: any bytes give a request or a reason, names stay below their directory, and what is
//! JSON, and which text a string has, `serde_json` says as well.

use bytes::Bytes;
use further_link_api::JsonSize;
use futures_util::FutureExt;
use serde_json::value::RawValue;

use crate::upload::{
    json::{JsonReader, MAX_NESTING, Source, Whole},
    request::{self, Content, ReadError},
};

/// A text in pieces of this many bytes.
struct Pieces<'a>(std::slice::Chunks<'a, u8>);

impl Source for Pieces<'_> {
    type Error = std::convert::Infallible;

    async fn next(&mut self) -> Result<Option<Bytes>, Self::Error> {
        Ok(self.0.next().map(Bytes::copy_from_slice))
    }
}

/// Parses the bytes as JSON and as a body, at once and piece by piece.
pub fn upload_body(bytes: &[u8]) {
    let size = bytes.first().map_or(1, |first| usize::from(*first % 8) + 1);
    let value: Option<&RawValue> = serde_json::from_slice(bytes).ok();
    assert_eq!(is_json(bytes, size), value.is_some() && JsonSize::of(bytes).depth <= MAX_NESTING);
    if let Some(literal) = value.map(RawValue::get).filter(|json| json.starts_with('"')) {
        assert_eq!(string(literal.as_bytes(), size), serde_json::from_str(literal).ok());
    }
    let whole = request::read(Whole::new(Bytes::copy_from_slice(bytes)), Vec::new()).now_or_never();
    let in_pieces = request::read(Pieces(bytes.chunks(size)), Vec::new()).now_or_never();
    assert_eq!(whole, in_pieces);
    match whole {
        Some(Ok(request)) => {
            for (path, content) in &request.files {
                assert!(path.names().all(|name| name != ".." && !name.is_empty()));
                if let Content::Text { text, .. } = content {
                    assert!(std::str::from_utf8(request.text(text)).is_ok());
                }
            }
        }
        Some(Err(ReadError::Request(wrong))) => {
            assert!(wrong.why.len() < 2000 && !wrong.why.contains('\n'));
        }
        _ => unreachable!("nothing is waited for"),
    }
}

fn is_json(bytes: &[u8], size: usize) -> bool {
    let mut json = JsonReader::new(Pieces(bytes.chunks(size)));
    let read = async { json.skip().await.is_ok() && json.finish().await.is_ok() };
    read.now_or_never() == Some(true)
}

fn string(literal: &[u8], size: usize) -> Option<String> {
    let mut json = JsonReader::new(Pieces(literal.chunks(size)));
    let mut bytes = Vec::new();
    let text = json.string(Some(&mut bytes)).now_or_never()?.ok()?;
    assert_eq!((text.at, text.written), (0..bytes.len(), literal.len()));
    assert_eq!(text.is_text, std::str::from_utf8(&bytes).is_ok());
    String::from_utf8(bytes).ok()
}
