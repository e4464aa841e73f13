//! A Dockerfile through reader, selection of stages and variables: any fault has its place, stages
//! come after what they need, and no word grows beyond its bound.

use cofferdam_jobs::{
    Sources,
    diagnostic::Report,
    dockerfile::{Dockerfile, Kind, Request, Scope, Word, parse, parse_trigger, select},
};

use crate::diagnostics;

/// The longest word with its variables put in.
const WORD_MAX: usize = 64 << 10;

pub(crate) fn run(input: &[u8]) {
    let mut sources = Sources::new();
    let file = sources.add("Dockerfile", input);
    let (_, faults) = parse_trigger(&sources, file);
    diagnostics::check(&faults, &sources);
    let read = parse(&sources, file);
    diagnostics::check(&read.diagnostics, &sources);
    let Some(dockerfile) = read.dockerfile else {
        assert!(!read.diagnostics.is_empty(), "refused without a reason");
        return;
    };
    assert!(!dockerfile.stages.is_empty(), "no stages and no fault");
    let mut report = Report::new();
    let request = Request { platform: "linux/amd64".to_owned(), ..Request::default() };
    let selection = select(&dockerfile, &request, &mut report);
    let faults = report.finish();
    diagnostics::check(&faults, &sources);
    match selection {
        Some(selection) => {
            let mut built = Vec::new();
            for stage in &selection.stages {
                assert!(stage.needs.iter().all(|need| built.contains(need)), "{selection:?}");
                built.push(stage.stage);
            }
            assert_eq!(built.last(), Some(&(dockerfile.stages.len() - 1)), "not the target");
        }
        None => assert!(!faults.is_empty(), "nothing to build without a reason"),
    }
    expanded(&dockerfile, &sources);
}

/// All words of a file, with variables that double whenever they are set.
fn expanded(dockerfile: &Dockerfile, sources: &Sources) {
    let mut scope = Scope::new(dockerfile.escape);
    let mut report = Report::new();
    let mut expand = |scope: &Scope, word: &Word| {
        let text = scope.expand(word, &mut report);
        assert!(text.as_ref().is_none_or(|text| text.len() <= WORD_MAX), "{text:?}");
        text
    };
    for instruction in dockerfile.stages.iter().flat_map(|stage| &stage.instructions) {
        match &instruction.kind {
            Kind::Argument(arguments) => {
                for argument in arguments {
                    let default = argument.default.as_ref().and_then(|word| expand(&scope, word));
                    scope.set_argument(&argument.name.value, default.as_deref().unwrap_or("x"));
                }
            }
            Kind::Environment(all) | Kind::Label(all) => {
                for assignment in all {
                    let (key, value) =
                        (expand(&scope, &assignment.key), expand(&scope, &assignment.value));
                    if let (Some(key), Some(value)) = (key, value) {
                        scope.set_environment(&key, &value);
                    }
                }
            }
            Kind::Copy(copy) => {
                for word in copy.sources.iter().chain([&copy.destination]) {
                    expand(&scope, word);
                }
                for file in &copy.inline {
                    expand(&scope, &file.content);
                }
            }
            Kind::Workdir(word) | Kind::User(word) | Kind::StopSignal(word) => {
                expand(&scope, word);
            }
            _ => {}
        }
    }
    diagnostics::check(&report.finish(), sources);
}
