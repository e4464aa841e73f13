//! The life of a run: events in, actions out, no clock and no I/O.
//!
//! The runner performs each [`Action`] and answers with the [`Event`]s that follow from it:
//!
//! | action | is answered by |
//! |---|---|
//! | [`Action::StartJob`] | [`Event::JobStarted`], or [`Event::JobStartFailed`] when nothing is left of it |
//! | [`Action::StartStep`] | [`Event::StepEnded`]; a background step with `ready` first by [`Event::StepReady`] |
//! | [`Action::StopStep`] | nothing of its own: the step's [`Event::StepEnded`] comes sooner |
//! | [`Action::AbortStart`] | nothing of its own: the answer to [`Action::StartJob`] comes sooner |
//! | [`Action::SealJob`] | [`Event::JobSealed`] |
//! | [`Action::DropStates`] | nothing |
//! | [`Action::ArmTimer`] | [`Event::TimerFired`], unless [`Action::DisarmTimer`] comes first |
//! | [`Action::FinishJob`] | [`Event::JobFinished`] when the container is gone |
//! | [`Action::JobEnded`], [`Action::RunEnded`] | nothing |
//!
//! Life of a job:
//!
//! | phase | leaves it when | to |
//! |---|---|---|
//! | blocked | all it needs has ended | ready, or ended (skipped) by its `if` |
//! | ready | there is room: run, matrix, processors, memory, disk, also beside other runs | starting |
//! | starting | the container is up | steps |
//! | steps | the last step ended, the time is up, or it is cancelled, and no step is left running | cleanup |
//! | cleanup | the last cleanup step ended, or its own time is up | finishing |
//! | finishing | files are collected and the container is gone | ended, or backoff by `retry` |
//! | backoff | the timer fires | ready |
//!
//! What holds, and is tested by random walks: a job ends once, in one conclusion; nothing of it
//! starts before all it needs has ended; after a cancel nothing starts but cleanup steps, and after
//! a kill nothing at all; when every action is answered, the run ends.
//!
//! Decided on purpose:
//! - `fail-fast` is off unless the pipeline says otherwise: every result is worth having.
//! - A cancelled run starts no further job, also none with `if: always()`.
//! - `allow-failure` covers failures and timeouts of the job, never faults of the system.
//! - A job whose time is up runs no further step, also none with `if: always()`; cleanup steps
//!   have [`CLEANUP_TIMEOUT`] of their own.
//! - A job that waits for room does not hold up smaller ones behind it. Between runs it does: the
//!   run whose turn it is gets what becomes free until its job fits, or a large job would wait for
//!   ever. Whose turn it is, is for the runner to say ([`Event::Room`]).
//! - A service that ends while its job's steps run fails the job: its steps are stopped.
//! - What is kept of a job for others to start from counts against the capacity, while the job runs
//!   by the most that it can be ([`Demand`]) and then by what it takes, until the last of these, and
//!   of those that start from them, has ended. A job for which it leaves no room although nothing
//!   runs any more fails instead of waiting for ever.
//! - Background steps are ended one after the other, the last first: what was started later may
//!   still need what was started before. Where the job is cut short, all are ended at once.
//! - An image is made when a job is to run that uses it. That of a job without `if` is made at once,
//!   beside what the job needs: it is there when that has passed, and kept for the next run where it
//!   has not. Whether an `if` holds is waited for, and an image that only skipped jobs use is skipped.
//! - A background step with `ready` that ends before it is ready has failed, whatever its exit code.

mod action;
mod conclusion;
mod event;
mod fork;
mod job;
mod queue;
mod resolve;
mod run;
mod schedule;
mod scope;
mod settings;
mod steps;
mod upcoming;

pub use action::{
    Action, Collect, CollectArtifacts, EnvVar, ResolvedCache, ResolvedCommand, ResolvedReady,
    ResolvedService, ResolvedStep, SecretFile, StartFrom, StartJob, Stop, StopReason, Timer,
};
pub use conclusion::{Attempt, Cause, Conclusion, Reason, Retry};
pub use event::{Elsewhere, End, Event, Fault, Kept, Limit, Part, StepEnd, StepRef};
pub use job::{JobView, Phase, StepRecord, WaitingFor};
pub use run::Run;
pub use settings::{Capacity, Demand, KeepStates, Resource, Settings};
pub use steps::CLEANUP_TIMEOUT;
pub use upcoming::Upcoming;
