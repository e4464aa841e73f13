//! The order of jobs by what they need, without recursion.

/// For every job the jobs it needs, by index.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    needs: Vec<Vec<usize>>,
}

impl Graph {
    /// A graph from the needs of each job; indexes of jobs that do not exist are left out.
    pub(crate) fn new(mut needs: Vec<Vec<usize>>) -> Self {
        let length = needs.len();
        for list in &mut needs {
            list.retain(|need| *need < length);
            list.sort_unstable();
            list.dedup();
        }
        Self { needs }
    }

    /// The jobs that need each job.
    pub(crate) fn dependents(&self) -> Vec<Vec<usize>> {
        let mut dependents = vec![Vec::new(); self.needs.len()];
        for (job, needs) in self.needs.iter().enumerate() {
            for need in needs {
                if let Some(list) = dependents.get_mut(*need) {
                    list.push(job);
                }
            }
        }
        dependents
    }

    /// All jobs, each after those it needs, otherwise by index; or one circle, in the order in
    /// which each job needs the next.
    pub(crate) fn order(&self) -> Result<Vec<usize>, Vec<usize>> {
        let dependents = self.dependents();
        let mut missing: Vec<usize> = self.needs.iter().map(Vec::len).collect();
        let mut ready: std::collections::BTreeSet<usize> =
            (0..missing.len()).filter(|job| missing.get(*job) == Some(&0)).collect();
        let mut order = Vec::with_capacity(missing.len());
        while let Some(job) = ready.pop_first() {
            order.push(job);
            for dependent in dependents.get(job).into_iter().flatten() {
                if let Some(count) = missing.get_mut(*dependent) {
                    *count -= 1;
                    if *count == 0 {
                        ready.insert(*dependent);
                    }
                }
            }
        }
        if order.len() == missing.len() { Ok(order) } else { Err(self.circle(&missing)) }
    }

    /// Follows needs among the jobs that never became ready until one comes again.
    fn circle(&self, missing: &[usize]) -> Vec<usize> {
        let stuck = |job: &usize| missing.get(*job).is_some_and(|count| *count > 0);
        let mut path = Vec::new();
        let mut place = vec![None; missing.len()];
        let mut next = (0..missing.len()).find(|job| stuck(job));
        while let Some(job) = next {
            let Some(seen) = place.get_mut(job) else { break };
            if let Some(start) = *seen {
                return path.split_off(start);
            }
            *seen = Some(path.len());
            path.push(job);
            next = self.needs.get(job).into_iter().flatten().copied().find(|need| stuck(need));
        }
        path
    }

    /// These jobs and all that they need, directly or not; one mark for each job.
    pub(crate) fn closure(&self, of: impl IntoIterator<Item = usize>) -> Vec<bool> {
        let mut inside = vec![false; self.needs.len()];
        let mut todo: Vec<usize> = of.into_iter().collect();
        while let Some(job) = todo.pop() {
            if let Some(mark) = inside.get_mut(job)
                && !*mark
            {
                *mark = true;
                todo.extend(self.needs.get(job).into_iter().flatten());
            }
        }
        inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_respects_needs_and_finds_circles() {
        type Case = (&'static [&'static [usize]], Result<&'static [usize], &'static [usize]>);
        let cases: [Case; 5] = [
            (&[], Ok(&[])),
            (&[&[1], &[], &[0, 1]], Ok(&[1, 0, 2])),
            (&[&[0]], Err(&[0])),
            (&[&[], &[0, 3], &[1], &[2]], Err(&[1, 3, 2])),
            (&[&[7], &[]], Ok(&[0, 1])),
        ];
        for (needs, expect) in cases {
            let graph = Graph::new(needs.iter().map(|list| list.to_vec()).collect());
            let expect = expect.map(<[usize]>::to_vec).map_err(<[usize]>::to_vec);
            assert_eq!(graph.order(), expect, "{needs:?}");
        }
    }

    #[test]
    fn a_chain_of_many_jobs_needs_no_stack() {
        let graph = Graph::new(
            (0..100_000_usize).map(|job| job.checked_sub(1).into_iter().collect()).collect(),
        );
        assert_eq!(graph.order().unwrap().len(), 100_000);
        assert!(graph.closure([99_999]).into_iter().all(|inside| inside));
    }
}
