//! The caches of a job: found before it starts, kept after it has passed.

use std::path::{Path, PathBuf};

use cofferdam_jobs::state::ResolvedCache;
use cofferdam_sandbox::{
    Container, Layer, WORKSPACE,
    cache::{Caches, Entry, Saved},
    export, with_causes,
};

/// The largest file of accounts that is read.
const ACCOUNTS_MAX: u64 = 1024 * 1024;

/// The caches that a run can use.
#[derive(Clone, Debug)]
pub(in crate::execute) struct CacheStore {
    pub(in crate::execute) caches: Caches,
    /// Whose they are.
    pub(in crate::execute) scope: String,
}

/// What became of a cache of a try, for the record.
#[derive(Clone, Debug, Default)]
pub(in crate::execute) struct CacheReport {
    pub(in crate::execute) key: String,
    /// The key of what was restored.
    pub(in crate::execute) restored: Option<String>,
    /// Bytes that were kept.
    pub(in crate::execute) saved: Option<u64>,
    /// Why nothing was restored or kept that should have been.
    pub(in crate::execute) why: Option<String>,
}

/// A cache that a container shows; it stays as long as this lives.
#[derive(Debug)]
pub(in crate::execute) struct Restored {
    pub(in crate::execute) report: CacheReport,
    #[expect(dead_code, reason = "its lease is held")]
    entry: Option<Entry>,
}

impl CacheStore {
    /// Finds what there is; a cache that cannot be read is none, and the report says why.
    pub(in crate::execute) fn restore(
        &self,
        caches: &[ResolvedCache],
    ) -> (Vec<Layer>, Vec<Restored>) {
        let mut layers = Vec::new();
        let mut all = Vec::new();
        for cache in caches {
            let mut report = CacheReport { key: cache.key.clone(), ..CacheReport::default() };
            let entry = match self.caches.find(&self.scope, &cache.key, &cache.restore) {
                Ok(found) => found.map(|found| found.entry),
                Err(error) => {
                    report.why = Some(with_causes(&error));
                    None
                }
            };
            if let Some(entry) = &entry {
                report.restored = Some(entry.key.clone());
                layers.push(Layer::Tree(entry.tree.clone()));
            }
            all.push(Restored { report, entry });
        }
        (layers, all)
    }

    /// Keeps what is not kept yet. That a cache cannot be kept does not fail its job.
    pub(in crate::execute) fn save(
        &self,
        caches: &[ResolvedCache],
        container: &Container,
        user: &str,
        reports: &mut [CacheReport],
    ) {
        for cache in caches {
            let Some(report) = reports.iter_mut().find(|report| report.key == cache.key) else {
                continue;
            };
            if report.restored.as_ref() == Some(&cache.key) {
                continue;
            }
            let home = cache.paths.iter().any(|path| path.starts_with('~'));
            let home = home.then(|| home_of(container, user)).flatten();
            let paths: Vec<PathBuf> =
                cache.paths.iter().map(|path| absolute(path, home.as_deref())).collect();
            match self.caches.save(&self.scope, &cache.key, container, &paths) {
                Ok(Saved::Kept(bytes)) => report.saved = Some(bytes),
                Ok(Saved::Exists) => {}
                Ok(Saved::Nothing) => {
                    let paths = cache.paths.join("`, `");
                    report.why = Some(format!("nothing is there to keep, mounts aside: `{paths}`"));
                }
                Err(error) => report.why = Some(error.in_full()),
            }
        }
    }
}

/// A path of a cache: below the workspace, below the user's home, or absolute.
fn absolute(path: &str, home: Option<&str>) -> PathBuf {
    match (path.strip_prefix('~'), home) {
        (Some(rest), Some(home)) => Path::new(home).join(rest.trim_start_matches('/')),
        _ => Path::new(WORKSPACE).join(path),
    }
}

/// The home of `user` by the container's own accounts, as its processes had it.
fn home_of(container: &Container, user: &str) -> Option<String> {
    let accounts = export::read_file(container.root(), Path::new("etc/passwd"), ACCOUNTS_MAX);
    let accounts = String::from_utf8(accounts.ok()??).ok()?;
    let user = user.split(':').next().filter(|user| !user.is_empty()).unwrap_or("0");
    accounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, id, home) = (fields.first()?, fields.get(2)?, fields.get(5)?);
        (user == *name || user == *id).then(|| (*home).to_owned())
    })
}
