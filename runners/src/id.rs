//! The ids of runners.

/// Longest id in bytes.
const MAX_ID: usize = 32;

/// Whether this can be the id of a runner. It is a part of a file's name: never a path, and never hidden.
pub fn is_id(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let other = |byte: u8| first(byte) || matches!(byte, b'+' | b'-' | b'_' | b'.');
    text.len() <= MAX_ID && text.bytes().next().is_some_and(first) && text.bytes().all(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_plain_name() {
        for id in ["c", "c++", "python3", "lua5.4", "my_basic-2", "7"] {
            assert!(is_id(id), "{id}");
        }
        for text in ["", ".c", "-c", "C", "a/b", "..", "a b", "ü", "a\0", "a:b", &"x".repeat(33)] {
            assert!(!is_id(text), "{text}");
        }
    }
}
