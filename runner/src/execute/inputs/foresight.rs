//! What a run will ask the sandbox for, said beforehand, so that the next of it is made while jobs
//! work. Whole containers are expected by the driver, which knows whose turn is next.

use cofferdam_jobs::plan::{Plan, PlannedJob};
use cofferdam_sandbox::{Limits, Sandbox, ScratchKind};

use crate::{execute::job, network};

/// Says it. Skipped jobs make it too much, and tries and services that wait for others come in
/// another order: what is made in vain goes with the sandbox.
pub(in crate::execute) fn tell(sandbox: &Sandbox, plan: &Plan, scratch: ScratchKind) {
    sandbox.expect(plan.jobs.iter().filter(|job| has_own_network(job)).count());
    let limits: Vec<Limits> = plan.jobs.iter().flat_map(of_containers).collect();
    sandbox.expect_scratch(scratch, &limits);
}

/// Whether its container is alone in a network namespace without a way out.
fn has_own_network(job: &PlannedJob) -> bool {
    let shares = !job.services.is_empty() || job.step_images.iter().flatten().next().is_some();
    !shares && !network::of_job(&job.network, false).is_connected()
}

/// Those of its services, which come first, and its own.
fn of_containers(job: &PlannedJob) -> impl Iterator<Item = Limits> + '_ {
    let services = job.services.iter();
    let services = services.map(|service| job::enforced(&service.limits, job.timeout));
    services.chain([job::limits(job)])
}
