//! Mounts of containers in the host's mount table: there are none, since all are made detached or
//! in a container's own namespace. One that shows there has been let out by a fault of ours.

use std::path::Path;

/// The option by which a container's overlay is told from all others: its paths are relative.
const OVERLAY: &str = "upperdir=up/";

/// The mount points in `mountinfo` (proc_pid_mountinfo(5)) of mounts of one run: its overlays, which
/// have these device numbers, and whatever names a path below `journal`.
pub(super) fn of_run(mountinfo: &str, overlays: &[(u32, u32)], journal: &Path) -> Vec<String> {
    let journal = journal.to_string_lossy();
    let is_ours = |device: &str, line: &str| {
        let number = device.split_once(':').and_then(|(major, minor)| {
            Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        });
        line.contains(&*journal)
            || (line.contains(OVERLAY) && number.is_some_and(|it| overlays.contains(&it)))
    };
    mountinfo
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            let (device, point) = (fields.next()?, fields.nth(1)?);
            is_ours(device, line).then(|| point.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlays_of_this_run_and_paths_of_its_journal() {
        let table = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:42 / /tmp rw,nosuid - overlay overlay rw,lowerdir=l/0,upperdir=up/root,workdir=up/root.work
41 22 0:43 / /mnt rw,nosuid - overlay overlay rw,lowerdir=l/0,upperdir=up/root,workdir=up/root.work
42 22 0:42 / /other rw - overlay overlay rw,lowerdir=/a,upperdir=/b,workdir=/c
43 22 254:0 /var/lib/cofferdam/instances/0123456789ab/x /srv rw - ext4 /dev/vda rw
44 22 0:4 net:[4026531840] /run/netns/x rw - nsfs nsfs rw
nonsense
";
        let check = |overlays: &[(u32, u32)], id: &str, expected: &[&str]| {
            let journal = Path::new("/var/lib/cofferdam/instances").join(id);
            assert_eq!(of_run(table, overlays, &journal), expected, "{overlays:?} {id}");
        };
        check(&[(0, 42)], "other", &["/tmp"]);
        check(&[(0, 42), (0, 43)], "0123456789ab", &["/tmp", "/mnt", "/srv"]);
        check(&[(0, 44)], "other", &[]);
    }
}
