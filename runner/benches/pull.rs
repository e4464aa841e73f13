//! Pulling an image of about 300 MB in 20 000 files and 5 layers from a registry on loopback to
//! ready to start, beside what bounds it and beside other tools.
//!
//!     cargo bench -p cofferdam --bench pull -- [ROUNDS]
//!
//! Needs `docker-registry`, `skopeo` and `zstd`. `umoci` is measured where it is installed, `docker`
//! and `podman` where `docker info` and `podman info` succeed. All run in turns, so that a noisy
//! machine is noisy for all; the table has medians. What is written is synced to disk by all: the
//! store does so by itself, the others are followed by `sync`.
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

use std::{
    cell::Cell,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const LAYERS: usize = 5;
/// Files of each layer and their size: the first layer is the largest, as base images are.
const SHAPE: [(usize, usize); LAYERS] =
    [(8000, 20_000), (6000, 10_000), (4000, 10_000), (1900, 10_000), (100, 200_000)];

fn main() {
    let rounds: usize = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(5);
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    println!("making the image");
    let archives: Vec<PathBuf> = (0..LAYERS).map(|layer| make_layer(root, layer)).collect();
    let registry = Registry::start(root);
    let layouts = ["gzip", "zstd"].map(|kind| make_layout(root, &archives, kind));
    let names = ["gzip", "zstd"].map(|kind| format!("127.0.0.1:{}/bench:{kind}", registry.port));
    for (layout, name) in layouts.iter().zip(&names) {
        run(skopeo(&format!("oci:{}", layout.display()), &format!("docker://{name}")));
    }
    let [gzip, zstd] = &names;
    let configuration = root.join("config.yml");
    let insecure =
        format!("registries: {{ '127.0.0.1:{}': {{ insecure: true }} }}\n", registry.port);
    fs::write(&configuration, insecure).expect("write");

    let largest = archives.first().expect("a layer").with_extension("tar.gz");
    let count = Cell::new(0_usize);
    let fresh = |what: &str| {
        count.set(count.get() + 1);
        root.join(format!("{what}-{}", count.get()))
    };
    let mut subjects: Vec<Subject<'_>> = Vec::new();
    subjects.push((
        "gzip -d of the largest layer",
        Box::new(|| {
            let file = File::open(&largest).expect("open");
            timed(Command::new("gzip").arg("-dc").stdin(file).stdout(Stdio::null()))
        }),
    ));
    subjects.push(("raw write of the files", Box::new(|| raw_write(&fresh("raw"), &archives))));
    for (title, name) in [("cofferdam image pull", gzip), ("the same, zstd", zstd)] {
        let (configuration, fresh) = (&configuration, &fresh);
        let pull = move || {
            let mut pull = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
            pull.args(["image", "pull", "--quiet", name]);
            pull.env("COFFERDAM_STATE", fresh("state")).env("COFFERDAM_CONFIG", configuration);
            timed(pull.stdout(Stdio::null()))
        };
        subjects.push((title, Box::new(pull)));
    }
    if works(Command::new("umoci").arg("--version")) {
        subjects.push((
            "umoci unpack (no download)",
            Box::new(|| {
                let image = format!("{}:bench", root.join("layout-gzip").display());
                let mut unpack = Command::new("umoci");
                unpack.args(["unpack", "--image", &image]).arg(fresh("bundle"));
                synced(&mut unpack)
            }),
        ));
    }
    for (title, engine, name) in [
        ("docker pull", "docker", gzip),
        ("podman pull", "podman", gzip),
        ("podman pull, zstd", "podman", zstd),
    ] {
        if works(Command::new(engine).arg("info")) {
            subjects.push((
                title,
                Box::new(move || {
                    // Both, because they have the same layers.
                    let remove = ["image", "rm", "--force", gzip, zstd];
                    Command::new(engine).args(remove).output().expect("remove the image");
                    let mut pull = Command::new(engine);
                    pull.args(["pull", "--quiet"]);
                    if engine == "podman" {
                        pull.arg("--tls-verify=false");
                    }
                    synced(pull.arg(name))
                }),
            ));
        }
    }

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
    let bound = medians.iter().take(2).copied().fold(0.0, f64::max);
    println!("\n| what | median | to the slower of the first two |\n|---|---|---|");
    for ((what, _), median) in subjects.iter().zip(&medians) {
        println!("| {what} | {median:.2} s | {:.2} |", median / bound);
    }
    // The number of the first state directory that was made: after those of the two before it.
    let recipes: u64 = disk(&root.join("state-2/store/layers"), "archive.zst");
    let compressed: u64 =
        archives.iter().map(|it| it.with_extension("tar.gz")).map(|it| size(&it)).sum();
    let plain: u64 = archives.iter().map(|it| size(it)).sum();
    println!(
        "\narchives {plain} bytes, compressed {compressed}, their recipes in the store {recipes}"
    );
}

type Subject<'a> = (&'static str, Box<dyn Fn() -> Duration + 'a>);

/// A layer of files that compress to about a half, as programs do: its archive, and that
/// compressed.
fn make_layer(root: &Path, layer: usize) -> PathBuf {
    let tree = root.join(format!("tree-{layer}"));
    let (files, size) = SHAPE.get(layer).copied().expect("a shape");
    let mut state = 0x9e37_79b9_u32.wrapping_mul(u32::try_from(layer).expect("small") + 1);
    for number in 0..files {
        let directory = tree.join(format!("layer-{layer}/{}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&directory).expect("make a directory");
        }
        let mut content = Vec::with_capacity(size);
        while content.len() < size {
            // xorshift32 (Marsaglia 2003): a word that does not compress, and one that does.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            content.extend_from_slice(&state.to_le_bytes());
            content.extend_from_slice(b"same");
        }
        fs::write(directory.join(number.to_string()), content).expect("write a file");
    }
    let archive = root.join(format!("layer-{layer}.tar"));
    run(Command::new("tar")
        .args(["--sort=name", "-cf"])
        .arg(&archive)
        .arg("-C")
        .arg(&tree)
        .arg("."));
    fs::remove_dir_all(tree).expect("remove the files");
    let gzip = File::create(archive.with_extension("tar.gz")).expect("create");
    run(Command::new("gzip").arg("-nc").arg(&archive).stdout(gzip));
    run(Command::new("zstd")
        .arg("-q")
        .arg(&archive)
        .arg("-o")
        .arg(archive.with_extension("tar.zstd")));
    archive
}

fn make_layout(root: &Path, archives: &[PathBuf], compression: &str) -> PathBuf {
    let layout = root.join(format!("layout-{compression}"));
    fs::create_dir_all(layout.join("blobs/sha256")).expect("make the layout");
    let mut layers = Vec::new();
    let mut ids = Vec::new();
    for archive in archives {
        ids.push(format!("sha256:{}", digest(archive)));
        let media = format!("application/vnd.oci.image.layer.v1.tar+{compression}");
        let extension = if compression == "gzip" { "tar.gz" } else { "tar.zstd" };
        layers.push(blob(&layout, &media, &archive.with_extension(extension)));
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": { "Cmd": ["true"] },
        "rootfs": { "type": "layers", "diff_ids": ids },
    });
    let write = |name: &str, document: &serde_json::Value| {
        let path = root.join(name);
        fs::write(&path, document.to_string()).expect("write");
        path
    };
    let config = write("config.json", &config);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(&layout, "application/vnd.oci.image.config.v1+json", &config),
        "layers": layers,
    });
    let manifest = write("manifest.json", &manifest);
    let mut descriptor = blob(&layout, "application/vnd.oci.image.manifest.v1+json", &manifest);
    if let Some(fields) = descriptor.as_object_mut() {
        let annotations = serde_json::json!({ "org.opencontainers.image.ref.name": "bench" });
        fields.insert("annotations".to_owned(), annotations);
    }
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [descriptor] });
    fs::write(layout.join("index.json"), index.to_string()).expect("write");
    fs::write(layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").expect("write");
    layout
}

fn blob(layout: &Path, media_type: &str, path: &Path) -> serde_json::Value {
    let digest = digest(path);
    fs::copy(path, layout.join("blobs/sha256").join(&digest)).expect("copy");
    serde_json::json!({
        "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size(path),
    })
}

fn digest(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("sha256sum");
    String::from_utf8_lossy(&output.stdout).chars().take(64).collect()
}

fn size(path: &Path) -> u64 {
    path.metadata().expect("metadata").len()
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

/// Writes what is in the archives as `tar` would, from memory, on one thread, and syncs it.
fn raw_write(target: &Path, archives: &[PathBuf]) -> Duration {
    let contents: Vec<Vec<u8>> =
        archives.iter().map(|archive| fs::read(archive).expect("read")).collect();
    fs::create_dir_all(target).expect("make a directory");
    let started = Instant::now();
    for content in &contents {
        let mut archive = tar::Archive::new(content.as_slice());
        for entry in archive.entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let path = target.join(entry.path().expect("a path"));
            if entry.header().entry_type().is_dir() {
                fs::create_dir_all(path).expect("make a directory");
            } else {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).expect("read");
                File::create(path).and_then(|mut file| file.write_all(&bytes)).expect("write");
            }
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

fn skopeo(from: &str, to: &str) -> Command {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", from, to]);
    command
}

/// A registry on loopback, ended when dropped.
struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    fn start(root: &Path) -> Self {
        let data = root.join("registry");
        let text = format!(
            "version: 0.1\nlog: {{ level: info, accesslog: {{ disabled: true }} }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\nhttp:\n  addr: 127.0.0.1:0\n",
            data.display()
        );
        let configuration = root.join("registry.yml");
        fs::write(&configuration, text).expect("write");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(configuration)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start docker-registry");
        let mut lines = BufReader::new(child.stderr.take().expect("its log"));
        let mut line = String::new();
        while lines.read_line(&mut line).expect("read its log") > 0 {
            if let Some((_, port)) = line.split_once("listening on 127.0.0.1:") {
                let port: String = port.chars().take_while(char::is_ascii_digit).collect();
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return Self { child, port: port.parse().expect("a port") };
            }
            line.clear();
        }
        let status = child.wait().expect("wait for docker-registry");
        panic!("docker-registry ended: {status}")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().expect("end docker-registry");
        self.child.wait().expect("wait for docker-registry");
    }
}
