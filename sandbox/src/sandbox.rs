//! The front door: a sandbox makes containers.
//!
//! # Example
//! ```no_run
//! use std::{path::Path, sync::Arc};
//! use cofferdam_sandbox::{ContainerSpec, Program, Sandbox, Streams, image::Store, spawner};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spawner = spawner::start()?; // first of all, while there is one thread
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! runtime.block_on(async {
//!     let state = Path::new("/var/lib/cofferdam");
//!     let sandbox = Sandbox::open(spawner, state)?;
//!     let image = Store::open(state)?.get("host")?;
//!     let container = sandbox.create(ContainerSpec::new(Arc::new(image))).await?;
//!     let program = Program::new(["/bin/echo", "hello"]);
//!     let exit = container.start(program, Streams::null()?, None).await?.wait().await?;
//!     assert_eq!(exit.code(), Some(0));
//!     container.end().await?;
//!     assert_eq!(sandbox.close().await, []); // nothing was left behind
//!     Ok(())
//! })
//! # }
//! ```

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::sync::Mutex;

use crate::{
    Limits,
    cgroup::{self, Hierarchy, Limit},
    container::{Container, ContainerSpec, Pool, Standing, Takedowns},
    error::{Doing as _, Error, Result, with_causes},
    ids::{self, Ids},
    in_use::{InUse, Unused},
    init::NAMESPACES,
    journal::{self, Entry, Journal},
    kept_mounts::KeptMounts,
    mount_table::Places,
    network::{Network, Networks, SharedNetwork},
    residue::{Ended, Kind, Residue, Trail},
    scratch::{Rooms, ScratchKind, Site},
    seccomp::ForeignAbi,
    spawner::Spawner,
    supervisor,
};

/// How long containers that are still in use are waited for at the end: longer than an init may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a container that was handed over has before others are made beside it: its first program
/// is started within, where that is asked for at once.
const FIRST_MOMENT: Duration = Duration::from_millis(4);

/// Makes containers; one per process is enough.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub(crate) shared: InUse<Shared>,
    pool: Arc<Pool>,
    standing: Arc<Standing>,
    unused: Arc<Mutex<Unused>>,
}

/// What all containers of a sandbox share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) spawner: Spawner,
    pub(crate) state: PathBuf,
    pub(crate) ids: Ids,
    /// Numbers the containers.
    pub(crate) containers: AtomicU64,
    pub(crate) groups: cgroup::Instance,
    hierarchy: Hierarchy,
    pub(crate) host_namespaces: Vec<u64>,
    pub(crate) foreign_abi: ForeignAbi,
    /// Where those paths of the host lie that containers must not see.
    pub(crate) places: Places,
    pub(crate) journal: Journal,
    pub(crate) networks: Networks,
    pub(crate) rooms: Rooms,
    pub(crate) kept_mounts: KeptMounts,
    /// Of containers that were dropped.
    pub(crate) takedowns: Takedowns,
    pub(crate) trail: Trail,
}

/// What the operator has decided for all containers of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Limits that containers go without where the host cannot enforce them; [`Sandbox::without`] says
    /// which these are.
    pub dispensable: Vec<Limit>,
    /// What becomes of programs for another ABI than the machine's own.
    pub foreign_abi: ForeignAbi,
}

impl Sandbox {
    /// Opens a sandbox that keeps its state below `state`, which is made where it is missing, and
    /// undoes what killed runs have left there. This process' soft limit of open files becomes the
    /// hard one, and where it may it becomes a late victim when the host runs out of memory.
    ///
    /// # Errors
    /// When this user may not make containers, or the host cannot (see `cofferdam doctor`).
    pub fn open(spawner: Spawner, state: &Path) -> Result<Self> {
        Self::open_with(spawner, state, &Policy::default())
    }

    /// As [`Self::open`], with what the operator has decided for all containers.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(spawner: Spawner, state: &Path, policy: &Policy) -> Result<Self> {
        supervisor::raise_open_files();
        supervisor::be_a_late_victim();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|error| {
            Error::system(format!("make the state directory `{}`", state.display()), error)
                .remedy("choose another with `--state` or the variable COFFERDAM_STATE")
        })?;
        let state = fs::canonicalize(state)
            .system(|| format!("find the state directory `{}`", state.display()))?;
        journal::recover(&state)?;
        let ids = Ids::open()?;
        let journal = Journal::create(&state)?;
        spawner.watch(journal.directory(), journal.lock(), ids.descriptor())?;
        let hierarchy = Hierarchy::detect(&[spawner.pid()])?;
        let directories = hierarchy.instance(journal.id())?.directories();
        journal.record(&Entry::ControlGroups(directories))?;
        let groups = hierarchy.prepare(journal.id(), &policy.dispensable)?;
        let host_namespaces = host_namespaces().system(|| "read this process's namespaces")?;
        let shared = Shared {
            spawner,
            state,
            ids,
            containers: AtomicU64::new(0),
            groups,
            hierarchy,
            host_namespaces,
            foreign_abi: policy.foreign_abi,
            places: Places::default(),
            journal,
            networks: Networks::new(Path::new(ids::LOCKS)),
            rooms: Rooms::default(),
            kept_mounts: KeptMounts::default(),
            takedowns: Takedowns::default(),
            trail: Trail::default(),
        };
        let (shared, unused) = InUse::new(shared);
        let unused = Arc::new(Mutex::new(unused));
        Ok(Self { shared, pool: Arc::default(), standing: Arc::default(), unused })
    }

    /// Puts a container up: when this returns, it stands and was verified.
    ///
    /// # Errors
    /// With [`crate::Fault::Pipeline`] when the image or the mounts are to blame, with
    /// [`crate::Fault::System`] otherwise. Nothing is left behind then.
    pub async fn create(&self, spec: ContainerSpec) -> Result<Container> {
        self.shared.takedowns.catch_up().await;
        if let Some(container) = self.standing.take(&spec).await {
            self.make_ahead_soon();
            return Ok(container);
        }
        let (shared, pool) = (self.shared.clone(), Arc::clone(&self.pool));
        // Should nobody wait for it any more, what was made goes before the share in the sandbox.
        let make = move || (crate::container::prepare(&shared, &pool, spec), shared);
        let (prepared, shared) =
            tokio::task::spawn_blocking(make).await.system(|| "prepare a container")?;
        self.make_ahead();
        Container::new(shared, prepared?)
    }

    /// Says that so many more containers will be asked for. Some are begun ahead of need, so that
    /// they stand sooner; one that is not asked for after all ends with the sandbox.
    pub fn expect(&self, more: usize) {
        self.pool.expect(more);
        self.make_ahead();
    }

    /// Says that containers will be asked for that keep what they write as `scratch` says and within
    /// these limits, in about this order. Some of the file systems on disk are made ahead of need.
    pub fn expect_scratch(&self, scratch: ScratchKind, limits: &[Limits]) {
        self.shared.rooms.expect(scratch, limits, self.shared.site());
        self.make_ahead();
    }

    /// As [`Self::expect`], for containers that are known already: [`Self::create`] with the same
    /// description only hands one over that stands and was verified. A few stand at once; those
    /// that are connected to a network, or lie beside another container, are made when asked for.
    pub fn expect_like(&self, spec: ContainerSpec, more: usize) {
        self.standing.expect(spec, more);
        self.make_ahead_soon();
    }

    /// Makes what is expected, after a moment where that does no harm: what is made ahead of need must
    /// not hold up what is needed now.
    fn make_ahead_soon(&self) {
        if !self.standing.can_wait() {
            return self.make_ahead();
        }
        let later = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(FIRST_MOMENT).await;
            later.make_ahead();
        });
    }

    fn make_ahead(&self) {
        while let Some(order) = self.standing.next() {
            let shared = self.shared.clone();
            tokio::task::spawn_blocking(move || order.make(shared));
        }
        while let Some(wanted) = self.pool.wanted() {
            let shared = self.shared.clone();
            tokio::task::spawn_blocking(move || wanted.begin(shared));
        }
        while let Some(wanted) = self.shared.rooms.wanted() {
            if wanted.is_on_loop_device() {
                self.shared.trail.has_loop_device();
            }
            let shared = self.shared.clone();
            tokio::task::spawn_blocking(move || wanted.make(shared.site()));
        }
    }

    /// Makes a network for several containers, which reach each other in it on loopback and by
    /// `names`: a job and its services. Give it to each as [`ContainerSpec::network`].
    ///
    /// # Errors
    /// With [`crate::Fault::Pipeline`] when a name is none, or a destination cannot be allowed;
    /// with [`crate::Fault::System`] when this host cannot give what is asked for.
    pub async fn share_network(
        &self,
        network: Network,
        names: Vec<String>,
    ) -> Result<SharedNetwork> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || shared.networks.open(&shared, &network, names))
            .await
            .system(|| "make a network")?
    }

    /// Ends the spawner, and with it what still runs, removes all that this sandbox made, and looks
    /// whether anything of it is still there; returns what is. `cofferdam gc` tries again.
    ///
    /// It waits for containers that are still being put up or taken down elsewhere.
    pub async fn close(self) -> Vec<Residue> {
        let Self { shared, pool, standing, unused } = self;
        // A container that cannot be ended is left to the spawner's end.
        let ends = shared.clone();
        let end = move || {
            ends.spawner.rest();
            standing.close();
            pool.close();
            ends.rooms.close();
        };
        tokio::task::spawn_blocking(end).await.ok();
        let shared = shared.into_inner();
        let unused = async { unused.lock().await.wait().await };
        // If it is in vain, the look below says so.
        tokio::time::timeout(PATIENCE, unused).await.ok();
        shared.takedowns.finish().await;
        let Some(shared) = Arc::into_inner(shared) else {
            let residue = Residue::new(Kind::Process, "containers");
            return vec![residue.because("a container is still in use")];
        };
        tokio::task::spawn_blocking(move || shared.close()).await.unwrap_or_else(|error| {
            vec![Residue::new(Kind::Journal, "unknown").because(error.to_string())]
        })
    }

    /// The limits that containers do not have here.
    pub fn without(&self) -> &[Limit] {
        self.shared.groups.without()
    }

    /// The state directory, as an absolute path without symbolic links.
    pub fn state(&self) -> &Path {
        &self.shared.state
    }
}

impl Shared {
    /// Where containers keep what they write.
    pub(crate) fn site(&self) -> Site<'_> {
        let (files, projects) = (self.journal.directory(), self.ids.projects());
        Site { state: &self.state, files, projects }
    }

    /// In the order of making, backwards.
    fn close(self) -> Vec<Residue> {
        let mut residue = Vec::new();
        let mut failed = |kind, name: &str, result: Result<()>| {
            let why = result.err().map(|error| with_causes(&error));
            residue.extend(why.map(|why| Residue::new(kind, name).because(why)));
        };
        // No container is left. What carries a user's packets is ended on purpose, not as a loss.
        drop(self.networks);
        drop(self.kept_mounts);
        // It undoes the journal, which takes as long as the look at what this process has.
        self.spawner.dismiss();
        let own = self.trail.audit_own(self.journal.directory());
        failed(Kind::Process, "spawner", self.spawner.stop());
        let started = self.spawner.take_started();
        let (id, entries) = (self.journal.id().to_owned(), self.journal.entries());
        let journal = self.journal.directory().to_owned();
        let not_undone = self.journal.finish().err().map(|error| with_causes(&error));
        failed(Kind::ControlGroup, "supervisor", self.hierarchy.leave());
        residue.extend(own);
        residue.extend(self.trail.audit(Ended {
            id: &id,
            journal: &journal,
            not_undone,
            entries: &entries,
            started,
            ids: self.ids.held(),
        }));
        residue
    }
}

fn host_namespaces() -> io::Result<Vec<u64>> {
    NAMESPACES.iter().map(|name| Ok(fs::metadata(format!("/proc/self/ns/{name}"))?.ino())).collect()
}
