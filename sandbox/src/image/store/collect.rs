//! Keeps the store from filling the disk: what nobody has used for longest goes first.
//!
//! Nothing goes that could not be had again by itself: images from a registry are, and what build
//! steps came to; images from a file are only taken when they are named ([`Store::remove`]).

use std::time::{Duration, SystemTime};

use nix::sys::statvfs::statvfs;

use super::{ImageSummary, Scratch, Store, steps::StepUse, sweep::Swept};
use crate::{
    Result,
    error::Doing as _,
    image::{digest::Digest, reference::Reference},
};

/// What may stay; the smaller bound counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At most so many bytes of layers.
    pub bytes: u64,
    /// So much of the store's file system stays free, in percent of its size.
    pub free: u8,
    /// What was used in this time stays all the same.
    pub used_within: Duration,
}

/// What a collection took, or would take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The names that went, the longest unused first.
    pub names: Vec<Reference>,
    /// How many build steps went, which would have to be run again.
    pub steps: usize,
    /// What went with them.
    pub swept: Swept,
}

/// What may go, the least important first where both were unused for as long.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Going<'a> {
    Step(&'a Digest),
    Name(&'a ImageSummary),
}

impl Store {
    /// Removes what no name leads to, then the names and build steps that were not used for longest,
    /// until what is left is within bounds. With `dry`, only says what would go.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn collect(&self, keep: Keep, dry: bool) -> Result<Collected> {
        let scratch = Scratch::new(self)?;
        let lock = self.lock_exclusively()?;
        let mut collected = Collected::default();
        let names = self.list()?;
        let mut holdings = self.holdings(&names)?;
        let bound = keep.bytes.min(self.room(holdings.all(), keep.free)?);
        let mut replaceable: Vec<(SystemTime, _)> = Vec::new();
        for name in &names {
            let long_unused =
                |used: &SystemTime| used.elapsed().is_ok_and(|unused| unused >= keep.used_within);
            let used = self.last_use(&name.reference)?.filter(long_unused);
            if let Some(used) = used.filter(|_| name.replaceable) {
                replaceable.push((used, name));
            }
        }
        let steps = self.step_uses()?;
        let mut going: Vec<(SystemTime, Going<'_>)> =
            replaceable.into_iter().map(|(used, name)| (used, Going::Name(name))).collect();
        let long_unused =
            |step: &StepUse| step.used.elapsed().is_ok_and(|unused| unused >= keep.used_within);
        let unused = steps.iter().filter(|(_, step)| step.layer.is_some() && long_unused(step));
        going.extend(unused.map(|(key, step)| (step.used, Going::Step(key))));
        going.sort_unstable();
        for (_, going) in going {
            if holdings.named() <= bound {
                break;
            }
            let name = match going {
                Going::Name(name) => name,
                Going::Step(key) => {
                    collected.steps += 1;
                    holdings.forget_step(key);
                    if !dry {
                        self.remove_step(key)?;
                    }
                    continue;
                }
            };
            collected.names.push(name.reference.clone());
            let other =
                |it: &&ImageSummary| it.id == name.id && !collected.names.contains(&it.reference);
            if !names.iter().any(|it| other(&it)) {
                holdings.forget(&name.id);
            }
            if !dry {
                self.remove_name(&name.reference)?;
            }
        }
        collected.swept = self.sweep((!dry).then_some(&scratch), &holdings)?;
        // The files themselves go without holding anyone up.
        drop(lock);
        drop(scratch);
        Ok(collected)
    }

    /// The most bytes that the store may have, of which it has `held` now, so that a part of its
    /// file system stays free.
    fn room(&self, held: u64, free_percent: u8) -> Result<u64> {
        let found = statvfs(&self.root)
            .system(|| format!("look at the file system of `{}`", self.root.display()))?;
        let size = found.blocks() * found.fragment_size();
        let free = found.blocks_available() * found.fragment_size();
        Ok((held + free).saturating_sub(size / 100 * u64::from(free_percent)))
    }
}
