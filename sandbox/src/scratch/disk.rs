//! An ext4 of the container's own in a sparse file, on a loop device.
//!
//! The file never has a name, the device detaches itself with its last user, and the mount is in
//! no mount table: when the last descriptor of all this is closed, by whatever end of whatever
//! process, the kernel has freed the space. So there is nothing to journal and nothing to undo.

use std::{
    ffi::{CString, OsString},
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt as _, fs::DirBuilderExt as _},
    },
    path::{Path, PathBuf},
};

use super::{
    choice::{Backend, DISK_FILE_SYSTEM, LOOP_CONTROL},
    geometry,
    room::Room,
    template::Template,
};
use crate::{
    Limits,
    error::{Doing as _, Error, Result},
    sys::{
        loop_device,
        mount::{Attributes, Configuration},
    },
};

/// Directory of the prepared file systems, below the state directory.
const DIRECTORY: &str = "scratch";

/// Options without a value: nothing of it survives the machine's crash, so nothing is ordered or
/// flushed for that, no unused inode is zeroed, and what the job deletes the host gets back.
const OPTIONS: [&std::ffi::CStr; 5] =
    [c"discard", c"noauto_da_alloc", c"nobarrier", c"noinit_itable", c"no_prefetch_block_bitmaps"];

/// How often another program may take the free device first.
const ATTEMPTS: usize = 64;

/// Makes one with these limits in a file in `files`, by which its loop device is told from others;
/// prepared ones are kept below the state directory `state`.
pub(super) fn make(limits: &Limits, state: &Path, files: &Path) -> Result<Room> {
    let directory = state.join(DIRECTORY);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .system(|| format!("make `{}`", directory.display()))?;
    if let Some(template) = Template::load(&directory, limits) {
        match from_template(&template, limits, files) {
            Ok(room) => return Ok(room),
            // A crash of the machine may have torn it.
            Err(error) => tracing::debug!(%error, "a prepared scratch file system is of no use"),
        }
        Template::forget(&directory, limits);
    }
    let template = Template::make(limits, files)?;
    template.store(&directory, limits);
    from_template(&template, limits, files)
}

fn from_template(template: &Template, limits: &Limits, directory: &Path) -> Result<Room> {
    let doing = || format!("make the scratch file system on disk, in `{}`", directory.display());
    let make = || {
        let file = nameless_file(directory)?;
        template.write_to(&file)?;
        open_room(&file, template)
    };
    let room = make().system(doing)?;
    let (whole, usable) = (room.whole(), geometry::usable_blocks(limits) * geometry::BLOCK);
    if whole.bytes == usable && whole.inodes >= limits.inodes {
        Ok(room)
    } else {
        let found = format!("{} bytes and {} inodes are free", whole.bytes, whole.inodes);
        Err(Error::system(doing(), format!("{found}, not {usable} and {}", limits.inodes)))
    }
}

/// The room in a file that holds what `template` does.
fn open_room(file: &File, template: &Template) -> io::Result<Room> {
    let attached = attach(file)?;
    template.read_ahead(&attached.device)?;
    let mount = attached.mount()?;
    Room::new(template.room_of(mount)?, Backend::Disk)
}

/// A file in `directory` that nobody else can open and that goes with its last descriptor.
pub(super) fn nameless_file(directory: &Path) -> io::Result<File> {
    tempfile::tempfile_in(directory)
}

/// A loop device, which detaches its file when this and its mounts are gone.
#[derive(Debug)]
pub(super) struct Attached {
    device: File,
    path: PathBuf,
}

impl Attached {
    /// Mounts the file system on it, detached; the mount holds the device from then on.
    pub(super) fn mount(self) -> io::Result<OwnedFd> {
        let configuration = Configuration::open(DISK_FILE_SYSTEM)?;
        let path = self.path.into_os_string().into_encoded_bytes();
        configuration.set(c"source", &CString::new(path)?)?;
        for option in OPTIONS {
            configuration.flag(option)?;
        }
        configuration.mount(Attributes::NOSUID.and(Attributes::NODEV).and(Attributes::NOATIME))
    }
}

/// Binds `file` to a free device.
pub(super) fn attach(file: &File) -> io::Result<Attached> {
    let open = |path: &Path| File::options().read(true).write(true).open(path);
    let control = open(Path::new(LOOP_CONTROL))?;
    let block = u32::try_from(geometry::BLOCK).map_err(io::Error::other)?;
    let mut last = io::Error::from_raw_os_error(libc::EBUSY);
    for _ in 0..ATTEMPTS {
        let path = PathBuf::from(format!("/dev/loop{}", loop_device::free_number(&control)?));
        let device = open(&path)?;
        match loop_device::configure(&device, file, block) {
            Ok(()) => return Ok(Attached { device, path }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The names of the loop devices in use, and their files.
pub(crate) fn loop_devices() -> io::Result<Vec<(String, PathBuf)>> {
    let list = match fs::read_dir("/sys/block") {
        // Without a sysfs, as in some containers, there is no telling, and no way to make one either.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in list {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("loop") {
            continue;
        }
        // Read without opening the device, which would keep it from detaching itself.
        if let Ok(file) = fs::read(format!("/sys/block/{name}/loop/backing_file")) {
            found.push((name, OsString::from_vec(file).into()));
        }
    }
    Ok(found)
}

/// Has a loop device let go of its file; one that somebody has open does so when that is closed.
pub(crate) fn detach(name: &str) -> io::Result<()> {
    let device = File::open(Path::new("/dev").join(name))?;
    match loop_device::detach(&device) {
        // It has no file any more.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::MetadataExt as _};

    use nix::{fcntl::OFlag, sys::stat::Mode, unistd::syncfs};

    use super::*;
    use crate::scratch::choice::Availability;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_host_gives_what_is_written_and_gets_back_what_is_deleted() {
        let state = tempfile::tempdir().unwrap();
        let able = nix::unistd::geteuid().is_root();
        if let (false, _) | (_, Err(_)) = (able, Availability::of_host(state.path()).disk) {
            let test = "the_host_gives_what_is_written_and_gets_back_what_is_deleted";
            crate::tests::not_run(test, "no files on disk");
            return;
        }
        let limits = Limits { disk: 1024 * MIB, inodes: 100_000, ..Limits::default() };
        let template = Template::make(&limits, state.path()).unwrap();
        let file = nameless_file(state.path()).unwrap();
        template.write_to(&file).unwrap();
        let used = || file.metadata().unwrap().blocks() * 512 / MIB;
        assert_eq!(used(), 0, "an empty one takes next to nothing");
        let room = open_room(&file, &template).unwrap();
        assert_eq!(room.whole().bytes, limits.disk);
        assert!(room.whole().inodes >= limits.inodes);
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
        let big = nix::fcntl::openat(&room, "big", flags, Mode::S_IRWXU).unwrap();
        let mut big = File::from(big);
        for _ in 0..100 {
            big.write_all(&vec![7; 1 << 20]).unwrap();
        }
        syncfs(&big).unwrap();
        drop(big);
        assert!((100..104).contains(&used()), "{} MiB", used());
        assert!((100 * MIB..101 * MIB).contains(&room.used().unwrap().bytes));
        nix::unistd::unlinkat(&room, "big", nix::unistd::UnlinkatFlags::NoRemoveDir).unwrap();
        assert!(used() < 4, "{} MiB", used());
        drop(room);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }
}
