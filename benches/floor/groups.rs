//! The control groups of a container, made as ours are: in the same hierarchies, with the same
//! values.
//!
//! Which those are depends on the host and on what Cofferdam does there, so both are learnt: one
//! group is made by the library, and what it says is compared with a group that nobody touched.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

use cofferdam_sandbox::{
    Limits,
    cgroup::{GroupOptions, Hierarchy},
};

/// What one container's groups look like; what was made for it is removed when dropped.
#[derive(Debug)]
pub(crate) struct Groups {
    hierarchy: Hierarchy,
    instance: String,
    models: Vec<Model>,
}

/// A group in one hierarchy: where it goes and what is written to it.
#[derive(Debug)]
struct Model {
    parent: PathBuf,
    unified: bool,
    settings: Vec<Setting>,
}

/// A file, and what is written to it, one call each.
type Setting = (String, Vec<String>);

/// The groups of one container.
#[derive(Debug)]
pub(super) struct Made {
    directories: Vec<PathBuf>,
    /// `tasks` of each hierarchy of v1.
    tasks: Vec<File>,
    unified: Option<File>,
}

impl Groups {
    pub(super) fn learn(limits: &Limits) -> io::Result<Self> {
        let hierarchy = Hierarchy::detect(&[]).map_err(io::Error::other)?;
        let instance = format!("floor-{}", std::process::id());
        let groups = hierarchy.prepare(&instance, &[]).map_err(io::Error::other)?;
        let mut learnt = Self { hierarchy, instance, models: Vec::new() };
        let sample =
            groups.create("sample", limits, &GroupOptions::default()).map_err(io::Error::other)?;
        for sample in sample.directories() {
            let parent = sample.parent().unwrap_or(&sample).to_owned();
            let untouched = parent.join("untouched");
            fs::create_dir(&untouched)?;
            let settings = differences(&sample, &untouched)?;
            let unified = sample.join("cgroup.controllers").exists();
            learnt.models.push(Model { parent, unified, settings });
            fs::remove_dir(&untouched)?;
            fs::remove_dir(&sample)?;
        }
        Ok(learnt)
    }

    pub(super) fn make(&self, name: &str) -> io::Result<Made> {
        let mut made = Made { directories: Vec::new(), tasks: Vec::new(), unified: None };
        for Model { parent, unified, settings } in &self.models {
            let directory = parent.join(name);
            fs::create_dir(&directory)?;
            for (file, values) in settings {
                let mut file = File::options().write(true).open(directory.join(file))?;
                values.iter().try_for_each(|value| file.write_all(value.as_bytes()))?;
            }
            if *unified {
                made.unified = Some(File::open(&directory)?);
            } else {
                made.tasks.push(File::options().write(true).open(directory.join("tasks"))?);
            }
            made.directories.push(directory);
        }
        Ok(made)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let removed = self.hierarchy.remove_instance(&self.instance);
        if let Err(error) = removed.and_then(|()| self.hierarchy.leave()) {
            writeln!(io::stderr(), "{error}").ok();
        }
    }
}

impl Made {
    pub(super) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(File::as_fd)
    }

    /// In the process that enters them.
    pub(super) fn enter(&self) -> io::Result<()> {
        self.tasks.iter().try_for_each(|mut tasks| tasks.write_all(b"0"))
    }

    pub(super) fn remove(self) -> io::Result<()> {
        self.directories.iter().try_for_each(fs::remove_dir)
    }
}

/// What was written to `sample`, as files and values.
fn differences(sample: &Path, untouched: &Path) -> io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    let mut names: Vec<_> = fs::read_dir(sample)?.collect::<io::Result<_>>()?;
    names.sort_unstable_by_key(fs::DirEntry::file_name);
    for entry in names {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Not every file can be read; what cannot be, we have not written.
        let read = |directory: &Path| fs::read_to_string(directory.join(&name)).ok();
        let (Some(value), Some(other)) = (read(sample), read(untouched)) else { continue };
        if value == other {
            continue;
        }
        if name == "devices.list" {
            // What it shows is set by two others.
            settings.push(("devices.deny".to_owned(), vec!["a".to_owned()]));
            let lines = value.lines().map(str::to_owned).collect();
            settings.push(("devices.allow".to_owned(), lines));
        } else if entry.metadata()?.permissions().mode() & 0o200 != 0 {
            settings.push((name, vec![value.trim().to_owned()]));
        }
    }
    Ok(settings)
}
