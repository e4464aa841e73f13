//! Archives that attack whoever unpacks them. Each case says what must come of it; a directory
//! beside the store stands for the host, and nothing in it may change.

mod bombs;
mod kinds;
mod links;
mod names;
mod parsing;
mod sparse;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use super::fixture::{Bench, listing, message, owned};
use crate::{
    Fault,
    image::{Image, ImportOptions},
};

enum Expect {
    /// The import fails as the image's fault, and the message holds this.
    Refused(&'static str),
    /// The layer holds exactly this.
    Unpacks(&'static str),
}
use Expect::{Refused, Unpacks};

struct Case {
    name: &'static str,
    archive: Vec<u8>,
    expect: Expect,
    options: ImportOptions,
}

fn case(name: &'static str, archive: Vec<u8>, expect: Expect) -> Case {
    Case { name, archive, expect, options: ImportOptions::default() }
}

fn limited(
    name: &'static str,
    archive: Vec<u8>,
    expect: Expect,
    limit: impl FnOnce(&mut crate::image::ImportLimits),
) -> Case {
    let mut case = case(name, archive, expect);
    limit(&mut case.options.limits);
    case
}

/// Runs every case in a store of its own beside the victim that `cases` is told the path of.
fn check(cases: impl Fn(&str) -> Vec<Case>) {
    let bench = Bench::new();
    let victim = bench.path("victim");
    fs::create_dir_all(victim.join("sub")).unwrap();
    fs::write(victim.join("file"), "untouched").unwrap();
    fs::write(victim.join("sub/file"), "untouched").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o750)).unwrap();
    let before = state(&victim);
    let mut failures = Vec::new();
    for Case { name, archive, expect, options } in cases(victim.to_str().unwrap()) {
        let path = bench.source(&archive);
        let outcome = bench.import_with(&path, &options);
        match (outcome, expect) {
            (Err(error), Refused(part)) => {
                let text = message(&error);
                if !text.contains(part) || error.fault() != Fault::Pipeline {
                    failures.push(format!("{name}: refused for another reason: {text}"));
                }
            }
            (Ok(image), Unpacks(expected)) => {
                let found = listing(&image.layers[0].path);
                if found != owned(expected) {
                    failures.push(format!("{name}: unpacked to\n{found}\nand not to\n{expected}"));
                }
                if let Some(why) = differs(&image, &archive) {
                    failures.push(format!("{name}: {why}"));
                }
            }
            (Ok(image), Refused(part)) => failures.push(format!(
                "{name}: not refused for `{part}`, unpacked to\n{}",
                listing(&image.layers[0].path)
            )),
            (Err(error), Unpacks(_)) => {
                failures.push(format!("{name}: refused: {}", message(&error)));
            }
        }
        if state(&victim) != before {
            failures.push(format!("{name}: the victim changed"));
        }
        bench.assert_whole();
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Whether the archive is not made again, byte for byte, of what was unpacked. Compressed ones are
/// compared by the layer's own digest alone.
fn differs(image: &Image, archive: &[u8]) -> Option<String> {
    let mut again = Vec::new();
    match image.layers[0].write_archive(&mut again) {
        Err(error) => Some(format!("not made again: {}", message(&error))),
        Ok(()) if archive.starts_with(&[0x1f, 0x8b]) || archive.starts_with(&[0x28, 0xb5]) => None,
        Ok(()) => (again != archive).then(|| "made again as another archive".to_owned()),
    }
}

/// All that could change of the victim.
fn state(path: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut next = vec![path.to_owned()];
    while let Some(path) = next.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        lines.push(format!(
            "{} {:o} {}:{} {} {} {content:?} {:?}",
            path.display(),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.nlink(),
            metadata.mtime_nsec(),
            metadata.modified().unwrap(),
        ));
        if metadata.is_dir() {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}
