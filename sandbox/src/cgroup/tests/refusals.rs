//! What is refused.

use super::super::{Hierarchy, remove_groups};

#[test]
fn names_are_plain() {
    let hierarchy = Hierarchy::detect(&[]).unwrap();
    for name in ["", ".", "..", "a/b", "../x", ".hidden", "a b", "ä", "a\n", &"x".repeat(129)] {
        assert!(hierarchy.instance(name).is_err(), "{name:?}");
        assert!(hierarchy.remove_instance(name).is_err(), "{name:?}");
        assert!(hierarchy.prepare(name, &[]).is_err(), "{name:?}");
    }
    let instance = hierarchy.instance("x").unwrap();
    assert!(instance.group("../y").is_err());
    assert!(instance.group("y").unwrap().step("a/b").is_err());
}

#[test]
fn only_control_groups_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("pids.max"), "1").unwrap();
    std::fs::write(directory.path().join("cgroup.procs"), "1\n").unwrap();
    let error = remove_groups(&[directory.path().to_owned()]).unwrap_err();
    assert!(error.doing().starts_with("remove the control group"), "{error}");
    assert!(directory.path().exists());
    remove_groups(&[directory.path().join("missing")]).unwrap();
}
