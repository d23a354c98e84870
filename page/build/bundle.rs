//! Names the files of the page by their content, and puts those names into the HTML, the styles and the
//! import map. The scripts stay as they are: the import map leads their imports to the right names.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};

use crate::imports;

/// Where files lie for the browser.
const ROOT: &str = "/page/";
/// Below it, what comes of packages, by the names of `modules.json`.
const PACKAGES: &str = "/page/modules/";
/// The module that the page begins with.
const FIRST: &str = "/page/main.js";
/// Letters of the hash in a name: 64 bits.
const HASH: usize = 16;
/// Kinds of files that browsers get. Whatever else lies in `web` stays there.
const KINDS: [(&str, &str); 8] = [
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("json", "application/json"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("woff2", "font/woff2"),
    ("webmanifest", "application/manifest+json"),
];
/// Kinds that name other files of the page in quotes or in `url()`.
const REWRITTEN: [&str; 2] = ["css", "webmanifest"];

/// The page, put together.
pub(crate) struct Bundle {
    index: String,
    import_map: String,
    files: Vec<Named>,
}

/// A file with its final name.
struct Named {
    name: String,
    content_type: &'static str,
    bytes: Vec<u8>,
}

/// A package's file: its path below `node_modules`, and its content.
pub(crate) type Module = (String, Vec<u8>);

/// Puts the page together, of the folder `web` and of the packages' files by their bare names.
pub(crate) fn bundle(web: &Path, modules: BTreeMap<String, Module>) -> Result<Bundle, String> {
    let mut sources = BTreeMap::new();
    let mut bare = BTreeMap::new();
    for (name, (path, bytes)) in modules {
        let kind = extension(&path);
        let dotted = if extension(&name) == kind { name.clone() } else { format!("{name}.{kind}") };
        let address = format!("{PACKAGES}{dotted}");
        bare.insert(name, address.clone());
        sources.insert(address, bytes);
    }
    let mut index = None;
    for (path, bytes) in files(web)? {
        if path == "index.html" {
            index = Some(String::from_utf8(bytes).map_err(|error| format!("index.html: {error}"))?);
        } else if content_type(&path).is_some() && !path.ends_with(".test.js") {
            sources.insert(format!("{ROOT}{path}"), bytes);
        }
    }
    let index = index.ok_or("index.html is missing")?;
    let imported = check_imports(&sources, &bare)?;
    // First what names no other file, so that its name is known for those which do.
    let (later, mut first): (BTreeMap<_, _>, BTreeMap<_, _>) =
        sources.into_iter().partition(|(address, _)| REWRITTEN.contains(&extension(address)));
    let mut names: BTreeMap<String, String> =
        first.iter().map(|(address, bytes)| (address.clone(), hashed(address, bytes))).collect();
    for (address, bytes) in later {
        let text = String::from_utf8(bytes).map_err(|error| format!("{address}: {error}"))?;
        let text = rewritten(&address, &text, &names)?.into_bytes();
        names.insert(address.clone(), hashed(&address, &text));
        first.insert(address, text);
    }
    let map = import_map(&names, &bare);
    let source = format!("sha256-{}", STANDARD.encode(Sha256::digest(&map)));
    let preload = preload(&imported, &names);
    let index = rewritten("index.html", &index, &names)?;
    let index = marked(&index, "<!-- importmap -->", &format!("<script type=\"importmap\">{map}</script>"))?;
    let index = marked(&index, "<!-- preload -->", &preload)?;
    let mut files: Vec<Named> = first
        .into_iter()
        .filter_map(|(address, bytes)| {
            let name = names.get(&address)?.strip_prefix(ROOT)?.to_owned();
            Some(Named { name, content_type: content_type(&address)?, bytes })
        })
        .collect();
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Bundle { index, import_map: source, files })
}

impl Bundle {
    /// Writes the compressed files, and answers the constant for the library.
    pub(crate) fn write(&self, out: &Path) -> io::Result<String> {
        let directory = out.join("files");
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&directory)?,
        }
        let mut rows = String::new();
        for (number, file) in self.files.iter().enumerate() {
            let place = directory.join(format!("{number}.gz"));
            fs::write(&place, compressed(&file.bytes)?)?;
            // Writing to a string cannot fail.
            let _infallible = writeln!(
                rows,
                "File {{ name: {:?}, content_type: {:?}, gzip: include_bytes!({:?}) }},",
                file.name,
                file.content_type,
                place.to_string_lossy()
            );
        }
        Ok(format!(
            "Ok(Page {{ index: {:?}, import_map: {:?}, files: &[\n{rows}] }})",
            self.index, self.import_map
        ))
    }
}

/// All files below a directory, by their paths with `/`, sorted.
pub(crate) fn files(directory: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let unreadable = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let mut left: Vec<PathBuf> = vec![directory.to_owned()];
    let mut found = Vec::new();
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).map_err(|error| unreadable(&next, error))? {
            let path = entry.map_err(|error| unreadable(&next, error))?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(directory).map_err(|error| error.to_string())?;
                let name = name.to_str().ok_or_else(|| format!("{}: no UTF-8", path.display()))?;
                let bytes = fs::read(&path).map_err(|error| unreadable(&path, error))?;
                found.push((name.to_owned(), bytes));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What each module imports, by addresses. An import that leads nowhere is an error.
fn check_imports(
    sources: &BTreeMap<String, Vec<u8>>,
    bare: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut all = BTreeMap::new();
    for (address, bytes) in sources.iter().filter(|(address, _)| is_script(address)) {
        let text = String::from_utf8_lossy(bytes);
        let mut imported = Vec::new();
        for specifier in imports::of(&text) {
            let place = match bare.get(specifier) {
                Some(place) => place.clone(),
                None => resolved(address, specifier),
            };
            if !sources.contains_key(&place) {
                return Err(format!(
                    "{address} imports {specifier:?}, which is neither a file in page/web nor named in modules.json"
                ));
            }
            imported.push(place);
        }
        all.insert(address.clone(), imported);
    }
    Ok(all)
}

/// The address that an import means, as browsers resolve it.
fn resolved(from: &str, specifier: &str) -> String {
    if !specifier.starts_with('.') {
        return specifier.to_owned();
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in specifier.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// The import map: every bare name, and every file by the address that it has in the sources.
fn import_map(names: &BTreeMap<String, String>, bare: &BTreeMap<String, String>) -> String {
    let own = names.iter().filter(|(address, _)| !address.starts_with(PACKAGES));
    let own = own.map(|(address, name)| (address.as_str(), name.as_str()));
    let of_packages =
        bare.iter().filter_map(|(name, address)| Some((name.as_str(), names.get(address)?.as_str())));
    let imports: BTreeMap<&str, &str> = own.chain(of_packages).collect();
    serde_json::json!({ "imports": imports }).to_string()
}

/// Links that have the browser load at once what the first module imports, directly or not.
fn preload(imported: &BTreeMap<String, Vec<String>>, names: &BTreeMap<String, String>) -> String {
    let mut reached = BTreeSet::new();
    let mut left = vec![FIRST.to_owned()];
    while let Some(next) = left.pop() {
        if reached.insert(next.clone()) {
            left.extend(imported.get(&next).into_iter().flatten().cloned());
        }
    }
    let link = |name: &String| format!("<link rel=\"modulepreload\" href=\"{name}\">");
    let links: Vec<String> = reached
        .iter()
        .filter(|address| is_script(address))
        .filter_map(|address| names.get(address))
        .map(link)
        .collect();
    links.join("\n")
}

/// A text with the final names of the files that it names, in quotes or in brackets.
fn rewritten(path: &str, text: &str, names: &BTreeMap<String, String>) -> Result<String, String> {
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(ROOT) {
        let (before, from) = rest.split_at(at);
        let end = from.find(['"', '\'', ')', ' ', '\n']).unwrap_or(from.len());
        let (address, after) = from.split_at(end);
        let name = names.get(address).ok_or_else(|| format!("{path} names {address}, which is not there"))?;
        done.push_str(before);
        done.push_str(name);
        rest = after;
    }
    done.push_str(rest);
    Ok(done)
}

/// A text with a mark replaced, which has to be there once.
fn marked(text: &str, mark: &str, by: &str) -> Result<String, String> {
    match text.matches(mark).count() {
        1 => Ok(text.replace(mark, by)),
        times => Err(format!("index.html has the mark {mark} {times} times, and not once")),
    }
}

/// An address with the hash of its content before the ending: `/page/main.js` as `/page/main.HASH.js`.
/// Packages' files lie beside the own ones then.
fn hashed(address: &str, bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hash = hash.iter().take(HASH / 2).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let kind = extension(address);
    let stem = address.strip_suffix(kind).and_then(|stem| stem.strip_suffix('.')).unwrap_or(address);
    // Browsers take only some content types for scripts, and some proxies go by the ending.
    let kind = if kind == "mjs" { "js" } else { kind };
    match stem.strip_prefix(PACKAGES) {
        Some(package) => {
            let plain = package.replace(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c), "-");
            format!("{ROOT}{}.{hash:0HASH$x}.{kind}", plain.trim_matches('-'))
        }
        None => format!("{stem}.{hash:0HASH$x}.{kind}"),
    }
}

fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    // Without name and time: the same content is always the same bytes.
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    writer.write_all(bytes)?;
    writer.finish()
}

pub(crate) fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn is_script(path: &str) -> bool {
    ["js", "mjs"].contains(&extension(path))
}

fn content_type(path: &str) -> Option<&'static str> {
    KINDS.iter().find(|(kind, _)| *kind == extension(path)).map(|(_, content_type)| *content_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, removed at the end.
    struct Web(PathBuf);

    impl Web {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let web =
                Self(std::env::temp_dir().join(format!("further-link-page-{name}.{}", std::process::id())));
            for (path, text) in files {
                let path = web.0.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            web
        }
    }

    impl Drop for Web {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const INDEX: &str = "<!-- importmap --><!-- preload -->\n<link rel=\"stylesheet\" href=\"/page/style.css\">\n\
        <link rel=\"stylesheet\" href=\"/page/modules/@x/style.css\"><script type=\"module\" src=\"/page/main.js\"></script>";
    const FILES: [(&str, &str); 6] = [
        ("index.html", INDEX),
        ("style.css", "body { background: url(/page/icons/run.svg); }"),
        ("icons/run.svg", "<svg/>"),
        (
            "main.js",
            "import { e } from \"./lib/editor.js\";\nimport { T } from \"@x/term\";\nimport(\"./late.js\");\n",
        ),
        ("lib/editor.js", "import \"../late.js\";\n"),
        ("late.js", "export const late = 1;\n"),
    ];

    fn modules() -> BTreeMap<String, Module> {
        let module = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
        [
            ("@x/term".to_owned(), module("@x/term/lib/term.mjs", "export class T {}\n")),
            ("@x/style.css".to_owned(), module("@x/term/css/term.css", ".term {}\n")),
        ]
        .into()
    }

    #[test]
    fn every_name_has_the_hash_of_its_content_and_the_map_leads_there() {
        let web = Web::new("names", &FILES);
        let made = bundle(&web.0, modules()).unwrap();
        let name = |start: &str| {
            let found = made.files.iter().find(|file| file.name.starts_with(start));
            found.unwrap_or_else(|| panic!("{start}")).name.clone()
        };
        let json = made
            .index
            .split("<script type=\"importmap\">")
            .nth(1)
            .unwrap()
            .split("</script>")
            .next()
            .unwrap();
        let map: serde_json::Value = serde_json::from_str(json).unwrap();
        for (bare, file) in [
            ("/page/main.js", "main."),
            ("/page/lib/editor.js", "lib/editor."),
            ("/page/icons/run.svg", "icons/run."),
            ("@x/term", "x-term."),
        ] {
            assert_eq!(map["imports"][bare], format!("/page/{}", name(file)), "{json}");
        }
        assert!(made.index.contains(&format!("src=\"/page/{}\"", name("main."))), "{}", made.index);
        assert!(made.index.contains(&format!("href=\"/page/{}\"", name("style."))), "{}", made.index);
        let style = made.files.iter().find(|file| file.name.starts_with("style.")).unwrap();
        assert!(
            String::from_utf8_lossy(&style.bytes).contains(&format!("url(/page/{})", name("icons/run.")))
        );
        let preloaded = made.index.matches("modulepreload").count();
        assert_eq!(preloaded, 4, "main, editor, late by the editor, and the package: {}", made.index);
        assert_eq!(made.import_map, format!("sha256-{}", STANDARD.encode(Sha256::digest(json))));
    }

    #[test]
    fn the_same_sources_make_the_same_bytes_and_a_changed_one_changes_its_name_only() {
        let (one, other) = (Web::new("one", &FILES), Web::new("other", &FILES));
        let names = |made: &Bundle| made.files.iter().map(|file| file.name.clone()).collect::<BTreeSet<_>>();
        let (first, second) = (bundle(&one.0, modules()).unwrap(), bundle(&other.0, modules()).unwrap());
        assert_eq!((&first.index, names(&first)), (&second.index, names(&second)));
        let written = |made: &Bundle, out: &Path| {
            let source = made.write(out).unwrap().replace(out.to_str().unwrap(), "");
            (source, files(&out.join("files")).unwrap())
        };
        let (one_out, other_out) = (one.0.with_extension("out"), other.0.with_extension("out"));
        assert!(written(&first, &one_out) == written(&second, &other_out));
        for out in [one_out, other_out] {
            fs::remove_dir_all(out).unwrap();
        }
        fs::write(other.0.join("late.js"), "export const late = 2;\n").unwrap();
        let third = bundle(&other.0, modules()).unwrap();
        assert_eq!(names(&first).difference(&names(&third)).count(), 1);
    }

    #[test]
    fn what_leads_nowhere_is_an_error_that_names_it() {
        for (path, text, named) in [
            ("main.js", "import \"./gone.js\";\n", "./gone.js"),
            ("main.js", "import { x } from \"unknown\";\n", "unknown"),
            ("style.css", "a { background: url(\"/page/gone.svg\") }", "/page/gone.svg"),
            ("index.html", "<!-- importmap --> and no other mark", "<!-- preload -->"),
        ] {
            let web = Web::new("broken", &FILES);
            fs::write(web.0.join(path), text).unwrap();
            let error = bundle(&web.0, modules()).err().unwrap_or_else(|| panic!("{path}: {text}"));
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn tests_and_types_are_not_for_browsers() {
        let more = [("main.test.js", "x"), ("types.d.ts", "x"), ("README.md", "x")];
        let web = Web::new("kinds", &[&FILES[..], &more[..]].concat());
        let made = bundle(&web.0, modules()).unwrap();
        assert!(made.files.iter().all(|file| !file.name.contains("test") && !file.name.contains("types")));
    }
}
