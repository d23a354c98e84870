//! Versions of files as clients name them: entity tags, and the headers with conditions (RFC 9110, section
//! 13).

use further_link_proto::{Condition, FileVersion};
use http::{HeaderMap, header};

/// The tag of a version, quotes included. A strong one.
pub(crate) fn tag(version: &FileVersion) -> String {
    let FileVersion { device, inode, size, seconds, nanoseconds } = version;
    format!("\"{device:x}-{inode:x}-{size:x}-{seconds:x}-{nanoseconds:x}\"")
}

/// The version that a tag names; none if it is not one of ours.
fn version(tag: &str) -> Option<FileVersion> {
    let mut numbers = tag.strip_prefix('"')?.strip_suffix('"')?.split('-');
    let mut number = || u64::from_str_radix(numbers.next()?, 16).ok();
    let found = FileVersion {
        device: number()?,
        inode: number()?,
        size: number()?,
        seconds: number()?.cast_signed(),
        nanoseconds: u32::try_from(number()?).ok()?,
    };
    // What has another form than ours was not given out by us.
    (self::tag(&found) == tag).then_some(found)
}

/// Why a condition cannot be told to the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Not a form that is supported: this header.
    Header(&'static str),
    /// It names what no file here is.
    Never,
}

/// What must be there for a file to be put.
pub(crate) fn condition(headers: &HeaderMap) -> Result<Condition, Unfit> {
    let (if_match, if_none_match) = (one(headers, &header::IF_MATCH), one(headers, &header::IF_NONE_MATCH));
    match (if_match, if_none_match) {
        (Ok(None), Ok(None)) => Ok(Condition::Any),
        (Ok(None), Ok(Some("*"))) => Ok(Condition::Absent),
        (Ok(Some("*")), Ok(None)) => Ok(Condition::Present),
        (Ok(Some(tag)), Ok(None)) if tag.contains(',') => Err(Unfit::Header("If-Match (with one tag)")),
        (Ok(Some(tag)), Ok(None)) => version(tag).map(Condition::Same).ok_or(Unfit::Never),
        (Err(()) | Ok(Some(_)), _) => Err(Unfit::Header("If-Match")),
        (_, Err(()) | Ok(Some(_))) => Err(Unfit::Header("If-None-Match")),
    }
}

/// Whether the client has this version already.
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// The one value of a header.
fn one<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str().map(str::trim).map_err(drop)).transpose()?;
    if values.next().is_some() { Err(()) } else { Ok(value) }
}

/// Which bytes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All. Also where the header has a form that is not supported, or was meant for another version.
    All,
    /// So many from there on.
    Range { from: u64, length: u64 },
    /// None that the file has.
    Outside,
}

/// The bytes that are asked for (RFC 9110, section 14).
pub(crate) fn range(headers: &HeaderMap, tag: &str, size: u64) -> Wanted {
    let asked = match (one(headers, &header::RANGE), one(headers, &header::IF_RANGE)) {
        (Ok(Some(range)), Ok(None)) => range,
        (Ok(Some(range)), Ok(Some(known))) if known == tag => range,
        _ => return Wanted::All,
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let Some((first, last)) = asked.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Wanted::All;
    };
    let (first, last) = (first.trim(), last.trim());
    let (from, to) = match (number(first), number(last)) {
        (Some(from), Some(to)) if from <= to => (from, to),
        (Some(from), None) if last.is_empty() => (from, u64::MAX),
        (None, Some(0)) if first.is_empty() => return Wanted::Outside,
        (None, Some(length)) if first.is_empty() => (size.saturating_sub(length), u64::MAX),
        _ => return Wanted::All,
    };
    if from >= size {
        return Wanted::Outside;
    }
    Wanted::Range { from, length: to.min(size - 1) - from + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    const VERSION: FileVersion =
        FileVersion { device: 0xfd01, inode: 12, size: 300, seconds: -5, nanoseconds: 999_999_999 };

    #[test]
    fn a_tag_names_its_version_and_nothing_else_is_one() {
        assert_eq!(version(&tag(&VERSION)), Some(VERSION));
        for other in [
            "",
            "\"",
            "\"\"",
            "\"1-2-3-4\"",
            "\"1-2-3-4-5-6\"",
            "\"01-2-3-4-5\"",
            "1-2-3-4-5",
            "\"+1-2-3-4-5\"",
        ] {
            assert_eq!(version(other), None, "{other}");
        }
    }

    #[test]
    fn conditions_are_one_tag_a_star_or_nothing() {
        let own = tag(&VERSION);
        assert_eq!(condition(&headers(&[])), Ok(Condition::Any));
        assert_eq!(condition(&headers(&[("if-match", &own)])), Ok(Condition::Same(VERSION)));
        assert_eq!(condition(&headers(&[("if-match", "*")])), Ok(Condition::Present));
        assert_eq!(condition(&headers(&[("if-none-match", "*")])), Ok(Condition::Absent));
        assert_eq!(condition(&headers(&[("if-match", &format!("W/{own}"))])), Err(Unfit::Never));
        assert_eq!(condition(&headers(&[("if-match", "\"of-another-server\"")])), Err(Unfit::Never));
        for wrong in [
            headers(&[("if-match", &format!("{own}, {own}"))]),
            headers(&[("if-none-match", &own)]),
            headers(&[("if-match", "*"), ("if-none-match", "*")]),
        ] {
            assert!(matches!(condition(&wrong), Err(Unfit::Header(_))), "{wrong:?}");
        }
        assert!(is_known(&headers(&[("if-none-match", &format!("\"x\", W/{own}"))]), &own));
        assert!(!is_known(&headers(&[("if-none-match", "\"x\"")]), &own));
    }

    #[test]
    fn ranges_are_within_the_file_or_refused_and_other_forms_mean_all() {
        let asked = |value: &str| range(&headers(&[("range", value)]), "\"t\"", 100);
        for (given, from, length) in [
            ("bytes=0-0", 0, 1),
            ("bytes=10-19", 10, 10),
            ("bytes=90-", 90, 10),
            ("bytes=90-1000", 90, 10),
            ("bytes=-5", 95, 5),
            ("bytes=-1000", 0, 100),
            ("bytes=0-99999999999999999999999", 0, 100),
        ] {
            assert_eq!(asked(given), Wanted::Range { from, length }, "{given}");
        }
        for outside in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(asked(outside), Wanted::Outside, "{outside}");
        }
        for all in
            ["", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2", "bytes=a-b"]
        {
            assert_eq!(asked(all), Wanted::All, "{all}");
        }
        let with = |tag| range(&headers(&[("range", "bytes=1-1"), ("if-range", tag)]), "\"t\"", 100);
        assert_eq!(with("\"t\""), Wanted::Range { from: 1, length: 1 });
        assert_eq!(with("\"u\""), Wanted::All);
        assert_eq!(with("Sat, 28 Nov 2026 00:00:00 GMT"), Wanted::All);
        assert_eq!(range(&headers(&[("range", "bytes=0-")]), "\"t\"", 0), Wanted::Outside);
    }
}
