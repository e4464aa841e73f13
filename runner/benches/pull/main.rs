//! Pulling an image of about 300 MB in 20 000 files and 5 layers from a registry on loopback to
//! ready to start, and importing it from a file, beside what bounds it and beside other tools.
//!
//!     cargo bench -p cofferdam --bench pull -- [ROUNDS]
//!
//! Needs `docker-registry`, `skopeo` and `zstd`. `umoci` is measured where it is installed, `docker`
//! and `podman` where `docker info` and `podman info` succeed. All run in turns, so that a noisy
//! machine is noisy for all; the table has medians. What is written is synced to disk by all: the
//! store does so by itself, the others are followed by `sync`.
//!
//! The bound is the slower of decompressing the largest layer, with the decompressor that the store
//! uses, and of writing the files with their modes and times and syncing them, each on one thread.
//!
//! Nothing but what the engines pull again is removed before the end, and `TMPDIR` (and their
//! storage) should be on a file system with a journal: an ext4 without one is slow at making files
//! for minutes after many were removed.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark drives programs as a user does, and ends where one fails"
)]

mod image;
mod registry;

use std::{
    cell::Cell,
    fs::{self, File, FileTimes, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use registry::Registry;

/// Rows that are no bound come after so many.
const BOUNDS: usize = 2;

fn main() {
    let rounds: usize = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(5);
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    println!("making the image");
    let archives = image::make_layers(root);
    let registry = Registry::start(root);
    let layouts = ["gzip", "zstd"].map(|kind| image::make_layout(root, &archives, kind));
    let names = ["gzip", "zstd"].map(|kind| format!("127.0.0.1:{}/bench:{kind}", registry.port));
    for (layout, name) in layouts.iter().zip(&names) {
        run(skopeo(&format!("oci:{}", layout.display()), &format!("docker://{name}")));
    }
    let archive = image::make_docker_archive(root, &archives, "bench:loaded");
    let configuration = root.join("config.yml");
    let insecure =
        format!("registries: {{ '127.0.0.1:{}': {{ insecure: true }} }}\n", registry.port);
    fs::write(&configuration, insecure).expect("write");

    let count = Cell::new(0_usize);
    let fresh = |what: &str| {
        count.set(count.get() + 1);
        root.join(format!("{what}-{}", count.get()))
    };
    let mut subjects = bounds(&archives, &fresh);
    subjects.extend(ours(&configuration, &names, &layouts, &archive, &fresh));
    if works(Command::new("umoci").arg("--version")) {
        let image = format!("{}:bench", root.join("layout-gzip").display());
        let fresh = &fresh;
        let unpack = move || {
            let mut unpack = Command::new("umoci");
            synced(unpack.args(["unpack", "--image", &image]).arg(fresh("bundle")))
        };
        subjects.push(("`umoci unpack`", Box::new(unpack)));
    }
    subjects.extend(engines(&names, &archive));

    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); subjects.len()];
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        for (subject, times) in subjects.iter().zip(&mut times) {
            times.push((subject.1)());
        }
    }
    let medians: Vec<f64> = times
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64)
        })
        .collect();
    let bound = medians.iter().take(BOUNDS).copied().fold(0.0, f64::max);
    println!("\n| what | median | to the slower of the first two |\n|---|---|---|");
    for ((what, _), median) in subjects.iter().zip(&medians) {
        println!("| {what} | {median:.2} s | {:.2} |", median / bound);
    }
    // The number of the first state directory that was made: after that of the raw write.
    let recipes: u64 = disk(&root.join("state-2/store/layers"), "archive.zst");
    let compressed: u64 =
        archives.iter().map(|it| it.with_extension("tar.gz")).map(|it| size(&it)).sum();
    let plain: u64 = archives.iter().map(|it| size(it)).sum();
    println!(
        "\narchives {plain} bytes, compressed {compressed}, their recipes in the store {recipes}"
    );
}

type Subject<'a> = (&'static str, Box<dyn Fn() -> Duration + 'a>);
/// A path that is not there yet.
type Fresh<'a> = &'a dyn Fn(&str) -> PathBuf;

fn bounds<'a>(archives: &'a [PathBuf], fresh: Fresh<'a>) -> Vec<Subject<'a>> {
    let largest = archives.first().expect("a layer").with_extension("tar.gz");
    vec![
        ("decompressing the largest layer, gzip, one thread", {
            Box::new(move || decompress(&largest))
        }),
        ("raw write of the files, one thread", {
            Box::new(move || raw_write(&fresh("raw"), archives))
        }),
    ]
}

fn ours<'a>(
    configuration: &'a Path,
    [gzip, zstd]: &'a [String; 2],
    [gzip_layout, zstd_layout]: &'a [PathBuf; 2],
    archive: &'a Path,
    fresh: Fresh<'a>,
) -> Vec<Subject<'a>> {
    let cofferdam = move |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("image").args(arguments);
        command.env("COFFERDAM_STATE", fresh("state")).env("COFFERDAM_CONFIG", configuration);
        timed(command.stdout(Stdio::null()).stderr(Stdio::null()))
    };
    let import = move |path: &Path| cofferdam(&["import", &path.to_string_lossy(), "bench:1"]);
    vec![
        ("`cofferdam image pull`, gzip", Box::new(move || cofferdam(&["pull", gzip]))),
        ("`cofferdam image pull`, zstd", Box::new(move || cofferdam(&["pull", zstd]))),
        ("`cofferdam image import`, layout, gzip", Box::new(move || import(gzip_layout))),
        ("`cofferdam image import`, layout, zstd", Box::new(move || import(zstd_layout))),
        ("`cofferdam image import`, docker archive, gzip", Box::new(move || import(archive))),
    ]
}

/// What these pulled or loaded before is removed first, for they keep layers, too.
fn engines<'a>([gzip, zstd]: &'a [String; 2], archive: &'a Path) -> Vec<Subject<'a>> {
    let rows = [
        ("`docker pull`, gzip", "docker", Some(gzip)),
        ("`docker load`, gzip", "docker", None),
        ("`podman pull`, gzip", "podman", Some(gzip)),
        ("`podman pull`, zstd", "podman", Some(zstd)),
        ("`podman load`, gzip", "podman", None),
    ];
    let mut subjects: Vec<Subject<'a>> = Vec::new();
    for (title, engine, name) in rows {
        if !works(Command::new(engine).arg("info")) {
            continue;
        }
        let bring = move || {
            for name in [gzip, zstd, "bench:loaded", "localhost/bench:loaded"] {
                let remove = ["image", "rm", "--force", name];
                Command::new(engine).args(remove).output().expect("remove the image");
            }
            let mut bring = Command::new(engine);
            match name {
                Some(name) => {
                    bring.args(["pull", "--quiet"]);
                    if engine == "podman" {
                        bring.arg("--tls-verify=false");
                    }
                    bring.arg(name)
                }
                None => bring.args(["load", "--quiet", "--input"]).arg(archive),
            };
            synced(&mut bring)
        };
        subjects.push((title, Box::new(bring)));
    }
    subjects
}

/// Decompresses as the store does, and throws it away.
fn decompress(path: &Path) -> Duration {
    let file = io::BufReader::with_capacity(256 * 1024, File::open(path).expect("open"));
    let started = Instant::now();
    let mut decoder = flate2::bufread::MultiGzDecoder::new(file);
    let mut buffer = vec![0; 128 * 1024];
    while decoder.read(&mut buffer).expect("decompress") > 0 {}
    started.elapsed()
}

/// The bytes of all files of this name in the directories two levels down.
fn disk(layers: &Path, name: &str) -> u64 {
    let children = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let paths = children(layers).into_iter().flat_map(|kind| children(&kind));
    paths.filter_map(|layer| layer.join(name).metadata().ok()).map(|found| found.len()).sum()
}

/// Writes what is in the archives, from memory, on one thread, with modes and times, and syncs it.
fn raw_write(target: &Path, archives: &[PathBuf]) -> Duration {
    let contents: Vec<Vec<u8>> =
        archives.iter().map(|archive| fs::read(archive).expect("read")).collect();
    fs::create_dir_all(target).expect("make a directory");
    let started = Instant::now();
    for content in &contents {
        let mut archive = tar::Archive::new(content.as_slice());
        for entry in archive.entries().expect("entries") {
            let entry = entry.expect("an entry");
            let header = entry.header();
            let path = target.join(entry.path().expect("a path"));
            if header.entry_type().is_dir() {
                fs::create_dir_all(path).expect("make a directory");
                continue;
            }
            let position = usize::try_from(entry.raw_file_position()).expect("a position");
            let size = usize::try_from(entry.size()).expect("a size");
            let bytes = content.get(position..position + size).expect("its content");
            let mode = header.mode().expect("a mode");
            let time = Duration::from_secs(header.mtime().expect("a time"));
            let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + time);
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(mode).open(path);
            file.and_then(|mut file| {
                file.write_all(bytes)?;
                file.set_times(times)
            })
            .expect("write");
        }
    }
    run(Command::new("sync").arg("-f").arg(target));
    started.elapsed()
}

fn timed(command: &mut Command) -> Duration {
    let started = Instant::now();
    run(command);
    started.elapsed()
}

/// The command, and what it wrote on disk.
fn synced(command: &mut Command) -> Duration {
    let started = Instant::now();
    run(command.stdout(Stdio::null()).stderr(Stdio::null()));
    run(&mut Command::new("sync"));
    started.elapsed()
}

fn run(command: impl std::borrow::BorrowMut<Command>) {
    let mut command = command;
    let command = command.borrow_mut();
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn size(path: &Path) -> u64 {
    path.metadata().expect("metadata").len()
}

fn skopeo(from: &str, to: &str) -> Command {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", from, to]);
    command
}
