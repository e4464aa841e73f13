//! ^C while the layers of an image come in: what was begun is taken away, and that is said.
//!
//! Left to itself the signal ends the process at once, and what it had of the image stays on the disk
//! until somebody uses the store again.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use cofferdam_sandbox::{Result, image::Progress};

use crate::{exit::Exit, print, problem::Problem, report::layers::Layers, supervise::Interrupts};

/// How long what was begun may take to be given up, such as one that waits for a registry.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does `work`, whose progress `layers` shows, until it is done or interrupted; `doing` is for the
/// message.
pub(super) fn until_interrupted<T>(
    doing: &str,
    layers: &Layers,
    failed: impl Fn(cofferdam_sandbox::Error) -> Problem,
    work: impl FnOnce(&(dyn Fn(Progress) -> ControlFlow<()> + Sync)) -> Result<T>,
) -> std::result::Result<T, Problem> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let (seen, what) = (Arc::clone(&interrupted), doing.to_owned());
    // It goes with the process: nothing ends a wait for signals.
    thread::spawn(move || watch(&seen, &what));
    let ended = work(&|event| match interrupted.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => layers.tell(event),
    });
    ended.map_err(|error| match interrupted.load(Ordering::Relaxed) {
        true => Problem::new(Exit::Cancelled, format!("cancelled while {doing}")),
        false => failed(error),
    })
}

#[expect(clippy::exit, reason = "what holds the rest up cannot be told to stop")]
fn watch(interrupted: &AtomicBool, doing: &str) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        // Then signals end the process by themselves.
        return;
    };
    runtime.block_on(async {
        let Ok(mut interrupts) = Interrupts::new() else { return };
        interrupts.next().await;
        interrupted.store(true, Ordering::Relaxed);
        tokio::time::timeout(PATIENCE, interrupts.next()).await.ok();
        // What is left is taken away when the store is opened again.
        print::standard_error(format_args!("error: cancelled while {doing}"));
        std::process::exit(Exit::Cancelled.code().into());
    });
}
