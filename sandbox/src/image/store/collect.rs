//! Keeps the store from filling the disk: what nobody has used for longest goes first.
//!
//! Nothing goes that could not be had again by itself: images from a registry are, and what build
//! steps came to; images from a file are only taken when they are named ([`Store::remove`]). What
//! jobs have written goes as well: whoever wants more of it than a look has given it a name.

use std::time::{Duration, SystemTime};

use nix::sys::statvfs::statvfs;

use super::{
    ImageSummary, LayerKey, Scratch, Store, states::StateUse, steps::StepUse, sweep::Swept,
};
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
    /// How many states of jobs went.
    pub states: usize,
    /// What went with them.
    pub swept: Swept,
}

/// What may go, the least important first where both were unused for as long.
#[derive(Clone, Copy)]
enum Going<'a> {
    Step(&'a Digest),
    State(&'a Digest, &'a StateUse),
    Name(&'a ImageSummary),
}

impl Going<'_> {
    /// What is lost with it: steps are run again by themselves, names are fetched again, and a state
    /// is another run's.
    fn importance(self) -> u8 {
        match self {
            Self::Step(_) => 0,
            Self::Name(_) => 1,
            Self::State(..) => 2,
        }
    }
}

impl Store {
    /// Removes what no name leads to, then the names, build steps and states of jobs that were not
    /// used for longest, until what is left is within bounds. With `dry`, only says what would go.
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
        let mut going: Vec<(SystemTime, Going<'_>)> = Vec::new();
        for name in names.iter().filter(|name| name.replaceable) {
            going.extend(self.last_use(&name.reference)?.map(|used| (used, Going::Name(name))));
        }
        let steps = self.step_uses()?;
        let with_layers =
            steps.iter().filter(|(_, step): &&(Digest, StepUse)| step.layer.is_some());
        going.extend(with_layers.map(|(key, step)| (step.used, Going::Step(key))));
        let states = self.state_uses()?;
        going.extend(states.iter().map(|(image, of)| (of.used, Going::State(image, of))));
        going.retain(|(used, _)| used.elapsed().is_ok_and(|unused| unused >= keep.used_within));
        going.sort_unstable_by_key(|(used, going)| (*used, going.importance()));
        for (_, going) in going {
            if holdings.named() <= bound {
                break;
            }
            let name = match going {
                Going::Name(name) => name,
                Going::State(image, of) => {
                    if !self.is_any_leased(&of.written)? {
                        collected.states += 1;
                        holdings.forget_state(image);
                        if !dry {
                            self.remove_state(image)?;
                        }
                    }
                    continue;
                }
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

    fn is_any_leased(&self, layers: &[LayerKey]) -> Result<bool> {
        for layer in layers {
            if self.is_leased(layer)? {
                return Ok(true);
            }
        }
        Ok(false)
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
