//! Things that are made before anyone asks for them.
//!
//! Whoever knows what will be asked for says so, and somebody makes the next few of it, in that
//! order. Each is taken once and never given back. A panic or a failure of a maker is no loss:
//! whoever needs the thing makes it then, and meets the reason why it cannot be made.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// Things of several kinds `K`; two of one kind can stand for each other.
#[derive(Debug)]
pub(crate) struct Ahead<K, T> {
    /// Most of them at once, made and in the making.
    most: usize,
    state: Mutex<State<K, T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<K, T> {
    /// What will be asked for and is neither made nor in the making.
    expected: VecDeque<K>,
    slots: Vec<Slot<K, T>>,
    /// The number of the next slot.
    next: u64,
}

#[derive(Debug)]
struct Slot<K, T> {
    number: u64,
    kind: K,
    /// `None` while it is in the making.
    thing: Option<T>,
    is_reserved: bool,
}

/// One that is to be made now; dropped without being given, it counts as not made.
#[derive(Debug)]
pub(crate) struct Begun<K, T> {
    ahead: Arc<Ahead<K, T>>,
    kind: K,
    number: u64,
}

/// One that was made, or is being made, for its holder alone.
#[derive(Debug)]
pub(crate) enum Reserved<K, T> {
    Made(T),
    InTheMaking(Place<K, T>),
}

/// A claim on one that is in the making.
#[derive(Debug)]
pub(crate) struct Place<K, T> {
    ahead: Arc<Ahead<K, T>>,
    number: u64,
}

impl<K: Clone + PartialEq, T> Ahead<K, T> {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let state = State { expected: VecDeque::new(), slots: Vec::new(), next: 0 };
        Arc::new(Self { most, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// These will be asked for, in about this order.
    pub(crate) fn expect(&self, kinds: impl IntoIterator<Item = K>) {
        self.lock().expected.extend(kinds);
    }

    /// The next one to be made, unless there are enough: whoever is told so makes it.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Begun<K, T>> {
        let mut state = self.lock();
        if state.slots.len() >= self.most {
            return None;
        }
        let kind = state.expected.pop_front()?;
        let number = state.next;
        state.next += 1;
        state.slots.push(Slot { number, kind: kind.clone(), thing: None, is_reserved: false });
        Some(Begun { ahead: Arc::clone(self), kind, number })
    }

    /// How many are made and promised to nobody.
    pub(crate) fn stock(&self) -> usize {
        let made = |slot: &&Slot<K, T>| slot.thing.is_some() && !slot.is_reserved;
        self.lock().slots.iter().filter(made).count()
    }

    /// Keeps one of this kind for the caller, if there is one, made or in the making; otherwise the
    /// caller makes one.
    pub(crate) fn reserve(self: &Arc<Self>, kind: &K) -> Option<Reserved<K, T>> {
        let mut state = self.lock();
        let fits = |slot: &Slot<K, T>| slot.kind == *kind && !slot.is_reserved;
        let made = |slot: &Slot<K, T>| fits(slot) && slot.thing.is_some();
        if let Some(place) = state.slots.iter().position(made) {
            return state.slots.remove(place).thing.map(Reserved::Made);
        }
        if let Some(slot) = state.slots.iter_mut().find(|slot| fits(slot)) {
            slot.is_reserved = true;
            let place = Place { ahead: Arc::clone(self), number: slot.number };
            return Some(Reserved::InTheMaking(place));
        }
        // What the caller makes is one of those.
        if let Some(place) = state.expected.iter().position(|it| it == kind) {
            state.expected.remove(place);
        }
        None
    }

    /// Waits for those in the making, and drops all; nothing is made any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.expected.clear();
        while state.slots.iter().any(|slot| slot.thing.is_none()) {
            state = self.wait(state);
        }
        let unused = std::mem::take(&mut state.slots);
        drop(state);
        drop(unused);
    }
}

impl<K, T> Ahead<K, T> {
    fn lock(&self) -> MutexGuard<'_, State<K, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<K, T>>) -> MutexGuard<'a, State<K, T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T> State<K, T> {
    fn place_of(&self, number: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.number == number)
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot<K, T>> {
        self.slots.iter_mut().find(|slot| slot.number == number)
    }
}

impl<K, T> Begun<K, T> {
    /// What is to be made.
    pub(crate) fn kind(&self) -> &K {
        &self.kind
    }

    /// It is made.
    pub(crate) fn give(self, thing: T) {
        if let Some(slot) = self.ahead.lock().slot(self.number) {
            slot.thing = Some(thing);
        }
    }
}

impl<K, T> Drop for Begun<K, T> {
    fn drop(&mut self) {
        let mut state = self.ahead.lock();
        state.slots.retain(|slot| slot.number != self.number || slot.thing.is_some());
        drop(state);
        self.ahead.changed.notify_all();
    }
}

impl<K, T> Reserved<K, T> {
    /// Waits for it; `None` when it could not be made.
    pub(crate) fn wait(self) -> Option<T> {
        match self {
            Self::Made(thing) => Some(thing),
            Self::InTheMaking(place) => place.wait(),
        }
    }
}

impl<K, T> Place<K, T> {
    fn wait(self) -> Option<T> {
        let mut state = self.ahead.lock();
        loop {
            let place = state.place_of(self.number)?;
            if state.slots.get(place).is_some_and(|slot| slot.thing.is_some()) {
                return state.slots.remove(place).thing;
            }
            state = self.ahead.wait(state);
        }
    }
}

impl<K, T> Drop for Place<K, T> {
    /// Who does not wait for it leaves it to others.
    fn drop(&mut self) {
        if let Some(slot) = self.ahead.lock().slot(self.number) {
            slot.is_reserved = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{panic, thread, time::Duration};

    use super::*;

    fn kinds(ahead: &Arc<Ahead<&'static str, u32>>) -> Vec<&'static str> {
        std::iter::from_fn(|| ahead.begin())
            .map(|begun| {
                let kind = *begun.kind();
                begun.give(0);
                kind
            })
            .collect()
    }

    fn made(ahead: &Arc<Ahead<&'static str, u32>>, kind: &'static str) -> bool {
        matches!(ahead.reserve(&kind), Some(Reserved::Made(_)))
    }

    #[test]
    fn a_few_are_made_in_the_order_in_which_they_are_expected() {
        let ahead = Ahead::new(2);
        assert!(ahead.begin().is_none() && ahead.reserve(&"a").is_none());
        ahead.expect(["a", "b", "a", "c"]);
        assert_eq!(kinds(&ahead), ["a", "b"]);
        assert!(!made(&ahead, "c"), "it is made by whoever needs it, and not expected any more");
        assert_eq!(ahead.stock(), 2);
        assert!(made(&ahead, "a") && !made(&ahead, "x"));
        assert_eq!(ahead.stock(), 1);
        assert_eq!(kinds(&ahead), ["a"]);
        assert!(made(&ahead, "b") && made(&ahead, "a") && !made(&ahead, "a"));
        assert!(kinds(&ahead).is_empty());
    }

    #[test]
    fn one_in_the_making_is_waited_for_by_one() {
        let ahead = Ahead::new(2);
        ahead.expect(["a"]);
        let begun = ahead.begin().unwrap();
        let first = ahead.reserve(&"a").unwrap();
        assert!(ahead.reserve(&"a").is_none());
        drop(first);
        let second = ahead.reserve(&"a").unwrap();
        let waits = thread::spawn(move || second.wait());
        thread::sleep(Duration::from_millis(5));
        begun.give(7);
        assert_eq!(waits.join().unwrap(), Some(7));
        assert!(ahead.reserve(&"a").is_none());
    }

    #[test]
    fn a_maker_that_panics_holds_up_nobody() {
        let ahead = Ahead::<_, u32>::new(2);
        ahead.expect(["a", "a"]);
        for _ in 0..2 {
            let begun = ahead.begin().unwrap();
            let reserved = ahead.reserve(&"a").unwrap();
            let waits = thread::spawn(move || reserved.wait());
            let maker = thread::spawn(move || {
                let _begun = begun;
                panic::resume_unwind(Box::new("a fault"));
            });
            assert!(maker.join().is_err());
            assert_eq!(waits.join().unwrap(), None);
        }
        ahead.close();
    }

    #[test]
    fn the_end_waits_for_those_in_the_making_and_drops_all() {
        let ahead = Ahead::new(3);
        let thing = Arc::new(());
        ahead.expect(["a", "b", "c"]);
        ahead.begin().unwrap().give(Arc::clone(&thing));
        let begun = ahead.begin().unwrap();
        let (closes, given) = (Arc::clone(&ahead), Arc::clone(&thing));
        let end = thread::spawn(move || closes.close());
        thread::sleep(Duration::from_millis(5));
        assert!(!end.is_finished());
        begun.give(given);
        end.join().unwrap();
        assert_eq!(Arc::strong_count(&thing), 1);
        assert!(ahead.begin().is_none());
    }
}
