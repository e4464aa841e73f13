//! `cofferdam run --watch`: runs again what a change in the project affects.
//!
//! Each run is a process of its own, this program without `--watch`: a run forks its spawner while
//! it has one thread, which a process that watches has not. What changes while a run goes on is
//! taken up when it has ended.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use cofferdam_jobs::{Configuration, model::Workspace};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::sync::mpsc;

use crate::{
    cli::{self, Chosen},
    command::plan::{Planned, plan_of},
    execute::pipeline,
    exit::Exit,
    git::{self, Linked},
    print,
    problem::Problem,
    report::quantity::count,
    supervise::Interrupts,
};

/// Most directories that are watched.
const DIRECTORIES_MAX: usize = 50_000;
/// How long it must be quiet before a change counts as whole: editors write in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// Runs until ^C.
pub(super) async fn run(
    arguments: &cli::Run,
    configuration: &Configuration,
) -> Result<u8, Problem> {
    let system = |error: std::io::Error| {
        Problem::new(Exit::System, "failed to watch the project").because(error)
    };
    let mut interrupts = Interrupts::new().map_err(system)?;
    let project = pipeline::project(&arguments.file, arguments.workspace.as_deref());
    let project = fs::canonicalize(&project).map_err(|error| {
        Problem::new(Exit::NoInput, format!("no workspace `{}`", project.display())).because(error)
    })?;
    let git = git_directories(&project);
    let mut changes = Changes::watch(&project, arguments.out.as_deref(), &git).map_err(system)?;
    let mut only = Vec::new();
    let commit = || git::commit(&project);
    loop {
        let mut before = commit();
        if let Some(status) = once(&only, &mut interrupts).await.map_err(system)? {
            return Ok(status);
        }
        loop {
            print::standard_error(format_args!("watching `{}`", project.display()));
            let (changed, committed) = loop {
                let mut changed = tokio::select! {
                    changed = changes.next() => changed.map_err(system)?,
                    () = interrupts.next() => return Ok(Exit::Cancelled.code()),
                };
                changed.retain(|path| !git.iter().any(|git| path.starts_with(git)));
                let now = commit();
                let committed = now != before;
                before = now;
                // Git writes much that is no commit.
                if committed || !changed.is_empty() {
                    break (changed, committed);
                }
            };
            let many = match changed.len() {
                0 => "a commit".to_owned(),
                many => count(many as u64, "change"),
            };
            match affected(arguments, configuration, &changed, committed) {
                Some(jobs) => {
                    print::standard_error(format_args!("{many}: running again"));
                    only = jobs;
                    break;
                }
                None => print::standard_error(format_args!("{many} that no job sees")),
            }
        }
    }
}

/// One run in a process of its own; a status where the user wants to end.
async fn once(only: &[String], interrupts: &mut Interrupts) -> std::io::Result<Option<u8>> {
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--watch");
    let jobs = only.iter().flat_map(|job| [OsString::from("--job"), OsString::from(job)]);
    #[expect(clippy::disallowed_methods, reason = "it is this program, not one of the host's")]
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(arguments).args(jobs);
    let mut child = tokio::process::Command::from(command).spawn()?;
    let mut interrupted = false;
    loop {
        tokio::select! {
            status = child.wait() => {
                let code = status?.code().and_then(|code| u8::try_from(code).ok());
                return Ok(interrupted.then(|| code.unwrap_or(Exit::Cancelled.code())));
            }
            // The terminal has told the run as well.
            () = interrupts.next() => interrupted = true,
        }
    }
}

/// The jobs that a change of files, or of what is committed, is for; empty for all, [`None`] for none.
fn affected(
    arguments: &cli::Run,
    configuration: &Configuration,
    changed: &BTreeSet<PathBuf>,
    committed: bool,
) -> Option<Vec<String>> {
    if !arguments.job.is_empty() {
        return Some(Vec::new());
    }
    let chosen = Chosen {
        job: Vec::new(),
        param: arguments.param.clone(),
        workspace: arguments.workspace.clone(),
    };
    // A pipeline with faults is run as well: the run tells them.
    let Ok(Planned { file, plan, .. }) = plan_of(&arguments.file, &chosen, configuration) else {
        return Some(Vec::new());
    };
    let is_pipeline = |path: &PathBuf| {
        file.sources.names().any(|name| fs::canonicalize(name).is_ok_and(|name| name == *path))
    };
    if changed.iter().any(is_pipeline) {
        return Some(Vec::new());
    }
    let sees = |index: &usize| {
        plan.jobs.get(*index).is_some_and(|job| match job.workspace {
            Workspace::Cow => !changed.is_empty(),
            Workspace::Git => committed,
            Workspace::None => false,
        })
    };
    let groups = plan.groups.iter().filter(|group| group.jobs.clone().any(|job| sees(&job)));
    let jobs: Vec<String> = groups.map(|group| group.id.clone()).collect();
    if jobs.is_empty() {
        return None;
    }
    Some(if jobs.len() == plan.groups.len() { Vec::new() } else { jobs })
}

/// Where git keeps what it knows of the project: in `.git`, or in the repository that this names.
fn git_directories(project: &Path) -> Vec<PathBuf> {
    let beside = project.join(".git");
    let Some(Linked { common, own }) = git::linked(project) else { return vec![beside] };
    let own = (!own.is_empty()).then(|| common.join(own));
    // What is of this working tree comes first: it is below the other.
    own.into_iter().chain([common, beside]).collect()
}

/// What a thread has seen to change; it ends with the process.
struct Changes(mpsc::UnboundedReceiver<std::io::Result<PathBuf>>);

impl Changes {
    fn watch(project: &Path, out: Option<&Path>, git: &[PathBuf]) -> std::io::Result<Self> {
        let out = out.map(std::path::absolute).transpose()?;
        let mut watch = Watch {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC)?,
            directories: HashMap::new(),
            git: git.to_vec(),
            ignored: out.into_iter().chain(git.iter().cloned()).collect(),
        };
        watch.add(project.to_owned())?;
        for directory in git {
            watch.add_commits(directory)?;
        }
        let (seen, changes) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            loop {
                match watch.next() {
                    Ok(paths) => {
                        if !paths.into_iter().all(|path| seen.send(Ok(path)).is_ok()) {
                            return;
                        }
                    }
                    Err(error) => {
                        // Whoever waited may have gone.
                        seen.send(Err(error)).ok();
                        return;
                    }
                }
            }
        })?;
        Ok(Self(changes))
    }

    /// Waits for changes, and for quiet after them.
    async fn next(&mut self) -> std::io::Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        loop {
            let quiet = async {
                match changed.is_empty() {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(QUIET).await,
                }
            };
            let path = tokio::select! {
                path = self.0.recv() => path,
                () = quiet => return Ok(changed),
            };
            let ended = || Err(std::io::Error::other("the thread that watches has ended"));
            changed.insert(path.unwrap_or_else(ended)?);
        }
    }
}

fn flags() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_ONLYDIR
        | AddWatchFlags::IN_DONT_FOLLOW
}

/// Directories that are watched.
struct Watch {
    inotify: Inotify,
    directories: HashMap<WatchDescriptor, PathBuf>,
    /// Git's own, of which only some is watched.
    git: Vec<PathBuf>,
    /// What a run itself writes, and git's own.
    ignored: Vec<PathBuf>,
}

impl Watch {
    fn add(&mut self, directory: PathBuf) -> std::io::Result<()> {
        let mut left = vec![directory];
        while let Some(directory) = left.pop() {
            if self.ignored.contains(&directory) {
                continue;
            }
            if self.directories.len() >= DIRECTORIES_MAX {
                let most = format!("there are more than {DIRECTORIES_MAX} directories in it");
                return Err(std::io::Error::other(most));
            }
            // What has gone meanwhile is not watched.
            let Ok(descriptor) = self.inotify.add_watch(&directory, flags()) else { continue };
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push(entry.path());
                }
            }
            self.directories.insert(descriptor, directory);
        }
        Ok(())
    }

    /// Watches where git says what is checked out, and not all that it keeps.
    fn add_commits(&mut self, git: &Path) -> std::io::Result<()> {
        if let Ok(descriptor) = self.inotify.add_watch(git, flags()) {
            self.directories.insert(descriptor, git.to_owned());
            self.add(git.join("refs"))?;
        }
        Ok(())
    }

    /// Waits for events; the paths that they are about.
    fn next(&mut self) -> std::io::Result<Vec<PathBuf>> {
        let mut changed = Vec::new();
        for event in self.inotify.read_events()? {
            let Some(directory) = self.directories.get(&event.wd) else { continue };
            let path = event.name.map_or_else(|| directory.clone(), |name| directory.join(name));
            if self.ignored.contains(&path) {
                continue;
            }
            let of_git = self.git.contains(directory);
            if event.mask.contains(AddWatchFlags::IN_ISDIR) && !of_git && path.is_dir() {
                self.add(path.clone())?;
            }
            changed.push(path);
        }
        Ok(changed)
    }
}
