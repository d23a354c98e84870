//! The build script as a whole, as cargo calls it: with npm, without it, with an installed `node_modules`,
//! and without the feature. Its npm is a script of this test, so that no network is needed.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests may fail the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the ban is for the production crates: this runs the build script"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// An npm that installs one package, and counts how often it was called.
const NPM: &str = "#!/bin/sh\necho \"$@\" >> calls\nmkdir -p node_modules/pkg\necho 'export const a = 1;' > node_modules/pkg/pkg.mjs\n";
/// One without a network.
const OFFLINE: &str = "#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\nexit 1\n";

/// A copy of this crate's folder with a page of one package, removed at the end.
struct Checkout {
    root: PathBuf,
}

impl Checkout {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("further-link-page-{name}.{}", std::process::id()));
        let checkout = Self { root };
        checkout.write("page/modules.json", r#"{ "pkg": "pkg/pkg.mjs" }"#);
        checkout.write("page/package.json", "{}");
        checkout.write("page/package-lock.json", "{}");
        let index =
            "<!-- importmap --><!-- preload --><script type=\"module\" src=\"/page/main.js\"></script>";
        checkout.write("page/web/index.html", index);
        checkout.write("page/web/main.js", "import { a } from \"pkg\";\n");
        checkout.write("page/web/texts/en.json", "{}");
        for out in ["out", "other"] {
            fs::create_dir_all(checkout.root.join(out)).unwrap();
        }
        checkout
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Puts this npm into the only directory of `PATH` that is not the system's shell.
    fn with_npm(self, script: &str) -> Self {
        self.write("bin/npm", script);
        fs::set_permissions(self.root.join("bin/npm"), fs::Permissions::from_mode(0o755)).unwrap();
        for tool in ["mkdir", "sh"] {
            std::os::unix::fs::symlink(Path::new("/bin").join(tool), self.root.join("bin").join(tool))
                .unwrap();
        }
        self
    }

    fn build(&self, out: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(build_script());
        command.env_clear().current_dir(self.root.join("page"));
        command.env("PATH", self.root.join("bin")).env("OUT_DIR", self.root.join(out));
        command.env("CARGO_FEATURE_PAGE", "1").envs(variables.iter().copied());
        command.output().unwrap()
    }

    /// The constant, with no word of where it was made.
    fn made(&self, out: &str) -> String {
        let text = fs::read_to_string(self.root.join(out).join("page.rs")).unwrap();
        text.replace(self.root.join(out).to_str().unwrap(), "")
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.root.join("out/npm/calls")).map_or(0, |calls| calls.lines().count())
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).unwrap();
    }
}

/// The newest one: cargo has built it for this test, into `build/NAME-HASH` beside that of the output.
fn build_script() -> PathBuf {
    let builds = Path::new(env!("OUT_DIR")).ancestors().nth(2).unwrap();
    let entries = fs::read_dir(builds).unwrap().map(|entry| entry.unwrap());
    let own = entries.filter(|entry| entry.file_name().to_str().unwrap().starts_with("further-link-page-"));
    let scripts = own.map(|entry| entry.path().join("build-script-build")).filter(|path| path.exists());
    scripts.max_by_key(|path| path.metadata().unwrap().modified().unwrap()).expect("a build script")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn npm_runs_once_for_a_lock_file_and_an_installed_directory_makes_the_same_page() {
    let checkout = Checkout::new("npm").with_npm(NPM);
    let built = checkout.build("out", &[]);
    assert!(built.status.success(), "{built:?}");
    let first = checkout.made("out");
    assert!(first.starts_with("Ok(Page {") && first.contains("pkg."), "{first}");
    let calls = fs::read_to_string(checkout.root.join("out/npm/calls")).unwrap();
    assert!(calls.starts_with("ci --ignore-scripts --omit=dev"), "{calls}");
    assert!(checkout.build("out", &[]).status.success());
    assert_eq!((checkout.calls(), checkout.made("out") == first), (1, true), "npm is not called again");
    let installed = checkout.root.join("out/npm/node_modules");
    let variable = [("FURTHER_LINK_PAGE_MODULES", installed.to_str().unwrap()), ("PATH", "/nowhere")];
    assert!(checkout.build("other", &variable).status.success());
    assert_eq!(checkout.made("other"), first);
    for file in fs::read_dir(checkout.root.join("out/files")).unwrap().map(Result::unwrap) {
        let other = checkout.root.join("other/files").join(file.file_name());
        assert_eq!(fs::read(file.path()).unwrap(), fs::read(other).unwrap(), "{file:?}");
    }
    checkout.write("page/package-lock.json", "{ }");
    assert!(checkout.build("out", &[]).status.success());
    assert_eq!(checkout.calls(), 2, "another lock file");
    assert!(!checkout.root.join("page/node_modules").exists(), "nothing is written into the sources");
}

#[test]
fn without_npm_the_build_goes_on_and_says_what_to_do_unless_the_page_is_required() {
    let none = Checkout::new("none");
    let offline = Checkout::new("offline").with_npm(OFFLINE);
    for (checkout, reason) in [(&none, "npm cannot be started"), (&offline, "ENOTFOUND")] {
        let built = checkout.build("out", &[]);
        let said = text(&built.stdout);
        assert!(built.status.success() && said.contains("cargo::warning=no page is built in"), "{built:?}");
        let made = checkout.made("out");
        assert!(made.starts_with("Err(\"") && made.contains(reason), "{made}");
        assert!(
            made.contains("install Node with npm") && made.contains("FURTHER_LINK_PAGE_MODULES"),
            "{made}"
        );
        let required = checkout.build("out", &[("FURTHER_LINK_PAGE_REQUIRED", "1")]);
        assert!(
            !required.status.success() && text(&required.stdout).contains("cargo::error="),
            "{required:?}"
        );
    }
}

#[test]
fn without_the_feature_nothing_is_fetched_and_a_wrong_directory_is_an_error() {
    let checkout = Checkout::new("feature").with_npm(NPM);
    let mut command = Command::new(build_script());
    command.env_clear().current_dir(checkout.root.join("page")).env("OUT_DIR", checkout.root.join("out"));
    assert!(command.status().unwrap().success());
    let made = checkout.made("out");
    assert!(made.starts_with("Err(\"") && made.contains("without its page"), "{made}");
    assert_eq!(checkout.calls(), 0);
    let wrong = checkout.build("out", &[("FURTHER_LINK_PAGE_MODULES", "/nowhere")]);
    assert!(!wrong.status.success() && text(&wrong.stdout).contains("/nowhere/pkg/pkg.mjs"), "{wrong:?}");
}
