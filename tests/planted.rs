//! What the audit after a run finds of networks and files: planted in the run's way, named, and gone
//! with `cofferdam gc` once nothing holds it any more.

use std::{fs, io::Write as _, path::Path, process::Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{
    binary::{Cofferdam, alone, await_that, program},
    host::{Need, needs},
    teardown::{Begun, gc, names},
    world::with_world,
};

/// The run's table, as the only one there is.
fn table() -> String {
    let output = program("nft").args(["list", "tables"]).output().expect("run nft");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut names = text.lines().filter_map(|line| line.rsplit(' ').next().map(str::to_owned));
    let name = names.next().expect("a table");
    assert_eq!(names.next(), None, "{text}");
    name
}

fn removed(cofferdam: &Cofferdam, kind: &str) -> Vec<String> {
    names(&gc(cofferdam, &[])["removed"], kind)
}

/// A table that somebody else owns is not the run's to remove.
#[test]
fn a_packet_filter() {
    needs!(Need::Containers, Need::Root, Need::Program("ip"), Need::Program("nft"));
    with_world(|_| {
        let cofferdam = Cofferdam::unshared();
        let begun = Begun::start(&cofferdam, &["--network", "full"]);
        let journal = begun.journal().display().to_string();
        let table = table();
        let mut owner = program("nft")
            .arg("-i")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("nft");
        let commands =
            format!("delete table inet {table}\nadd table inet {table} {{ flags owner; }}\n");
        let mut stdin = owner.stdin.take().expect("a pipe");
        stdin.write_all(commands.as_bytes()).expect("tell nft");
        await_that(|| {
            let list = program("nft").args(["list", "ruleset"]).output().expect("run nft");
            String::from_utf8_lossy(&list.stdout).contains("flags owner")
        });
        let ended = begun.end();
        drop(stdin);
        owner.wait().expect("wait");
        ended.expect(70).says(&[&format!("left behind: packet filter `{table}`")]);
        assert_eq!(removed(&cofferdam, "journal"), [journal]);
        // One that no journal names and nobody owns goes by its name.
        let plain = program("nft").args(["add", "table", "inet", &table]).status();
        assert!(plain.expect("run nft").success());
        assert_eq!(removed(&cofferdam, "packet filter"), [table]);
    });
}

/// The note that packets pass, which cannot be removed while something is mounted on it.
#[test]
fn a_forwarding_note() {
    needs!(Need::Containers, Need::Root, Need::Program("ip"));
    with_world(|_| {
        let cofferdam = Cofferdam::unshared();
        let begun = Begun::start(&cofferdam, &["--network", "full"]);
        let journal = begun.journal().display().to_string();
        let namespace = fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
        let number: String =
            namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
        let note = format!("/run/cofferdam/forwarding-{number}");
        let (place, none) = (Path::new(&note), None::<&str>);
        mount(Some(place), place, none, MsFlags::MS_BIND, none).expect("mount");
        let ended = begun.end();
        umount2(place, MntFlags::MNT_DETACH).expect("unmount");
        let ended = ended.expect(70);
        ended.says(&[&format!("left behind: forwarding `{note}`")]);
        assert!(Path::new(&note).exists());
        assert_eq!(removed(&cofferdam, "journal"), [journal]);
        assert!(!Path::new(&note).exists());
        // Nor is one left that no journal names.
        fs::write(&note, "on\n").expect("plant a note");
        assert!(removed(&cofferdam, "forwarding").contains(&note));
        assert!(!Path::new(&note).exists());
    });
}

/// A file beside the containers' own that cannot be removed.
#[test]
fn a_file_beside_the_journal() {
    needs!(Need::Containers, Need::Root, Need::Program("chattr"));
    let _quiet = alone();
    let cofferdam = Cofferdam::unshared();
    let begun = Begun::start(&cofferdam, &[]);
    let journal = begun.journal();
    let directory = journal.join("planted");
    fs::create_dir(&directory).expect("make a directory");
    let file = crate::binary::file(&directory, "file", "planted");
    let change = |flag: &str| {
        let changed = program("chattr").arg(flag).arg(&file).status().expect("run chattr");
        assert!(changed.success(), "chattr {flag}");
    };
    change("+i");
    let ended = begun.end();
    let left = file.exists();
    change("-i");
    ended.expect(70).says(&[&format!("left behind: journal `{}`", journal.display())]);
    assert!(left, "it was removed all the same");
    assert_eq!(removed(&cofferdam, "journal"), [journal.display().to_string()]);
    assert!(!journal.exists());
}
