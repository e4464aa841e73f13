//! Hostile pipeline files: refused with 65 and a message, in bounded time and memory.
//!
//! They are made here, so that the repository need not hold megabytes of them.

use std::{fmt::Write as _, io::Write as _, time::Duration};

use crate::binary::{Cofferdam, file, fixture, program, wait};

/// Address space that `check` may take for any of them: the largest file is 2 MiB.
const MEMORY_KIB: u32 = 512 * 1024;
/// Processor time that `check` may take for any of them, in seconds: a slow machine does not count.
const PROCESSOR_SECONDS: u32 = 10;

const JOB: &str = "jobs: { a: { steps: [{ run: \"true\" }] } }\n";

/// Odd, within every bound, and without a meaning that could do harm: accepted.
const HARMLESS: [&str; 4] =
    ["control-characters-in-a-name", "directive-unknown", "glob-explodes", "keys-many"];

#[test]
fn hostile_pipelines() {
    let directory = tempfile::tempdir().expect("a directory");
    let cofferdam = Cofferdam::new().in_directory(directory.path());
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(fixture("hostile/messages"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let mut failed = Vec::new();
    for (name, text) in cases() {
        file(directory.path(), "cofferdam.yml", &text);
        let mut bounded = program("sh");
        bounded
            .arg("-c")
            .arg(format!("ulimit -v {MEMORY_KIB}; ulimit -t {PROCESSOR_SECONDS}; exec \"$@\""))
            .arg("sh")
            .arg(env!("CARGO_BIN_EXE_cofferdam"))
            .arg("check")
            .env("COFFERDAM_STATE", cofferdam.state())
            .env("COFFERDAM_CONFIG", "/dev/null")
            .current_dir(directory.path())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let ended = wait(bounded.spawn().expect("start cofferdam"));
        let same = settings.bind(|| {
            std::panic::catch_unwind(|| insta::assert_snapshot!(name, shortened(&ended.text())))
        });
        let expected = if HARMLESS.contains(&name) { 0 } else { 65 };
        if ended.status != expected || same.is_err() {
            failed.push(format!("{name}: exit status {}, {:?}", ended.status, ended.took));
        }
        assert!(ended.text().len() < 64 * 1024, "{name}: a message of {}", ended.text().len());
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// No line of a message repeats more than this of a hostile file.
fn shortened(message: &str) -> String {
    let longest = message.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    format!("longest line under 400 characters: {}\n{message}", longest < 400)
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: String| text.into_bytes();
    vec![
        ("alias-bomb", text(alias_bomb("[", "]", ""))),
        ("alias-bomb-in-mappings", text(alias_bomb("{ x: ", " }", ", y: "))),
        ("merge-bomb", text(merge_bomb())),
        ("alias-to-itself", text(format!("env: &e {{ A: *e }}\n{JOB}"))),
        ("aliases-many", text(many_aliases())),
        (
            "nested-flow-sequences",
            text(format!("name: {}{}\n", "[".repeat(100_000), "]".repeat(100_000))),
        ),
        ("nested-flow-unclosed", text("[".repeat(500_000))),
        (
            "nested-flow-mappings",
            text(format!("{}1{}\n", "{a: ".repeat(50_000), "}".repeat(50_000))),
        ),
        ("nested-block", text(nested_block(600))),
        (
            "nested-just-too-deep",
            text(format!("name: {}{}\n{JOB}", "[".repeat(70), "]".repeat(70))),
        ),
        ("scalar-huge", text(format!("name: {}\n{JOB}", "x".repeat(2 << 20)))),
        ("scalar-long-word-as-key", text(format!("{}: 1\n{JOB}", "k".repeat(100_000)))),
        ("comment-huge", text(format!("# {}\n{JOB}", "x".repeat(2 << 20)))),
        ("nodes-many", text(format!("name: [{}]\n{JOB}", "1,".repeat(300_000)))),
        ("keys-many", text(many_keys())),
        ("jobs-many", text(many_jobs())),
        ("faults-many", text(many_faults())),
        (
            "key-twice-deep",
            text("jobs: { a: { steps: [{ run: x, env: { A: 1, A: 2 } }] } }\n".to_owned()),
        ),
        (
            "key-twice-in-two-spellings",
            text(format!("\"name\": a\n\"na\\x6de\": b\nname: c\n{JOB}")),
        ),
        ("key-is-a-mapping", text(format!("? {{ a: b }}\n: c\n{JOB}"))),
        ("key-is-null", text(format!("~: x\n{JOB}"))),
        ("tag-python-object", text("jobs: !!python/object/apply:os.system [id]\n".to_owned())),
        ("tag-local", text("jobs: !include /etc/passwd\n".to_owned())),
        ("tag-binary", text(format!("name: !!binary aGVsbG8=\n{JOB}"))),
        ("tag-uri", text(format!("name: !<tag:example.org,2026:x> y\n{JOB}"))),
        ("directive-unknown", text(format!("%FOO bar\n---\n{JOB}"))),
        ("nul", b"name: a\0b\njobs: {}\n".to_vec()),
        ("invalid-utf-8", b"name: \xff\xfe\xfd\njobs: {}\n".to_vec()),
        ("utf-8-overlong", b"name: \xc0\xaf\njobs: {}\n".to_vec()),
        ("utf-16", "jobs: {}\n".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("control-characters-in-a-name", text(format!("name: \"\\e]0;owned\\a\"\n{JOB}"))),
        ("escape-sequence-in-a-key", b"\x1b[2Jnmae: x\njobs: {}\n".to_vec()),
        ("bidirectional-override-in-a-key", text(format!("na\u{202e}me: x\n{JOB}"))),
        (
            "number-huge",
            text(format!(
                "jobs: {{ a: {{ limits: {{ pids: {} }}, steps: [{{ run: x }}] }} }}\n",
                "9".repeat(5000)
            )),
        ),
        (
            "number-hexadecimal",
            text("jobs: { a: { limits: { pids: 0x10 }, steps: [{ run: x }] } }\n".to_owned()),
        ),
        ("needs-deep-cycle", text(deep_cycle())),
        ("matrix-product-overflows", text(matrix_bomb())),
        (
            "expression-long",
            text(format!(
                "jobs: {{ a: {{ if: \"{}true\", steps: [{{ run: x }}] }} }}\n",
                "!".repeat(200_000)
            )),
        ),
        (
            "expression-many-operands",
            text(format!(
                "jobs: {{ a: {{ if: \"true{}\", steps: [{{ run: x }}] }} }}\n",
                " && true".repeat(50_000)
            )),
        ),
        (
            "glob-explodes",
            text(format!(
                "jobs: {{ a: {{ steps: [{{ run: x }}], artifacts: {{ paths: [\"{}\"] }} }} }}\n",
                "{a,b}".repeat(40)
            )),
        ),
        ("only-a-byte-order-mark", "\u{feff}".as_bytes().to_vec()),
        (
            "image-name-huge",
            text(format!(
                "jobs: {{ a: {{ image: {}, steps: [{{ run: x }}] }} }}\n",
                "i".repeat(10_000)
            )),
        ),
    ]
}

fn alias_bomb(open: &str, close: &str, join: &str) -> String {
    let join = if join.is_empty() { "," } else { join };
    let mut text = "a0: &a0 x\n".to_owned();
    for level in 1..30 {
        let below = level - 1;
        writeln!(text, "a{level}: &a{level} {open}*a{below}{join}*a{below}{close}").expect("write");
    }
    text + JOB
}

fn merge_bomb() -> String {
    let mut text = "m0: &m0 { k: v }\n".to_owned();
    for level in 1..40 {
        let below = level - 1;
        writeln!(
            text,
            "m{level}: &m{level}\n  <<: [*m{below}, *m{below}]\n  k{level}: {{ <<: *m{below} }}"
        )
        .expect("write");
    }
    text + JOB
}

fn many_aliases() -> String {
    format!("name: &n text\nenv: [{}]\n{JOB}", "*n,".repeat(100_000))
}

fn nested_block(depth: usize) -> String {
    (0..depth).fold(String::new(), |mut text, level| {
        writeln!(text, "{}a:", " ".repeat(level)).expect("write");
        text
    })
}

fn many_keys() -> String {
    let mut text = "env:\n".to_owned();
    for key in 0..60_000 {
        writeln!(text, "  K{key}: {key}").expect("write");
    }
    text + JOB
}

fn many_jobs() -> String {
    let mut text = "jobs:\n".to_owned();
    for job in 0..60_000 {
        writeln!(text, "  j{job}: {{ steps: [ ] }}").expect("write");
    }
    text
}

/// Each of them is a fault, and each has thousands of names that could have been meant.
fn many_faults() -> String {
    let mut text = "jobs:\n".to_owned();
    for job in 0..5_000 {
        writeln!(text, "  j{job}: {{ stps: [x], needs: [k{job}] }}").expect("write");
    }
    text
}

fn deep_cycle() -> String {
    let mut text = "jobs:\n".to_owned();
    for job in 0..4_000 {
        let next = (job + 1) % 4_000;
        writeln!(text, "  j{job}: {{ needs: [j{next}], steps: [{{ run: x }}] }}").expect("write");
    }
    text
}

fn matrix_bomb() -> String {
    let axes: Vec<_> = (0..40).map(|axis| format!("a{axis}: [1, 2, 3, 4]")).collect();
    format!("jobs: {{ a: {{ matrix: {{ {} }}, steps: [{{ run: x }}] }} }}\n", axes.join(", "))
}

/// A pipeline that never ends is read up to the size limit and no further.
#[test]
fn endless_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("cofferdam.yml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("make a pipe");
    let cofferdam = Cofferdam::new().in_directory(directory.path());
    let child = cofferdam.command(["check"]).spawn().expect("start cofferdam");
    // The writer ends with a broken pipe as soon as nobody reads on.
    let writer = std::thread::spawn(move || {
        let mut file = nix::fcntl::open(
            &pipe,
            nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NONBLOCK,
            nix::sys::stat::Mode::empty(),
        )
        .map(std::fs::File::from)
        .expect("open the pipe");
        let deadline = std::time::Instant::now() + crate::binary::PATIENCE;
        while std::time::Instant::now() < deadline && pipe.exists() {
            if file.write_all(&[b'#'; 4096]).is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let ended = wait(child);
    assert!([65, 66].contains(&ended.status), "{}", ended.text());
    drop(directory);
    writer.join().expect("writer");
}
