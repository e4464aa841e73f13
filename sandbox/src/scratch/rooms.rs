//! The rooms of a sandbox, those on disk made ahead of need.
//!
//! One on disk takes a few milliseconds, most of them waiting for the kernel, so none is made on the
//! path of a job: a run says what its jobs will ask for, and the next few are made while others
//! work. One that was made ahead is empty, is of exactly the size that is asked for, and lies where
//! it would lie otherwise.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use super::{
    choice::{self, Availability, ScratchKind},
    making::{Making, Order, Size},
    room::Room,
};
use crate::{
    Limits,
    ahead::{Ahead, Begun},
    error::Result,
    ids::Numbers,
};

/// Most rooms at once that nobody uses yet: one to be taken and one in the making.
const MOST: usize = 2;

/// Makes rooms.
#[derive(Debug)]
pub(crate) struct Rooms {
    /// Looked at once: a host does not change while a run lasts.
    host: OnceLock<Availability>,
    ahead: Arc<Ahead<Size, Room>>,
}

/// Where rooms are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site<'a> {
    /// Below it is what all runs share.
    pub(crate) state: &'a Path,
    /// The run's own directory: what lies on disk is made in it, and is told by it from others'.
    pub(crate) files: &'a Path,
    /// For quotas, where this user may set any.
    pub(crate) projects: Option<&'a Numbers>,
}

/// A room that is to be made ahead of need.
#[derive(Debug)]
pub(crate) struct Wanted(Begun<Size, Room>);

impl Default for Rooms {
    fn default() -> Self {
        Self { host: OnceLock::new(), ahead: Ahead::new(MOST) }
    }
}

impl Rooms {
    /// Containers with these limits will be asked for, in about this order.
    pub(crate) fn expect(&self, kind: ScratchKind, limits: &[Limits], site: Site<'_>) {
        // Where there is no room to be had, whoever asks for it is told why.
        let sizes = limits.iter().filter_map(|limits| {
            let backend = choice::choose(kind, limits, self.host(site)).ok()?;
            Size::on_disk(backend, limits)
        });
        self.ahead.expect(sizes);
    }

    /// Another one, if it should be made now.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        self.ahead.begin().map(Wanted)
    }

    /// Decides what the room of a container will be, and begins to make it unless there is one.
    pub(crate) fn start(
        &self,
        kind: ScratchKind,
        limits: &Limits,
        site: Site<'_>,
    ) -> Result<Making> {
        let host = self.host(site);
        let backend = choice::choose(kind, limits, host)?;
        let Some(size) = Size::on_disk(backend, limits) else {
            return Ok(Making::in_memory(limits));
        };
        let instead = (kind == ScratchKind::Auto && host.memory.is_ok()).then(|| limits.clone());
        let order = Order::new(size, site);
        match self.ahead.reserve(&size) {
            Some(reserved) => Ok(Making::ahead(reserved, order, instead)),
            None => Making::by_a_thread(order, instead),
        }
    }

    /// Waits for those in the making, and frees all that nobody has taken.
    pub(crate) fn close(&self) {
        self.ahead.close();
    }

    fn host(&self, site: Site<'_>) -> &Availability {
        self.host.get_or_init(|| Availability::of_host(site.state))
    }
}

impl Wanted {
    /// Whether a loop device will be in use for it.
    pub(crate) fn is_on_loop_device(&self) -> bool {
        self.0.kind().is_on_loop_device()
    }

    /// Makes it. One that cannot be made is no loss: whoever needs it tries again, and reports why.
    pub(crate) fn make(self, site: Site<'_>) {
        match Order::new(*self.0.kind(), site).make() {
            Ok(room) => self.0.give(room),
            Err(error) => {
                tracing::debug!(%error, "no scratch file system could be made ahead of need");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Each is of the size that was asked for, whatever lies ready.
    #[test]
    fn what_is_made_ahead_fits_exactly_or_is_not_taken() {
        let state = tempfile::tempdir().unwrap();
        if let Err(why) = Availability::of_host(state.path()).disk {
            crate::tests::not_run(
                "what_is_made_ahead_fits_exactly_or_is_not_taken",
                &why.to_string(),
            );
            return;
        }
        let site = Site { state: state.path(), files: state.path(), projects: None };
        let limits = |disk, inodes| Limits { disk: disk * MIB, inodes, ..Limits::default() };
        let rooms = Rooms::default();
        // Two groups, whose inodes are rounded up each.
        let (small, large) = (limits(200, 3000), limits(40, 2000));
        rooms.expect(ScratchKind::Disk, &[small.clone(), large.clone(), small.clone()], site);
        rooms.expect(ScratchKind::Memory, &[limits(30, 2000)], site);
        let make_ahead = || {
            let wanted = std::iter::from_fn(|| rooms.wanted());
            wanted.map(|wanted| wanted.make(site)).count()
        };
        assert_eq!((make_ahead(), make_ahead()), (MOST, 0));
        let take = |limits: &Limits| rooms.start(ScratchKind::Disk, limits, site).unwrap();
        for (limits, is_ready) in [
            (&limits(200, 9000), false),
            (&small, true),
            (&limits(80, 2000), false),
            (&small, false),
            (&large, true),
        ] {
            let making = take(limits);
            assert_eq!(making.is_ahead(), is_ready, "{limits:?}");
            let room = making.finish().unwrap();
            assert_eq!(room.whole().bytes, limits.disk);
            let inodes = room.whole().inodes;
            assert!((limits.inodes..limits.inodes + 256).contains(&inodes), "{inodes}");
            assert_eq!(room.used().unwrap().bytes, 0);
        }
        assert_eq!(make_ahead(), 0, "what its taker made is expected no more");
        rooms.expect(ScratchKind::Disk, std::slice::from_ref(&small), site);
        assert_eq!(make_ahead(), 1);
        let devices = || {
            let all = super::super::loop_devices().unwrap();
            all.into_iter().filter(|(_, file)| file.starts_with(state.path())).count()
        };
        assert_eq!(devices(), 1);
        rooms.close();
        assert_eq!(devices(), 0);
    }
}
