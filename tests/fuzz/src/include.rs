//! Several files that include each other, in any circle: one pipeline, or faults with their places
//! in whichever file, after a bounded number of files and bytes.

use cofferdam_jobs::{Included, Inputs, NotIncluded, Sources, parse_with, plan};

use crate::{diagnostics, graph};

/// What stands alone on a line between two files. They are called `0.yml`, `1.yml` and so on.
const BETWEEN: &[u8] = b"%%%";
/// More files are read than are ever taken in: what is one too many is found and refused.
const FOUND_MAX: usize = 64 * 1024;

fn files(input: &[u8]) -> Vec<Vec<u8>> {
    let mut files = vec![Vec::new()];
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        if line.strip_suffix(b"\n").unwrap_or(line) == BETWEEN {
            files.push(Vec::new());
        } else if let Some(file) = files.last_mut() {
            file.extend_from_slice(line);
        }
    }
    files
}

pub(crate) fn run(input: &[u8]) {
    let files = files(input);
    let mut sources = Sources::new();
    let first = files.first().map(Vec::as_slice).unwrap_or_default();
    let first = sources.add("0.yml", first);
    let mut found = 0;
    let mut find = |from: &str, path: &str| {
        assert!(from.ends_with(".yml"), "included by what is no file: {from:?}");
        found += 1;
        if path.starts_with("..") {
            return Err(NotIncluded::Outside);
        }
        let name = path.trim_start_matches("./");
        let index = name.strip_suffix(".yml").and_then(|index| index.parse::<usize>().ok());
        let bytes = index.and_then(|index| files.get(index)).cloned();
        let bytes = bytes.ok_or_else(|| NotIncluded::Unreadable("not there".to_owned()))?;
        Ok(Included { name: format!("{}.yml", index.unwrap_or_default()), bytes })
    };
    let parsed = parse_with(&mut sources, first, &mut find);
    assert!(found <= FOUND_MAX, "{found} files were asked for");
    diagnostics::check(&parsed.diagnostics, &sources);
    assert_eq!(parsed.pipeline.is_some(), !parsed.has_errors());
    let Some(pipeline) = parsed.pipeline else { return };
    assert!(!pipeline.jobs.is_empty());
    match plan(&pipeline, &Inputs::default()) {
        Ok(plan) => graph::ordered(&plan),
        Err(faults) => diagnostics::check(&faults, &sources),
    }
}
