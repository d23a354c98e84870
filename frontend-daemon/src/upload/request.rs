//! The body of an upload (B11): from JSON to checked names and texts. Any bytes give a request, or what is
//! wrong with them.
//!
//! It is read as it comes (`json`), and what it has is judged when all of it has come. Names are taken apart
//! here, without a look at any file: whatever they say, they end below the directory, or nowhere (D10, D11).

use std::{collections::BTreeMap, ops::Range};

use further_link_proto::{FileMode, RelativePath};

use crate::upload::json::{JsonError, JsonReader, JsonString, Kind, MAX_VALUES, Source};

/// Longest name or url as it stands in the body, escapes and all: no file system and no server takes longer
/// ones, and what is made of them would be ten times as large.
const MAX_STRING: usize = 16 * 1024;
/// Most files of one upload: ten times what a large project has. Each costs some hundred bytes beside its
/// content.
pub(crate) const MAX_FILES: usize = 10_000;
/// Most characters of a client's name that a reason repeats.
const MAX_QUOTED: usize = 80;

/// A file of this name asks for a copy among the user's projects (B11.12).
const PROJECT_FILE: &str = "project.cfg";
/// Whose project it is when the body does not say.
const NO_USER: &str = "unknown";

/// What to store, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UploadRequest {
    pub(crate) directory: RelativePath,
    /// Whose project it is, if it is one.
    pub(crate) project_of: Option<RelativePath>,
    /// Keep the old directory's files that have no new one.
    pub(crate) keep: bool,
    pub(crate) files: Vec<(RelativePath, Content)>,
    texts: Vec<u8>,
}

impl UploadRequest {
    /// The bytes of a content's text.
    pub(crate) fn text(&self, at: &Range<usize>) -> &[u8] {
        self.texts.get(at.clone()).unwrap_or_default()
    }
}

/// What a file is made of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Text {
        /// Where its text is among those of the request.
        text: Range<usize>,
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

/// Why there is no request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadError<E> {
    /// The body did not come.
    Source(E),
    Request(UploadRequestError),
}

impl<E> From<JsonError<E>> for ReadError<E> {
    fn from(error: JsonError<E>) -> Self {
        Self::Request(match error {
            JsonError::Source(error) => return Self::Source(error),
            JsonError::NotUtf8 => UploadRequestError::new(ErrorKind::OddType, "the body is not UTF-8"),
            JsonError::TooDeep => UploadRequestError::new(ErrorKind::Shape, "the JSON is nested too deeply"),
            JsonError::TooMany => UploadRequestError::new(
                ErrorKind::TooLarge,
                format!("an upload has at most {MAX_VALUES} JSON values"),
            ),
            JsonError::Syntax(what, position) => UploadRequestError::new(
                ErrorKind::Shape,
                format!("the body is not JSON: {what} after {position} bytes"),
            ),
        })
    }
}

/// A value that an upload has a use for, as it came.
#[derive(Debug)]
enum Value {
    String(JsonString),
    Other(Kind),
}

/// An object, or what is in its place.
type Object<T> = Result<T, Kind>;

/// The fields of the body, each if it is there.
#[derive(Default)]
struct Body {
    name: Option<Value>,
    files: Option<Object<Files>>,
    username: Option<Value>,
    keep: Option<Value>,
    /// A field is there twice, or its name is no text.
    has_odd_fields: bool,
}

/// By alias, which JSON can write so that it is no text. Of those that are repeated it has the last.
#[derive(Default)]
struct Files {
    entries: BTreeMap<Vec<u8>, Object<File>>,
    are_too_many: bool,
}

#[derive(Default)]
struct File {
    r#type: Option<Value>,
    content: Option<Object<Contents>>,
    mode: Option<Value>,
    has_odd_fields: bool,
}

/// The fields of all kinds of contents.
#[derive(Default)]
struct Contents {
    text: Option<Value>,
    url: Option<Value>,
    bucket: Option<Value>,
    file: Option<Value>,
    has_odd_text: bool,
    has_odd_url: bool,
}

/// What was read of a body.
struct BodyReader<S> {
    json: JsonReader<S>,
    /// The bytes of strings.
    texts: Vec<u8>,
}

type Read<T, S> = Result<T, JsonError<<S as Source>::Error>>;

/// Reads a body. Texts of files go behind what `texts` has, into its memory.
pub(crate) async fn read<S: Source>(source: S, texts: Vec<u8>) -> Result<UploadRequest, ReadError<S::Error>> {
    let mut reader = BodyReader { json: JsonReader::new(source), texts };
    let error = match reader.whole().await {
        Ok(body) => return checked(body, reader.texts).map_err(ReadError::Request),
        Err(error @ JsonError::Source(_)) => return Err(error.into()),
        Err(error) => error,
    };
    // Whatever is wrong with it, a body that does not come, or is not UTF-8, is that.
    let is_utf8 = reader.json.drain().await?;
    Err(if is_utf8 { error } else { JsonError::NotUtf8 }.into())
}

impl<S: Source> BodyReader<S> {
    async fn whole(&mut self) -> Read<Object<Body>, S> {
        let body = self.body().await?;
        self.json.finish().await?;
        Ok(body)
    }

    async fn body(&mut self) -> Read<Object<Body>, S> {
        if let Err(other) = self.begin().await? {
            return Ok(Err(other));
        }
        let mut body = Body::default();
        while let Some(key) = self.key().await? {
            let is_new = match key.as_deref() {
                Some(b"name") => body.name.replace(self.value().await?).is_none(),
                Some(b"files") => body.files.replace(self.files().await?).is_none(),
                Some(b"username") => body.username.replace(self.value().await?).is_none(),
                Some(b"keep") => body.keep.replace(self.value().await?).is_none(),
                other => self.unknown(other).await?,
            };
            body.has_odd_fields |= !is_new;
        }
        Ok(Ok(body))
    }

    async fn files(&mut self) -> Read<Object<Files>, S> {
        if let Err(other) = self.begin().await? {
            return Ok(Err(other));
        }
        let mut files = Files::default();
        loop {
            let start = self.texts.len();
            let Some(JsonString { at, .. }) = self.json.key(&mut self.texts).await? else {
                return Ok(Ok(files));
            };
            let alias = self.texts.get(at).unwrap_or_default().to_vec();
            self.texts.truncate(start);
            if files.are_too_many {
                self.json.skip().await?;
            } else {
                files.entries.insert(alias, self.file().await?);
                files.are_too_many = files.entries.len() > MAX_FILES;
            }
        }
    }

    async fn file(&mut self) -> Read<Object<File>, S> {
        if let Err(other) = self.begin().await? {
            return Ok(Err(other));
        }
        let mut file = File::default();
        while let Some(key) = self.key().await? {
            let is_new = match key.as_deref() {
                Some(b"type") => file.r#type.replace(self.value().await?).is_none(),
                Some(b"content") => file.content.replace(self.contents().await?).is_none(),
                Some(b"mode") => file.mode.replace(self.value().await?).is_none(),
                other => self.unknown(other).await?,
            };
            file.has_odd_fields |= !is_new;
        }
        Ok(Ok(file))
    }

    async fn contents(&mut self) -> Read<Object<Contents>, S> {
        if let Err(other) = self.begin().await? {
            return Ok(Err(other));
        }
        let mut contents = Contents::default();
        while let Some(key) = self.key().await? {
            let key = key.as_deref();
            let is_new = match key {
                Some(b"text") => contents.text.replace(self.value().await?).is_none(),
                Some(b"url") => contents.url.replace(self.value().await?).is_none(),
                Some(b"bucketName") => contents.bucket.replace(self.value().await?).is_none(),
                Some(b"fileName") => contents.file.replace(self.value().await?).is_none(),
                other => self.unknown(other).await?,
            };
            // A text has no use for what is wrong with a url.
            contents.has_odd_text |= !is_new && matches!(key, None | Some(b"text"));
            contents.has_odd_url |= !is_new && key != Some(b"text");
        }
        Ok(Ok(contents))
    }

    /// Reads the beginning of an object. What is in its place is read over.
    async fn begin(&mut self) -> Read<Object<()>, S> {
        match self.json.kind().await? {
            Kind::Object => {
                self.json.begin()?;
                Ok(Ok(()))
            }
            other => {
                self.json.skip().await?;
                Ok(Err(other))
            }
        }
    }

    /// The next key of an object; none inside where it is no text.
    async fn key(&mut self) -> Read<Option<Option<Vec<u8>>>, S> {
        let start = self.texts.len();
        let Some(key) = self.json.key(&mut self.texts).await? else { return Ok(None) };
        let bytes = self.texts.get(key.at).unwrap_or_default().to_vec();
        self.texts.truncate(start);
        Ok(Some(key.is_text.then_some(bytes)))
    }

    async fn value(&mut self) -> Read<Value, S> {
        match self.json.kind().await? {
            Kind::String => Ok(Value::String(self.json.string(Some(&mut self.texts)).await?)),
            other => {
                self.json.skip().await?;
                Ok(Value::Other(other))
            }
        }
    }

    /// Reads over a field that an upload has no use for. False where its name is no text.
    async fn unknown(&mut self, key: Option<&[u8]>) -> Read<bool, S> {
        self.json.skip().await?;
        Ok(key.is_some())
    }
}

/// What a client leaves out, it may as well set to null.
fn present(value: Option<Value>) -> Option<Value> {
    value.filter(|value| !matches!(value, Value::Other(Kind::Null)))
}

fn present_object<T>(object: Option<Object<T>>) -> Option<Object<T>> {
    object.filter(|object| !matches!(object, Err(Kind::Null)))
}

/// Judges what has come.
fn checked(body: Object<Body>, texts: Vec<u8>) -> Result<UploadRequest, UploadRequestError> {
    let body = object("the body", body)?;
    refuse_odd_fields("the body", body.has_odd_fields)?;
    let (Some(name), Some(files)) = (present(body.name), present_object(body.files)) else {
        return Err(UploadRequestError::new(ErrorKind::Shape, "the body has no `name`, or no `files`"));
    };
    if matches!(name, Value::Other(_)) {
        return Err(UploadRequestError::new(ErrorKind::Shape, "the name is not a string"));
    }
    let directory = below("the name", &string("the name", &name, &texts)?)?;
    if is_helpers_own(&directory) {
        let why = format!("the name {} is further-link's own", quoted(directory.as_str()));
        return Err(UploadRequestError::new(ErrorKind::Impossible, why));
    }
    let Ok(files) = files else {
        return Err(UploadRequestError::new(ErrorKind::OddType, "`files` is not an object"));
    };
    let keep = match present(body.keep) {
        None | Some(Value::Other(Kind::False)) => false,
        Some(Value::Other(Kind::True)) => true,
        Some(_) => return Err(UploadRequestError::new(ErrorKind::Shape, "`keep` is neither true nor false")),
    };
    let username = present(body.username).map(|name| string("`username`", &name, &texts)).transpose()?;
    if files.are_too_many {
        let why = format!("an upload has at most {MAX_FILES} files");
        return Err(UploadRequestError::new(ErrorKind::TooLarge, why));
    }
    let entries = files.entries.into_iter();
    let files = entries.map(|(alias, file)| entry(alias, file, &texts)).collect::<Result<Vec<_>, _>>()?;
    let is_project = files.iter().any(|(path, _)| path.as_str() == PROJECT_FILE);
    let project_of = if is_project { Some(project_of(username)?) } else { None };
    Ok(UploadRequest { directory, project_of, keep, files, texts })
}

fn entry(
    alias: Vec<u8>,
    file: Object<File>,
    texts: &[u8],
) -> Result<(RelativePath, Content), UploadRequestError> {
    let alias = String::from_utf8(alias).map_err(|_| {
        UploadRequestError::new(ErrorKind::Impossible, "a file's name has an unpaired surrogate in it")
    })?;
    let what = format!("the file {}", quoted(&alias));
    let file = object(&what, file)?;
    refuse_odd_fields(&what, file.has_odd_fields)?;
    let (Some(kind), Some(content)) = (present(file.r#type), present_object(file.content)) else {
        return Err(UploadRequestError::new(
            ErrorKind::Shape,
            format!("{what} has no `type`, or no `content`"),
        ));
    };
    let content_of = format!("the content of {what}");
    let mode = match present(file.mode) {
        None => FileMode::Plain,
        Some(mode) if is(&mode, b"executable", texts) => FileMode::Executable,
        Some(_) => {
            let why = format!("the mode of {what} is not \"executable\"");
            return Err(UploadRequestError::new(ErrorKind::Shape, why));
        }
    };
    let content = if is(&kind, b"text", texts) {
        Content::Text { text: text_content(&content_of, content)?, mode }
    } else if !is(&kind, b"url", texts) {
        let why = format!("the type of {what} is neither \"text\" nor \"url\"");
        return Err(UploadRequestError::new(ErrorKind::Shape, why));
    } else if mode == FileMode::Executable {
        let why = format!("{what} has a url, and only a text can be executable");
        return Err(UploadRequestError::new(ErrorKind::Shape, why));
    } else {
        url_content(&content_of, content, texts)?
    };
    if alias.ends_with('/') {
        let why = format!("{what} ends with a slash; a file needs a name");
        return Err(UploadRequestError::new(ErrorKind::Impossible, why));
    }
    Ok((below("the file", &alias)?, content))
}

fn text_content(what: &str, content: Object<Contents>) -> Result<Range<usize>, UploadRequestError> {
    let contents = object(what, content)?;
    refuse_odd_fields(what, contents.has_odd_text)?;
    match present(contents.text).ok_or_else(|| missing(what, "text"))? {
        Value::String(JsonString { at, is_text: true, .. }) => Ok(at),
        Value::String(_) => Err(UploadRequestError::new(
            ErrorKind::Impossible,
            format!("{what}: `text` has an unpaired surrogate in it"),
        )),
        Value::Other(_) => {
            Err(UploadRequestError::new(ErrorKind::OddType, format!("{what}: `text` is not a string")))
        }
    }
}

fn url_content(what: &str, content: Object<Contents>, texts: &[u8]) -> Result<Content, UploadRequestError> {
    let contents = object(what, content)?;
    refuse_odd_fields(what, contents.has_odd_url)?;
    let field = |name, value| {
        let value = present(value).ok_or_else(|| missing(what, name))?;
        string(&format!("{what}: `{name}`"), &value, texts)
    };
    let url = field("url", contents.url)?;
    let bucket = below("the bucket", &field("bucketName", contents.bucket)?)?;
    let file = below("the cached file", &field("fileName", contents.file)?)?;
    Ok(Content::Url { url, bucket, file })
}

fn missing(what: &str, field: &str) -> UploadRequestError {
    UploadRequestError::new(ErrorKind::Impossible, format!("{what} has no `{field}`"))
}

/// What is no object has an odd type where the original was surprised.
fn object<T>(what: &str, object: Object<T>) -> Result<T, UploadRequestError> {
    object.map_err(|other| {
        let is_shape = matches!(other, Kind::Array | Kind::String);
        let kind = if is_shape { ErrorKind::Shape } else { ErrorKind::OddType };
        UploadRequestError::new(kind, format!("{what} is not an object"))
    })
}

fn refuse_odd_fields(what: &str, has_odd_fields: bool) -> Result<(), UploadRequestError> {
    if has_odd_fields {
        let why = format!("{what} has a field twice, or one whose name is no text");
        return Err(UploadRequestError::new(ErrorKind::Shape, why));
    }
    Ok(())
}

/// Whether it is this string.
fn is(value: &Value, text: &[u8], texts: &[u8]) -> bool {
    matches!(value, Value::String(string) if texts.get(string.at.clone()) == Some(text))
}

fn string(what: &str, value: &Value, texts: &[u8]) -> Result<String, UploadRequestError> {
    let Value::String(JsonString { at, written, .. }) = value else {
        return Err(UploadRequestError::new(ErrorKind::OddType, format!("{what} is not a string")));
    };
    if *written > MAX_STRING {
        return Err(UploadRequestError::new(ErrorKind::Impossible, format!("{what} is too long")));
    }
    String::from_utf8(texts.get(at.clone()).unwrap_or_default().to_vec()).map_err(|_| {
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

#[cfg(test)]
mod tests;
