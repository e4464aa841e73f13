//! Keeps what a job has written so far, and puts up a container that goes on from there.
//!
//! The upper directories of a mounted overlay cannot become a layer, so the container ends and the
//! next one starts over its upper directories as they stand: no byte is copied. Processes that steps
//! have left running end with it.

use std::sync::Arc;

use cofferdam_jobs::state::{Fault, Kept};
use cofferdam_sandbox::{Container, End, Sandbox, State};

use super::{
    fault_of, in_words,
    keeping::{Keeping, KeptState},
    start::Base,
};

/// The least that the next container must be able to write.
const DISK_MIN: u64 = 1024 * 1024;

/// A container that went on from another's end.
#[derive(Debug)]
pub(in crate::execute) struct Sealed {
    pub(in crate::execute) container: Container,
    pub(in crate::execute) base: Base,
    /// What the one before has written.
    pub(in crate::execute) state: Arc<State>,
    pub(in crate::execute) kept: Kept,
    /// What became of it where it is to stay after the run.
    pub(in crate::execute) kept_state: Option<KeptState>,
    /// What the one before has used.
    pub(in crate::execute) used: End,
    /// Whether that was in a network with others.
    pub(in crate::execute) is_shared: bool,
}

/// Why no container goes on from another's end.
#[derive(Debug)]
pub(in crate::execute) struct Unsealed {
    pub(in crate::execute) fault: Fault,
    /// One sentence for the user.
    pub(in crate::execute) why: String,
    /// What that one has used, where it could be ended, and whether its network was one with others.
    pub(in crate::execute) used: Option<Box<(End, bool)>>,
}

impl Unsealed {
    /// A fault of the host, with nothing known of the container.
    pub(in crate::execute) fn system(why: String) -> Self {
        Self { fault: Fault::System, why, used: None }
    }
}

/// Ends `container`, and puts up one like `base` over what it has written, by whom the history of
/// images is told. That stays for longer than the run where it can be kept.
pub(in crate::execute) async fn seal(
    sandbox: Sandbox,
    container: Arc<Container>,
    base: Base,
    (made_by, keeping): (String, Option<Keeping>),
) -> Result<Box<Sealed>, Unsealed> {
    let failed = |error: cofferdam_sandbox::Error, used| {
        let (fault, why) = (fault_of(&error), in_words(&error));
        Unsealed { fault, why, used }
    };
    container.stop().await.map_err(|error| failed(error, None))?;
    let state = container.state();
    let used = container.end().await.map_err(|error| failed(error, None))?;
    let is_shared = container.spec().network.is_shared();
    drop(container);
    let next = async {
        let state = state?;
        state.describe(made_by);
        go_on(sandbox, state, base, &used, keeping).await
    };
    match next.await {
        Ok(Next { container, base, state, kept, kept_state }) => {
            Ok(Box::new(Sealed { container, base, state, kept, kept_state, used, is_shared }))
        }
        Err(error) => Err(failed(error, Some(Box::new((used, is_shared))))),
    }
}

/// What [`Sealed`] has of the container that stands.
struct Next {
    container: Container,
    base: Base,
    state: Arc<State>,
    kept: Kept,
    kept_state: Option<KeptState>,
}

/// Puts up a container like `base` over what one that used so much has written.
async fn go_on(
    sandbox: Sandbox,
    state: Arc<State>,
    mut base: Base,
    used: &End,
    keeping: Option<Keeping>,
) -> cofferdam_sandbox::Result<Next> {
    let kept = kept(&state)?;
    let kept_state = match keeping {
        Some(keeping) => {
            let state = Arc::clone(&state);
            let kept = tokio::task::spawn_blocking(move || keeping.keep(&state)).await;
            Some(kept.map_err(|error| cofferdam_sandbox::Error::system("keep a state", error))?)
        }
        None => None,
    };
    base.layers = state.layers();
    // All containers of a job share its limit.
    let size = kept.memory.saturating_add(kept.disk);
    base.limits.disk = base.limits.disk.saturating_sub(size).max(DISK_MIN);
    base.limits.inodes = base.limits.inodes.saturating_sub(used.disk_inodes).max(64);
    let container = sandbox.create(base.spec()).await?;
    Ok(Next { container, base, state, kept, kept_state })
}

/// What keeping `state` takes.
pub(in crate::execute) fn kept(state: &Arc<State>) -> cofferdam_sandbox::Result<Kept> {
    Ok(match state.size()? {
        (memory, true) => Kept { memory, disk: 0 },
        (disk, false) => Kept { memory: 0, disk },
    })
}
