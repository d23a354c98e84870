//! The body of an upload (B11): from JSON to checked names and texts. Pure and total: any bytes give a
//! request, or what is wrong with them.
//!
//! Texts stay where they are in the body and are decoded while they are written (`json_str`). Names are taken
//! apart here, without a look at any file: whatever they say, they end below the directory, or nowhere (D10,
//! D11).

use std::{collections::BTreeMap, fmt};

use further_link_api::JsonSize;
use further_link_proto::{FileMode, RelativePath};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::upload::json_str::JsonStr;

/// Longest name or url as it stands in the body, escapes and all: no file system and no server takes longer
/// ones, and what is made of them would be ten times as large.
const MAX_STRING: usize = 16 * 1024;
/// Most files of one upload: ten times what a large project has. Each costs some hundred bytes beside its
/// content.
pub(crate) const MAX_FILES: usize = 10_000;
/// Deepest nesting of the JSON: a file's text is at the fourth level. Without a limit the parser's memory has
/// none.
const MAX_NESTING: usize = 64;
/// Most characters of a client's name that a reason repeats.
const MAX_QUOTED: usize = 80;

/// A file of this name asks for a copy among the user's projects (B11.12).
const PROJECT_FILE: &str = "project.cfg";
/// Whose project it is when the body does not say.
const NO_USER: &str = "unknown";

/// What to store, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UploadRequest<'a> {
    pub(crate) directory: RelativePath,
    /// Whose project it is, if it is one.
    pub(crate) project_of: Option<RelativePath>,
    /// Keep the old directory's files that have no new one.
    pub(crate) keep: bool,
    pub(crate) files: Vec<(RelativePath, Content<'a>)>,
}

/// What a file is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    Text {
        text: JsonStr<'a>,
        mode: FileMode,
    },
    Url {
        url: String,
        /// Where in the cache the client wants it.
        bucket: RelativePath,
        file: RelativePath,
    },
}

/// What kind of wrong, since clients of the original can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Not what an upload looks like (B11.4).
    Shape,
    /// A type that surprised the original (B11.6).
    OddType,
    /// It looks like one, but cannot be done (B11.5).
    Impossible,
    /// More than there is room for.
    TooLarge,
}

/// A body that is not stored, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct UploadRequestError {
    pub(crate) kind: ErrorKind,
    pub(crate) why: String,
}

impl UploadRequestError {
    fn new(kind: ErrorKind, why: impl Into<String>) -> Self {
        Self { kind, why: why.into() }
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    files: Option<&'a RawValue>,
    #[serde(borrow)]
    username: Option<&'a RawValue>,
    #[serde(borrow)]
    keep: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    mode: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TextContent<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UrlContent<'a> {
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    bucket_name: Option<&'a RawValue>,
    #[serde(borrow)]
    file_name: Option<&'a RawValue>,
}

/// Aliases as bytes, since JSON can write names that are no text, and the last of those that are repeated.
struct Files<'a>(BTreeMap<Vec<u8>, &'a RawValue>);

/// Reads a body.
pub(crate) fn parse(body: &[u8]) -> Result<UploadRequest<'_>, UploadRequestError> {
    let text = std::str::from_utf8(body)
        .map_err(|_| UploadRequestError::new(ErrorKind::OddType, "the body is not UTF-8"))?;
    if JsonSize::of(text.as_bytes()).depth > MAX_NESTING {
        return Err(UploadRequestError::new(ErrorKind::Shape, "the JSON is nested too deeply"));
    }
    let body: &RawValue = serde_json::from_str(text).map_err(|error| {
        UploadRequestError::new(ErrorKind::Shape, format!("the body is not JSON: {error}"))
    })?;
    let body: Body = object("the body", body, ErrorKind::Shape)?;
    let (Some(name), Some(files)) = (body.name, body.files) else {
        return Err(UploadRequestError::new(ErrorKind::Shape, "the body has no `name`, or no `files`"));
    };
    if !name.get().starts_with('"') {
        return Err(UploadRequestError::new(ErrorKind::Shape, "the name is not a string"));
    }
    let directory = below("the name", &string("the name", name)?)?;
    if is_helpers_own(&directory) {
        let why = format!("the name {} is further-link's own", quoted(directory.as_str()));
        return Err(UploadRequestError::new(ErrorKind::Impossible, why));
    }
    if !files.get().starts_with('{') {
        return Err(UploadRequestError::new(ErrorKind::OddType, "`files` is not an object"));
    }
    let keep = match body.keep.map(RawValue::get) {
        None | Some("false" | "null") => false,
        Some("true") => true,
        Some(_) => return Err(UploadRequestError::new(ErrorKind::Shape, "`keep` is neither true nor false")),
    };
    let username = body.username.map(|name| string("`username`", name)).transpose()?;
    let Files(found) = serde_json::from_str(files.get()).map_err(|_| {
        UploadRequestError::new(ErrorKind::TooLarge, format!("an upload has at most {MAX_FILES} files"))
    })?;
    let files = found.into_iter().map(|(alias, file)| entry(alias, file)).collect::<Result<Vec<_>, _>>()?;
    let is_project = files.iter().any(|(path, _)| path.as_str() == PROJECT_FILE);
    let project_of = if is_project { Some(project_of(username)?) } else { None };
    Ok(UploadRequest { directory, project_of, keep, files })
}

fn entry(alias: Vec<u8>, file: &RawValue) -> Result<(RelativePath, Content<'_>), UploadRequestError> {
    let alias = String::from_utf8(alias).map_err(|_| {
        UploadRequestError::new(ErrorKind::Impossible, "a file's name has an unpaired surrogate in it")
    })?;
    let what = format!("the file {}", quoted(&alias));
    let file: File = object(&what, file, ErrorKind::Shape)?;
    let (Some(kind), Some(content)) = (file.r#type, file.content) else {
        return Err(UploadRequestError::new(
            ErrorKind::Shape,
            format!("{what} has no `type`, or no `content`"),
        ));
    };
    let content_of = format!("the content of {what}");
    let mode = file.mode.map(|mode| serde_json::from_str::<String>(mode.get()).unwrap_or_default());
    let mode = match mode.as_deref() {
        None => FileMode::Plain,
        Some("executable") => FileMode::Executable,
        Some(_) => {
            let why = format!("the mode of {what} is not \"executable\"");
            return Err(UploadRequestError::new(ErrorKind::Shape, why));
        }
    };
    let content = match serde_json::from_str::<String>(kind.get()).as_deref() {
        Ok("text") => Content::Text { text: text_content(&content_of, content)?, mode },
        Ok("url") if mode == FileMode::Executable => {
            let why = format!("{what} has a url, and only a text can be executable");
            return Err(UploadRequestError::new(ErrorKind::Shape, why));
        }
        Ok("url") => url_content(&content_of, content)?,
        _ => {
            let why = format!("the type of {what} is neither \"text\" nor \"url\"");
            return Err(UploadRequestError::new(ErrorKind::Shape, why));
        }
    };
    if alias.ends_with('/') {
        let why = format!("{what} ends with a slash; a file needs a name");
        return Err(UploadRequestError::new(ErrorKind::Impossible, why));
    }
    Ok((below("the file", &alias)?, content))
}

fn text_content<'a>(what: &str, content: &'a RawValue) -> Result<JsonStr<'a>, UploadRequestError> {
    let fields: TextContent = object(what, content, ErrorKind::Shape)?;
    let text = fields.text.ok_or_else(|| missing(what, "text"))?;
    if !text.get().starts_with('"') {
        return Err(UploadRequestError::new(ErrorKind::OddType, format!("{what}: `text` is not a string")));
    }
    JsonStr::new(text.get()).map_err(|_| {
        UploadRequestError::new(
            ErrorKind::Impossible,
            format!("{what}: `text` has an unpaired surrogate in it"),
        )
    })
}

fn url_content<'a>(what: &str, content: &'a RawValue) -> Result<Content<'a>, UploadRequestError> {
    let fields: UrlContent = object(what, content, ErrorKind::Shape)?;
    let field = |name, value: Option<&RawValue>| {
        let value = value.ok_or_else(|| missing(what, name))?;
        string(&format!("{what}: `{name}`"), value)
    };
    let url = field("url", fields.url)?;
    let bucket = below("the bucket", &field("bucketName", fields.bucket_name)?)?;
    let file = below("the cached file", &field("fileName", fields.file_name)?)?;
    Ok(Content::Url { url, bucket, file })
}

fn missing(what: &str, field: &str) -> UploadRequestError {
    UploadRequestError::new(ErrorKind::Impossible, format!("{what} has no `{field}`"))
}

/// The fields of an object. Of what is none, the kind is `otherwise`, or an odd type where the original was
/// surprised.
fn object<'a, T: Deserialize<'a>>(
    what: &str,
    value: &'a RawValue,
    otherwise: ErrorKind,
) -> Result<T, UploadRequestError> {
    match value.get().bytes().next() {
        Some(b'{') => serde_json::from_str(value.get())
            .map_err(|error| UploadRequestError::new(otherwise, format!("{what}: {error}"))),
        Some(b'[' | b'"') => Err(UploadRequestError::new(otherwise, format!("{what} is not an object"))),
        _ => Err(UploadRequestError::new(ErrorKind::OddType, format!("{what} is not an object"))),
    }
}

fn string(what: &str, value: &RawValue) -> Result<String, UploadRequestError> {
    if !value.get().starts_with('"') {
        return Err(UploadRequestError::new(ErrorKind::OddType, format!("{what} is not a string")));
    }
    if value.get().len() > MAX_STRING {
        return Err(UploadRequestError::new(ErrorKind::Impossible, format!("{what} is too long")));
    }
    // The syntax has been checked: what is left to be wrong is this.
    serde_json::from_str(value.get()).map_err(|_| {
        UploadRequestError::new(ErrorKind::Impossible, format!("{what} has an unpaired surrogate in it"))
    })
}

/// A path as clients write it, taken apart as `realpath` would, but never with a look at the disk. It ends
/// below the directory that it is taken from, and is not that directory itself.
fn below(what: &str, text: &str) -> Result<RelativePath, UploadRequestError> {
    let wrong =
        |why| UploadRequestError::new(ErrorKind::Impossible, format!("{what} {} {why}", quoted(text)));
    if text.len() > MAX_STRING {
        return Err(wrong("is too long"));
    }
    if text.starts_with('/') {
        return Err(wrong("is an absolute path; it has to be a relative one"));
    }
    if text.contains('\0') {
        return Err(wrong("has a NUL in it"));
    }
    let mut names = Vec::new();
    for name in text.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop().ok_or_else(|| wrong("leaves the directory it belongs into"))?;
            }
            name => names.push(name),
        }
    }
    if names.is_empty() {
        return Err(wrong("is empty"));
    }
    RelativePath::new(names.join("/")).map_err(|_| wrong("is too long, or too deep"))
}

/// HEAD's rule (B11.12), without its hole (D5): what is no relative path is an error.
fn project_of(username: Option<String>) -> Result<RelativePath, UploadRequestError> {
    let username = username.filter(|name| !name.is_empty()).unwrap_or_else(|| NO_USER.to_owned());
    let name = username.split('@').next().unwrap_or_default();
    RelativePath::new(name).ok().filter(|path| !is_helpers_own(path)).ok_or_else(|| {
        UploadRequestError::new(
            ErrorKind::Impossible,
            format!("`username` {} is no name for a directory", quoted(name)),
        )
    })
}

fn is_helpers_own(path: &RelativePath) -> bool {
    path.names().next().is_some_and(further_link_proto::is_helpers_own)
}

fn quoted(name: &str) -> String {
    let short: String = name.chars().take(MAX_QUOTED).collect();
    let more = if short.len() < name.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

impl<'de: 'a, 'a> Deserialize<'de> for Files<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FilesVisitor;
        impl<'de> Visitor<'de> for FilesVisitor {
            type Value = Files<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "at most {MAX_FILES} files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut files = BTreeMap::new();
                while let Some((Alias(alias), file)) = map.next_entry()? {
                    files.insert(alias, file);
                    if files.len() > MAX_FILES {
                        return Err(A::Error::custom("too many"));
                    }
                }
                Ok(Files(files))
            }
        }
        deserializer.deserialize_map(FilesVisitor)
    }
}

/// `serde_json` gives strings that are no text when it is asked for bytes.
struct Alias(Vec<u8>);

impl<'de> Deserialize<'de> for Alias {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AliasVisitor;
        impl Visitor<'_> for AliasVisitor {
            type Value = Alias;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Alias, E> {
                Ok(Alias(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(AliasVisitor)
    }
}

#[cfg(test)]
mod tests;
