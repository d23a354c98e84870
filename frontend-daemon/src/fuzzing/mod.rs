//! What the fuzz targets of `fuzz/` and the judge of `tests/screens` call. Only with the feature `fuzzing`.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a fuzz target panics to report what it found"
)]

mod channel_line;
mod client_message;
mod fragments;
mod http_request;
mod kept_screen;
mod request;
mod screen;
mod upload_body;

pub use channel_line::channel_line;
pub use client_message::client_message;
pub use fragments::fragments;
pub use http_request::http_request;
pub use kept_screen::KeptScreen;
pub use request::request;
pub use screen::screen;
pub use upload_body::upload_body;
