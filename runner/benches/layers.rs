//! How much longer a container takes to start from an image of 100 layers than from one of a single
//! layer with the same files, here and in the engines that are installed.
//!
//!     cargo bench -p cofferdam --bench layers -- [ROUNDS]
//!
//! Needs Debian's `busybox-static`. `docker` and `podman` are measured where `docker info` and
//! `podman info` succeed. All run in turns, whole commands, from start to end.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark drives programs as a user does, and ends where one fails"
)]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

/// Layers of the larger image.
const LAYERS: usize = 100;

/// What starts an image by its name.
type Start<'a> = Box<dyn Fn(&str) -> Command + 'a>;

fn main() {
    let rounds: usize = std::env::args().filter_map(|text| text.parse().ok()).next().unwrap_or(30);
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let images = [("one", 1), ("hundred", LAYERS)].map(|(name, layers)| {
        (format!("localhost/bench-layers:{name}"), make_image(root, name, layers))
    });

    let mut subjects: Vec<(&str, Start<'_>)> = Vec::new();
    let cofferdam = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.env("COFFERDAM_STATE", root.join("state"));
        command
    };
    for (name, path) in &images {
        run(cofferdam().args(["image", "import"]).arg(path).arg(name));
    }
    subjects.push((
        "`cofferdam exec`",
        Box::new(move |name| {
            let mut command = cofferdam();
            command.args(["exec", name, "--", "true"]);
            command
        }),
    ));
    let engines: Vec<&'static str> =
        ["docker", "podman"].into_iter().filter(|it| works(Command::new(it).arg("info"))).collect();
    for engine in engines.iter().copied() {
        for (_, path) in &images {
            run(Command::new(engine).args(["load", "--input"]).arg(path));
        }
        let title = if engine == "docker" { "`docker run`" } else { "`podman run`" };
        subjects.push((
            title,
            Box::new(move |name| {
                let mut command = Command::new(engine);
                command.args(["run", "--rm", "--network", "none", name, "true"]);
                command
            }),
        ));
    }

    let mut times: Vec<[Vec<Duration>; 2]> = vec![[Vec::new(), Vec::new()]; subjects.len()];
    for _ in 0..rounds {
        for ((_, start), times) in subjects.iter().zip(&mut times) {
            for ((name, _), times) in images.iter().zip(times) {
                let mut command = start(name);
                let started = Instant::now();
                run(&mut command);
                times.push(started.elapsed());
            }
        }
    }
    for engine in engines {
        for (name, _) in &images {
            run(Command::new(engine).args(["image", "rm", "--force", name]));
        }
    }
    println!("| p50 ms | 1 layer | {LAYERS} layers | ratio |\n|---|---|---|---|");
    for ((title, _), mut times) in subjects.iter().zip(times) {
        let [one, hundred] = times.each_mut().map(|times| {
            times.sort_unstable();
            times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64) * 1000.0
        });
        println!("| {title} | {one:.1} | {hundred:.1} | {:.2} |", hundred / one);
    }
}

/// An archive as `docker save` writes it: busybox in the lowest layer, and a hundred files more,
/// spread over the others where there are any.
fn make_image(root: &Path, name: &str, layers: usize) -> PathBuf {
    let path = root.join(format!("{name}.tar"));
    let mut archive = tar::Builder::new(File::create(&path).expect("create"));
    let (mut ids, mut members) = (Vec::new(), Vec::new());
    for layer in 0..layers {
        let content = make_layer(layer, layers);
        // Named as Docker names them, or it would be the archive of a root file system.
        let member = format!("{}/layer.tar", hex(&Sha256::digest(&content)));
        append(&mut archive, &member, &content, 0o644);
        ids.push(format!("sha256:{}", hex(&Sha256::digest(&content))));
        members.push(member);
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux",
        "config": { "Cmd": ["true"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": ids },
    });
    let config = config.to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let tag = format!("localhost/bench-layers:{name}");
    let manifest = serde_json::json!([
        { "Config": config_name, "RepoTags": [tag], "Layers": members },
    ]);
    append(&mut archive, &config_name, config.as_bytes(), 0o644);
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes(), 0o644);
    archive.finish().expect("finish");
    path
}

fn make_layer(layer: usize, layers: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    if layer == 0 {
        let busybox = fs::read("/bin/busybox").expect("Debian's busybox-static");
        append(&mut archive, "bin/busybox", &busybox, 0o755);
        append(&mut archive, "bin/true", &busybox, 0o755);
    }
    for file in (0..LAYERS).filter(|file| file % layers == layer) {
        append(&mut archive, &format!("data/{}/{file}", file / 10), &[b'x'; 4096], 0o644);
    }
    archive.into_inner().expect("the archive")
}

fn append(archive: &mut tar::Builder<impl std::io::Write>, path: &str, content: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, path, content).expect("append");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
