//! The page that a browser gets at `/`, as constants: the build script has put it together of `web` and of
//! the packages in `modules.json`. The frontend serves it; README.md says how it is made.

/// The page as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The HTML. It has the marks `{{nonce}}` and `{{device}}`, which the server replaces.
    pub index: &'static str,
    /// The source that lets its import map run under a content security policy: `sha256-…`.
    pub import_map: &'static str,
    /// Everything else, sorted by name.
    pub files: &'static [File],
}

/// A file below `/page/`. Its name has the hash of its content, so it never changes.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// The name: `main.0123456789abcdef.js`.
    pub name: &'static str,
    /// What it is, for the browser.
    pub content_type: &'static str,
    /// The content, compressed with gzip.
    pub gzip: &'static [u8],
}

impl Page {
    /// The file with this name.
    pub fn file(&self, name: &str) -> Option<&'static File> {
        let place = self.files.binary_search_by(|file| file.name.cmp(name)).ok()?;
        self.files.get(place)
    }
}

/// The page, or a sentence for people about what was missing when this was built.
pub static PAGE: Result<Page, &str> = include!(concat!(env!("OUT_DIR"), "/page.rs"));

// What only the build script calls is tested here.
#[cfg(test)]
#[path = "../build/bundle.rs"]
mod bundle;
#[cfg(test)]
#[path = "../build/imports.rs"]
mod imports;
#[cfg(test)]
#[path = "../build/texts.rs"]
mod texts;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_their_whole_names_only() {
        let Ok(page) = &PAGE else { return eprintln!("SKIPPED: this was built without the page") };
        assert!(page.files.is_sorted_by_key(|file| file.name));
        for file in page.files {
            assert!(page.file(file.name).is_some_and(|found| found.gzip == file.gzip));
            assert!(page.file(&file.name[1..]).is_none());
        }
        assert!(page.file("").is_none());
    }
}
