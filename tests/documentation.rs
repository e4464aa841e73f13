//! What the documents and help texts say is done here as a reader would do it, and holds.
//!
//! A fenced block marked `sh tour` is run, one marked `yaml NAME` is the file `NAME` of the reader's
//! project. The blocks of a document are taken in order by one shell that stops at the first command
//! that fails, so an example that no longer works fails here and not at the first reader's.

use std::{
    fmt::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    binary::{Cofferdam, Ended, fixture, program, repository, wait},
    host::{Need, needs},
};

/// Separates what the blocks printed.
const NEXT: &str = "=== next block ===";

/// A fenced block that takes part.
enum Block {
    /// Commands.
    Commands(String),
    /// A file of the reader's project.
    File { name: String, text: String },
}

/// The blocks of a document in order.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(mark) = line.strip_prefix("```") else { continue };
        let mut text = String::new();
        for line in lines.by_ref().take_while(|line| *line != "```") {
            writeln!(text, "{line}").expect("a string takes all");
        }
        match mark.split_once(' ') {
            Some(("sh", "tour")) => blocks.push(Block::Commands(text)),
            Some(("yaml", name)) => blocks.push(Block::File { name: name.to_owned(), text }),
            _ => {}
        }
    }
    blocks
}

/// A reader's project: this repository's documents and a small program.
fn project(document: &Path) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let copied = program("cp")
        .arg("-r")
        .arg(repository().join("fixtures/projects/semver/."))
        .arg(document)
        .arg(directory.path())
        .status();
    assert!(copied.expect("cp").success());
    directory
}

/// Runs the blocks of a document in a project; what each block of commands printed.
fn follow(document: &Path, project: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(document).expect("read a document");
    let aside = tempfile::tempdir().expect("a directory");
    symlink(env!("CARGO_BIN_EXE_cofferdam"), aside.path().join("cofferdam")).expect("a link");
    let mut script = String::from("set -eu\n");
    for (number, block) in blocks(&text).into_iter().enumerate() {
        match block {
            Block::Commands(commands) => writeln!(script, "{commands}echo '{NEXT}'"),
            Block::File { name, text } => {
                let kept = crate::binary::file(aside.path(), &number.to_string(), text);
                writeln!(script, "cp '{}' '{name}'", kept.display())
            }
        }
        .expect("a string takes all");
    }
    let cofferdam = Cofferdam::common().in_directory(project);
    let path = std::env::var("PATH").expect("PATH");
    let mut shell = program("sh");
    shell
        .args(["-c", &format!("exec 2>&1\n{script}")])
        .env_clear()
        .env("PATH", format!("{}:{path}", aside.path().display()))
        .env("COFFERDAM_STATE", cofferdam.state())
        .env("COFFERDAM_CONFIG", "/dev/null")
        .current_dir(project)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped());
    let ended = wait(shell.spawn().expect("start sh")).expect(0);
    ended.stdout.split(NEXT).map(str::to_owned).collect()
}

#[track_caller]
fn says(printed: &[String], block: usize, words: &[&str]) {
    let text = printed.get(block).map_or("", String::as_str);
    for word in words {
        assert!(text.contains(word), "block {block} does not say `{word}`:\n{text}");
    }
}

#[test]
fn readme() {
    needs!(Need::Containers);
    let document = repository().join("README.md");
    let project = project(&document);
    let printed = follow(&document, project.path());
    // What the container deleted is still there.
    says(&printed, 0, &["uid=0(root)", "sandbox", "README.md"]);
    assert!(project.path().join("semver").exists(), "the project was deleted");
    says(
        &printed,
        1,
        &["status 124", "disk quota of 1 MiB", "killed for memory: the limit is 32 MiB"],
    );
    says(&printed, 2, &["hello", "***"]);
    let base64_of_the_secret = "Y29ycmVjdC1ob3JzZ";
    for secret in ["correct-horse", base64_of_the_secret] {
        assert!(!printed.concat().contains(secret), "`{secret}` was printed");
    }
    says(
        &printed,
        3,
        &["`cofferdam.yml` is well-formed", "3 of 3 jobs passed", "results/artifacts/build/app"],
    );
    // The log of a job has more than the headings of its steps.
    says(&printed, 3, &["testing 1.0 for alice\n", "=== test (alice): "]);
    says(&printed, 4, &["jobs can run with hard limits"]);
    let junit = std::fs::read(project.path().join("results/junit.xml")).expect("junit.xml");
    assert_eq!(cases(&junit), 4, "a case for each step of three jobs");
}

/// The cases that a parser of XML sees in a report.
fn cases(junit: &[u8]) -> usize {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_reader(junit);
    let mut buffer = Vec::new();
    let mut found = 0;
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).expect("well-formed XML") {
            Event::Start(tag) | Event::Empty(tag) if tag.name().as_ref() == "testcase" => {
                found += 1;
            }
            Event::Eof => return found,
            _ => {}
        }
    }
}

/// Documents other than the README are followed as well, as soon as they have blocks to run.
#[test]
fn other_documents() {
    let readme = repository().join("README.md");
    for document in documents().into_iter().filter(|document| *document != readme) {
        let text = std::fs::read_to_string(&document).expect("read a document");
        if blocks(&text).iter().any(|block| matches!(block, Block::Commands(_))) {
            needs!(Need::Containers);
            follow(&document, project(&document).path());
        }
    }
}

/// Every pipeline that a document shows is without faults, also on a host that runs none.
#[test]
fn pipelines_in_documents_are_well_formed() {
    let mut checked = 0;
    for document in documents() {
        let project = tempfile::tempdir().expect("a directory");
        let text = std::fs::read_to_string(&document).expect("read a document");
        for block in blocks(&text) {
            if let Block::File { name, text } = block {
                let file = crate::binary::file(project.path(), &name, text);
                Cofferdam::new().run(["check".as_ref(), file.as_os_str()]).expect(0);
                checked += 1;
            }
        }
    }
    assert!(checked > 0, "no document shows a pipeline");
}

/// The names of the commands below a command, from its help.
fn commands(help: &Ended) -> Vec<String> {
    let list = help.stdout.lines().skip_while(|line| *line != "Commands:").skip(1);
    list.take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_an_example_in_its_help() {
    let cofferdam = Cofferdam::new();
    let mut left = vec![Vec::<String>::new()];
    let mut seen = 0;
    while let Some(path) = left.pop() {
        let help = cofferdam.run(path.iter().map(String::as_str).chain(["--help"])).expect(0);
        let below = commands(&help);
        let examples = help.stdout.split_once("\nExamples:\n").map_or("", |(_, rest)| rest);
        assert!(
            examples.contains("cofferdam "),
            "no example in `cofferdam {} --help`:\n{}",
            path.join(" "),
            help.stdout
        );
        left.extend(below.into_iter().map(|name| [&path[..], &[name]].concat()));
        seen += 1;
    }
    assert!(seen > 8, "{seen} commands were seen");
}

/// Loads the completions in a shell; `probe` prints what it knows then.
fn loads(shell: &str, probe: &str) {
    let completions = Cofferdam::new().run(["completions", shell]).expect(0).stdout;
    let directory = tempfile::tempdir().expect("a directory");
    let script = crate::binary::file(directory.path(), "completions", completions);
    let output = program(shell).args(["-c", probe]).arg(script).output().expect("start a shell");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.split_whitespace().any(|word| word == "run"), "{printed}");
}

#[test]
fn completions_load_in_bash() {
    needs!(Need::Program("bash"));
    let probe = "source \"$0\"; COMP_WORDS=(cofferdam ru); COMP_CWORD=1; \
                 _cofferdam cofferdam ru cofferdam; echo \"${COMPREPLY[@]}\"";
    loads("bash", probe);
}

#[test]
fn completions_load_in_zsh() {
    needs!(Need::Program("zsh"));
    let probe = "autoload -U compinit; compinit -D; source \"$0\"; \
                 (( $+functions[_cofferdam] )) && echo run";
    loads("zsh", probe);
}

#[test]
fn completions_load_in_fish() {
    needs!(Need::Program("fish"));
    loads("fish", "source $argv[1]; complete -C 'cofferdam ru' | string split -f1 \\t");
}

/// All documents of the repository.
fn documents() -> Vec<PathBuf> {
    let list = |directory: &str| {
        let list = std::fs::read_dir(repository().join(directory)).expect("list documents");
        let paths = list.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.extension().is_some_and(|it| it == "md")).collect::<Vec<_>>()
    };
    ["", "docs", "docs/decisions"].into_iter().flat_map(list).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("read a document");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let target = link.0.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                let path = document.parent().expect("a directory").join(target);
                assert!(path.exists(), "{}: no `{target}`", document.display());
                links += 1;
            }
        }
    }
    assert!(links > 5, "{links}");
}

/// Every Rust file below a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("list sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// What the pages on security say is tried is there to be run, by this name.
#[test]
fn tests_of_attacks_exist() {
    let mut files = Vec::new();
    for directory in ["tests", "sandbox/src", "runner/src", "jobs/tests"] {
        sources(&repository().join(directory), &mut files);
    }
    let has = |module: &str, function: &str| {
        let mut named =
            files.iter().filter(|path| path.file_stem().is_some_and(|stem| stem == module));
        named.any(|path| {
            let text = std::fs::read_to_string(path).expect("read a source");
            // Tests of a module are set in, one may be for some hosts only, or be a row of a table.
            let row = format!("{function}:");
            let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
            let function = format!("fn {function}(");
            let is_test = |above: &str| above.starts_with("#[test]") || above.starts_with("#[cfg(");
            lines.contains(&row.as_str())
                || lines.windows(2).any(|pair| {
                    matches!(pair, [above, line] if line.starts_with(&function) && is_test(above))
                })
        })
    };
    for (page, least) in [("docs/attacks.md", 100), ("docs/sandbox.md", 20)] {
        let text = std::fs::read_to_string(repository().join(page)).expect("read a page");
        let mut tests = 0;
        for row in text.lines().filter(|line| line.starts_with('|')) {
            let tried = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap_or_default();
            for name in tried.split('`').skip(1).step_by(2) {
                if let Some((module, function)) = name.split_once("::") {
                    assert!(has(module, function), "{page}: no test `{name}`");
                    tests += 1;
                } else if name.ends_with(".yml") {
                    let table = std::fs::read_to_string(fixture("pipelines/outcomes.yml"));
                    let run = format!("pipeline: {name}\n");
                    assert!(
                        table.expect("the table").contains(&run),
                        "{page}: `{name}` is not run"
                    );
                }
            }
        }
        assert!(tests >= least, "{page} names {tests} tests");
    }
}

/// Who looks for a module finds it on the map.
#[test]
fn the_map_has_every_module() {
    let map = std::fs::read_to_string(repository().join("ARCHITECTURE.md")).expect("read");
    for package in ["jobs", "sandbox", "runner"] {
        let (_, rest) = map.split_once(&format!("\n`{package}/src`\n")).expect("its part");
        let part = rest.split_once("\n\n").map_or(rest, |(part, _)| part);
        for entry in std::fs::read_dir(repository().join(package).join("src")).expect("list") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let is_module = path.is_dir() || path.extension().is_some_and(|it| it == "rs");
            if is_module && !["lib", "main", "tests"].contains(&&*name) {
                let named =
                    part.contains(&format!("`{name}`")) || part.contains(&format!("`{name}::"));
                assert!(named, "`{package}/src/{name}` is not in ARCHITECTURE.md");
            }
        }
    }
}
