//! The files of the package.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{collections::HashMap, os::unix::fs::MetadataExt, path::Path};

use further_link_runners::{Folder, Trust, list};

#[test]
fn every_file_of_the_package_is_right_and_no_two_claim_an_extension() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runners.d");
    let trust = Trust::also(std::fs::metadata(&folder).unwrap().uid());
    let (runners, errors) = list(&[Folder::new(folder)], trust);
    assert!(errors.is_empty(), "{errors:?}");
    assert!(runners.len() > 20, "{}", runners.len());
    let mut owners = HashMap::new();
    for runner in &runners {
        for extension in &runner.extensions {
            assert_eq!(owners.insert(extension.clone(), &runner.id), None, "{extension} of {}", runner.id);
        }
        assert!(runner.hint.is_some() || runner.requires.is_empty(), "{} has no hint", runner.id);
        assert!(runner.tests.len() >= 3, "{} has too few tests", runner.id);
    }
}
