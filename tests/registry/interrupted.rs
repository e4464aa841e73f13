//! Pulls that are killed, that run out of disk, and that meet a store of another time.

use std::sync::mpsc;

use nix::sys::signal::Signal;

use super::{
    Server, needs_registry,
    picture::Picture,
    proxy::{Act, Proxy},
    trusting,
};
use crate::{
    binary::{Cofferdam, kill, program, wait},
    host::{Need, needs},
};

/// A registry with an image that is pulled through a proxy.
struct Scene {
    _server: Server,
    _configuration: tempfile::TempDir,
    cofferdam: Cofferdam,
    name: String,
    /// Whenever somebody asks for the lowest layer.
    reached: mpsc::Receiver<()>,
}

impl Scene {
    /// `act` says what is done to the lowest layer, after so many requests for it.
    fn new(act: impl Fn(usize) -> Act + Send + Sync + 'static) -> Self {
        let configuration = tempfile::tempdir().expect("a directory");
        let (server, picture) = (Server::start(), Picture::of(&["two"]));
        server.push(picture.layout(), "app:1");
        let layer = picture.manifest["layers"][0]["digest"].as_str().expect("a digest").to_owned();
        let (said, reached) = mpsc::channel();
        let proxy = Proxy::start(server.port, move |request| match request.is_blob(&layer) {
            true => {
                // Nobody may listen any more.
                said.send(()).ok();
                act(request.before)
            }
            false => Act::Pass,
        });
        let cofferdam = trusting(configuration.path(), &[proxy.name()]);
        let name = format!("{}/app:1", proxy.name());
        Self { _server: server, _configuration: configuration, cofferdam, name, reached }
    }

    /// How much is there of layers that are not whole.
    fn temporary(&self) -> usize {
        std::fs::read_dir(self.cofferdam.state().join("store/tmp")).expect("list").count()
    }
}

/// Two pulls of one image are killed while it comes: the next finds a store that is whole.
#[test]
fn killed_at_once() {
    needs_registry!();
    let scene = Scene::new(|before| if before == 0 { Act::Stall(500_000) } else { Act::Pass });
    let Scene { cofferdam, name, reached, .. } = &scene;
    let pulls: Vec<_> = (0..2)
        .map(|_| cofferdam.command(["image", "pull", name]).spawn().expect("start"))
        .collect();
    reached.recv().expect("a pull that has begun");
    for pull in &pulls {
        kill(pull.id(), Signal::SIGKILL);
    }
    for pull in pulls {
        assert_eq!(wait(pull).status, 137);
    }
    cofferdam.run(["image", "pull", name]).expect(0).says(&["layer 1/2 unpacked"]);
    assert_eq!(scene.temporary(), 0, "what the killed ones left is still there");
}

/// ^C ends a pull and takes away what there was of the image; a registry that says nothing any more
/// holds nobody up.
#[test]
fn interrupted() {
    needs_registry!();
    for (act, left) in [(Act::Crawl(50), Some(0)), (Act::Stall(500_000), None)] {
        let scene = Scene::new(move |_| act.clone());
        let Scene { cofferdam, name, reached, .. } = &scene;
        let pull = cofferdam.command(["image", "pull", name]).spawn().expect("start");
        reached.recv().expect("a pull that has begun");
        kill(pull.id(), Signal::SIGINT);
        wait(pull).expect(130).says(&[&format!("cancelled while pulling `{name}`")]);
        let found = scene.temporary();
        assert_eq!(left.unwrap_or(found), found, "what there was of the image is still there");
        cofferdam.run(["image", "inspect", name]).expect(66);
    }
}

/// The disk is full halfway: said so, nothing kept, and it works once there is room.
#[test]
fn full_disk() {
    needs_registry!();
    needs!(Need::Root);
    let directory = tempfile::tempdir().expect("a directory");
    let (server, picture) = (Server::start(), Picture::of(&["two"]));
    server.push(picture.layout(), "app:1");
    let cofferdam = trusting(directory.path(), &[server.name()]);
    let name = format!("{}/app:1", server.name());
    let state = cofferdam.state();
    let script = "mount -t tmpfs -o size=1m none \"$1\" && { \"$2\" image pull \"$3\"; echo status $?; ls \"$1/store/tmp\" \"$1/store/layers/sha256\" | wc -w; mount -o remount,size=64m \"$1\" && \"$2\" image pull \"$3\"; }";
    let mut command = program("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(state);
    command.arg(env!("CARGO_BIN_EXE_cofferdam")).arg(&name);
    command
        .env("COFFERDAM_STATE", state)
        .env("COFFERDAM_CONFIG", directory.path().join("config.yml"));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let ended = wait(command.spawn().expect("start")).expect(0);
    let store = state.join("store");
    let listed = format!(
        "status 70\n{}",
        // The names of the two directories that `ls` prints, and nothing in them.
        2
    );
    assert!(ended.stdout.starts_with(&listed), "{}\n{}", ended.stdout, store.display());
    ended.says(&["No space left on device", "free space", "sha256:", &server.name(), "pulled"]);
}

/// A store that a later version wrote is not touched.
#[test]
fn newer_store() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let (server, picture) = (Server::start(), Picture::of(&[]));
    server.push(picture.layout(), "app:1");
    let cofferdam = trusting(directory.path(), &[server.name()]);
    cofferdam.run(["image", "ls"]).expect(0);
    let version = cofferdam.state().join("store/version");
    std::fs::write(&version, "99\n").expect("write");
    let name = format!("{}/app:1", server.name());
    cofferdam.run(["image", "pull", &name]).expect(70).says(&["format 99", "newer cofferdam"]);
    assert_eq!(std::fs::read_to_string(version).expect("read"), "99\n");
}
