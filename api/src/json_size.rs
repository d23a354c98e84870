//! What JSON would cost to read, seen before it is read: an estimate from above, in one pass over the bytes.

/// The number of values in a text, and how deeply they are nested. Of text that is not JSON it may say
/// anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonSize {
    /// Values, names of fields included.
    pub values: usize,
    /// Levels of arrays and objects.
    pub depth: usize,
}

impl JsonSize {
    /// Looks through a text.
    pub fn of(text: &[u8]) -> Self {
        let mut size = Self { values: 1, depth: 0 };
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        for byte in text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b',' | b'[' | b'{' | b':' | b']' | b'}' if !in_string => match byte {
                    b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {
                        size.values = size.values.saturating_add(1);
                        depth = depth.saturating_add(usize::from(matches!(byte, b'[' | b'{')));
                        size.depth = size.depth.max(depth);
                    }
                },
                _ => {}
            }
        }
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_levels_are_counted_and_text_in_strings_is_not() {
        for (text, values, depth) in
            [("5", 1, 0), (r#"{"a":[1,2],"b":{}}"#, 8, 2), (r#"["[[[{{{,,,:::\"[["]"#, 2, 1), ("[[]]", 3, 2)]
        {
            assert_eq!(JsonSize::of(text.as_bytes()), JsonSize { values, depth }, "{text}");
        }
    }
}
