//! How much memory is kept for the supervisor when the host is short of it (`memory.min`).
//!
//! A claim is worth no more than the least of the groups above it (cgroup v2's "memory.min"), so the
//! whole way up to the mounted root is looked at.

use std::path::Path;

use super::{
    controller::Controller,
    file,
    hierarchy::{Hierarchy, SUPERVISOR, SUPERVISOR_MEMORY},
    layout,
};
use crate::error::{Doing as _, Result};

impl Hierarchy {
    /// Bytes that are not taken from this process and its spawner once they sit where
    /// [`Hierarchy::prepare`] has them; 0 where nothing protects them.
    ///
    /// # Errors
    /// When the control groups cannot be read.
    pub(crate) fn protected_memory(&self) -> Result<u64> {
        let read = |path: &str| crate::kernel_file::read(path).system(|| format!("read `{path}`"));
        let layout = layout::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
        let Some(tree) = layout.v2 else { return Ok(0) };
        let is_domain =
            self.bases.v2.as_ref().is_some_and(|(it, _)| it.contains(&Controller::Memory));
        let mut claims = Vec::new();
        if self.leaf.is_some() && is_domain {
            claims.push(SUPERVISOR_MEMORY.to_string());
        }
        let in_leaf = tree.own.file_name() == Some(SUPERVISOR.as_ref());
        let above = tree.own.ancestors().skip(usize::from(in_leaf));
        for group in above.take_while(|group: &&Path| group.starts_with(&tree.mount)) {
            // The root, and groups without the controller, have none: what is above them counts.
            claims.extend(file::read_optional(&group.join("memory.min"))?);
        }
        Ok(least(claims.iter().map(String::as_str)))
    }
}

fn least<'text>(claims: impl Iterator<Item = &'text str>) -> u64 {
    let bytes = claims.map(|claim| match claim.trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or(0),
    });
    bytes.min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_worth_the_least_above_it() {
        let check = |claims: &[&str], expected| {
            assert_eq!(least(claims.iter().copied()), expected, "{claims:?}");
        };
        check(&[], 0);
        check(&["67108864"], 67_108_864);
        check(&["67108864", "max\n", "104857600\n"], 67_108_864);
        check(&["67108864", "4096\n", "max\n"], 4096);
        check(&["67108864", "0\n"], 0);
        check(&["what"], 0);
    }
}
