//! Every target over every seed and everything that was ever found, without a fuzzer.

#![expect(clippy::unwrap_used, reason = "the helpers of tests may panic as tests do")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use cofferdam_fuzz::{TARGETS, Target};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let entries = entries.map(|entry| entry.unwrap().path());
    let (directories, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(directories.iter().flat_map(|directory| self::files(directory)));
    files.sort();
    files
}

fn inputs(target: &Target) -> Vec<PathBuf> {
    let own = ["seeds", "found"].map(|kind| format!("tests/fuzz/{kind}/{}", target.name));
    let own = own.iter().map(String::as_str);
    own.chain(target.seeds.iter().copied())
        .flat_map(|directory| files(&repository().join(directory)))
        .collect()
}

/// One test for all, because the memory of the whole process is counted.
#[test]
fn nothing_breaks_on_what_is_known() {
    for target in TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "`{}` has no seeds", target.name);
        target.check(b"");
        for path in inputs {
            println!("{}: {}", target.name, path.display());
            target.check(&fs::read(path).unwrap());
        }
    }
}

#[test]
fn the_dictionary_has_every_key_of_the_language() {
    let dictionary = fs::read_to_string(repository().join("tests/fuzz/dictionary")).unwrap();
    let mut keys = Vec::new();
    collect(&cofferdam_jobs::schema(), &mut keys);
    keys.sort();
    keys.dedup();
    assert!(keys.len() > 50, "{keys:?}");
    keys.retain(|key| !dictionary.contains(&format!("\"{key}:")));
    assert_eq!(keys, [""; 0], "missing in tests/fuzz/dictionary");
}

fn collect(schema: &serde_json::Value, keys: &mut Vec<String>) {
    for (name, value) in schema.as_object().into_iter().flatten() {
        if name == "properties" {
            keys.extend(value.as_object().into_iter().flatten().map(|(key, _)| key.clone()));
        }
        collect(value, keys);
    }
    for value in schema.as_array().into_iter().flatten() {
        collect(value, keys);
    }
}
