//! The image that is pulled and imported: its archives, and the layouts that hold them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{run, size};

const LAYERS: usize = 5;
/// Files of each layer and their size: the first layer is the largest, as base images are.
const SHAPE: [(usize, usize); LAYERS] =
    [(8000, 20_000), (6000, 10_000), (4000, 10_000), (1900, 10_000), (100, 200_000)];

/// The archives of the layers, each with its compressed forms beside it.
pub(crate) fn make_layers(root: &Path) -> Vec<PathBuf> {
    (0..LAYERS).map(|layer| make_layer(root, layer)).collect()
}

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

/// An OCI image layout of these layers; the image is called `bench` there.
pub(crate) fn make_layout(root: &Path, archives: &[PathBuf], compression: &str) -> PathBuf {
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
    let config = configuration(&ids);
    let config = write(root, "config.json", &config);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(&layout, "application/vnd.oci.image.config.v1+json", &config),
        "layers": layers,
    });
    let manifest = write(root, "manifest.json", &manifest);
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

/// What `docker load` reads, with the layers compressed as they are in the layout.
pub(crate) fn make_docker_archive(root: &Path, archives: &[PathBuf], name: &str) -> PathBuf {
    let path = root.join("docker.tar");
    let mut archive = tar::Builder::new(File::create(&path).expect("create"));
    let ids: Vec<_> = archives.iter().map(|it| format!("sha256:{}", digest(it))).collect();
    let mut members = Vec::new();
    for tar in archives {
        let member = format!("{}/layer.tar", digest(tar));
        archive.append_path_with_name(tar.with_extension("tar.gz"), &member).expect("append");
        members.push(member);
    }
    let config = write(root, "config.json", &configuration(&ids));
    let config_name = format!("{}.json", digest(&config));
    let manifest = serde_json::json!([
        { "Config": config_name, "RepoTags": [name], "Layers": members },
    ]);
    let manifest = write(root, "manifest.json", &manifest);
    for (member, document) in [(config_name.as_str(), config), ("manifest.json", manifest)] {
        let text = fs::read_to_string(document).expect("read");
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, member, text.as_bytes()).expect("append");
    }
    archive.finish().expect("finish");
    path
}

fn write(root: &Path, name: &str, document: &serde_json::Value) -> PathBuf {
    let path = root.join(name);
    fs::write(&path, document.to_string()).expect("write");
    path
}

fn configuration(ids: &[String]) -> serde_json::Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    serde_json::json!({
        "architecture": architecture, "os": "linux", "config": { "Cmd": ["true"] },
        "rootfs": { "type": "layers", "diff_ids": ids },
    })
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
