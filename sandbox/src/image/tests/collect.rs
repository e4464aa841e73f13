//! What a collection takes, and what it leaves.

use std::{
    fs::{self, File, FileTimes},
    ops::ControlFlow,
    time::{Duration, SystemTime},
};

use super::fixture::{Archive, Bench, Stored, at_most, layout, name, pack, sweep_down_to};
use crate::image::{Image, ImportOptions, Keep, Reference};

fn layer(content: u8) -> Vec<u8> {
    Archive::new().file("file", &[content; 100_000]).end()
}

fn import(bench: &Bench, as_name: &str, layers: &[Vec<u8>]) -> Image {
    let source = bench.source(&pack(&layout(layers, Stored::Plain)));
    let options = ImportOptions::default();
    bench.store.import(&source, &name(as_name), &options, &|_| ControlFlow::Continue(())).unwrap()
}

/// As if it had come from a registry, and been used so many hours ago.
fn pulled(bench: &Bench, as_name: &str, hours: u64) {
    for entry in fs::read_dir(bench.store.path().join("names")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if text.contains(&format!("\"{as_name}\"")) {
            fs::write(&path, text.replace("\"replaceable\":false", "\"replaceable\":true"))
                .unwrap();
            let then = SystemTime::now() - Duration::from_hours(hours);
            let file = File::options().write(true).open(&path).unwrap();
            file.set_times(FileTimes::new().set_modified(then)).unwrap();
        }
    }
}

fn names(bench: &Bench) -> Vec<String> {
    bench.store.list().unwrap().iter().map(|it| it.reference.to_string()).collect()
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let bench = Bench::new();
    for (text, content, hours) in [("old:v1", b'a', 9), ("older:v1", b'b', 99), ("new:v1", b'c', 1)]
    {
        drop(import(&bench, text, &[layer(content)]));
        pulled(&bench, text, hours);
    }
    drop(import(&bench, "mine:v1", &[layer(b'd')]));
    let all = ["mine:v1", "new:v1", "old:v1", "older:v1"];
    // Everything fits.
    let collected = bench.store.collect(at_most(1 << 20), false).unwrap();
    assert_eq!((collected.names, collected.swept.left > 400_000), (vec![], true));
    // Used after all.
    assert!(bench.store.find("older:v1").unwrap().is_some());
    let dry = bench.store.collect(at_most(250_000), true).unwrap();
    assert_eq!(names(&bench), all);
    let collected = bench.store.collect(at_most(250_000), false).unwrap();
    assert_eq!((&collected.names, dry.swept.layers), (&dry.names, 2));
    assert_eq!(collected.names, ["old:v1", "new:v1"].map(|it| it.parse::<Reference>().unwrap()));
    let layers = collected.swept.layers + sweep_down_to(&bench, 0);
    assert_eq!((collected.swept.images, layers), (2, 2));
    assert_eq!(names(&bench), ["mine:v1", "older:v1"]);
    let recently = Keep { used_within: Duration::from_hours(2), ..at_most(0) };
    assert_eq!(bench.store.collect(recently, false).unwrap().names, []);
    // What came from a file never goes by itself.
    let collected = bench.store.collect(at_most(0), false).unwrap();
    assert_eq!(collected.names, ["older:v1".parse::<Reference>().unwrap()]);
    assert_eq!(names(&bench), ["mine:v1"]);
    bench.assert_whole();
}

#[test]
fn layers_that_others_need_or_use_stay() {
    let bench = Bench::new();
    drop(import(&bench, "mine:v1", &[layer(b'a')]));
    let used = import(&bench, "used:v1", &[layer(b'a'), layer(b'b')]);
    pulled(&bench, "used:v1", 1);
    let swept = bench.store.collect(at_most(0), false).unwrap().swept;
    assert_eq!((swept.images, swept.layers, swept.layers_in_use), (1, 0, 1));
    assert!(used.layers.iter().all(|layer| layer.path.join("file").exists()));
    drop(used);
    assert_eq!(sweep_down_to(&bench, 0), 1);
    assert!(bench.store.get("mine:v1").is_ok());
    bench.assert_whole();
}

#[test]
fn another_name_keeps_an_image() {
    let bench = Bench::new();
    drop(import(&bench, "app:v1", &[layer(b'a')]));
    pulled(&bench, "app:v1", 1);
    assert!(bench.store.tag("app:v1", &name("app:kept")).unwrap());
    assert!(!bench.store.tag("app:v2", &name("app:kept")).unwrap());
    for wrong in ["host", &format!("app@sha256:{}", "0".repeat(64))] {
        assert!(bench.store.tag("app:v1", &name(wrong)).is_err(), "{wrong}");
    }
    bench.store.collect(at_most(0), false).unwrap();
    assert_eq!(names(&bench), ["app:kept"]);
    let details = bench.store.details("app:kept").unwrap().unwrap();
    assert_eq!((details.layers.len(), details.names.len()), (1, 1));
    assert!(details.layers[0].bytes > 100_000);
    assert!(bench.store.details("app:v1").unwrap().is_none());
}

/// States of jobs have no name, and stay until they are in the way.
#[test]
fn what_jobs_wrote_goes_when_the_room_is_needed() {
    let bench = Bench::new();
    let image = import(&bench, "mine:v1", &[layer(b'a'), layer(b'b')]);
    let id = image.digest.clone();
    drop(image);
    assert!(bench.store.keep_state(&id, 1).unwrap().is_some_and(|bytes| bytes > 100_000));
    assert!(bench.store.remove(&name("mine:v1")).unwrap().is_some());
    assert_eq!(bench.store.collect(at_most(1 << 20), false).unwrap().swept.images, 0);
    let recently = Keep { used_within: Duration::from_hours(2), ..at_most(0) };
    assert_eq!(bench.store.collect(recently, false).unwrap().states, 0);
    let kept = bench.store.kept_state(&id).unwrap().unwrap();
    assert_eq!((kept.before.layers.len(), kept.image.layers.len()), (1, 2));
    // While it is in use it is not taken.
    assert_eq!(bench.store.collect(at_most(0), false).unwrap().states, 0);
    drop(kept);
    assert_eq!(bench.store.collect(at_most(0), true).unwrap().states, 1);
    // A name keeps the image, as any.
    assert!(bench.store.tag(&id.to_string(), &name("named:v1")).unwrap());
    let collected = bench.store.collect(at_most(0), false).unwrap();
    assert_eq!((collected.states, collected.swept.images, collected.swept.layers), (1, 0, 0));
    assert!(bench.store.kept_state(&id).unwrap().is_none());
    assert!(bench.store.keep_state(&id, 2).unwrap().is_some());
    assert!(bench.store.remove(&name("named:v1")).unwrap().is_some());
    let collected = bench.store.collect(at_most(0), false).unwrap();
    let layers = collected.swept.layers + sweep_down_to(&bench, 0);
    assert_eq!((collected.states, collected.swept.images, layers), (1, 1, 2));
    assert_eq!(bench.store.keep_state(&id, 1).unwrap(), None);
    bench.assert_whole();
}
