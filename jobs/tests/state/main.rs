//! The life of a run: events in, actions out.
//!
//! Each case is a pipeline and a script of events; the snapshot is the transcript, an event and
//! below it the actions that it causes.

mod transcript;

#[cfg(test)]
mod chains;
#[cfg(test)]
mod images;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod life;
#[cfg(test)]
mod room;
