//! Numbers for the networks of one run, where no lock of the machine gives them one.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use super::addresses::BESIDE_UPLINK;
use crate::error::{Error, Result};

/// The numbers that are taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Arc<Mutex<BTreeSet<u32>>>);

/// One number, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    number: u32,
}

impl Slots {
    /// Takes the lowest that is free.
    pub(super) fn take(&self) -> Result<Slot> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (0..BESIDE_UPLINK).find(|number| !taken.contains(number)) {
            Some(number) => {
                taken.insert(number);
                drop(taken);
                Ok(Slot { slots: self.clone(), number })
            }
            None => {
                let why = format!("{BESIDE_UPLINK} containers of this run have one already");
                Err(Error::system("connect a container to the network", why)
                    .remedy("run fewer jobs at once"))
            }
        }
    }
}

impl Slot {
    /// Which it is.
    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once_and_again() {
        let slots = Slots::default();
        let mut all: Vec<Slot> = (0..BESIDE_UPLINK).map(|_| slots.take().unwrap()).collect();
        slots.take().unwrap_err();
        all.remove(7);
        assert_eq!(slots.take().unwrap().number(), 7);
    }
}
