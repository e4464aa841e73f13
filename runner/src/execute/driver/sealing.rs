//! What a job's container holds is sealed: others begin with it, and the job's next steps go on over it.

use std::sync::Arc;

use cofferdam_jobs::state::{Fault, Kept, StepRef};

use super::Driver;
use crate::execute::{
    job::{
        keeping::made_by,
        seal::{self, Sealed, Unsealed},
    },
    message::Message,
};

impl Driver {
    pub(super) fn seal_job(&mut self, job: usize, step: Option<usize>, network: Option<StepRef>) {
        let made_by = self.made_by(job);
        // Others go on from the rest.
        let keeps = self.state.keeps_steps() && step.is_some();
        let keeping = self.surroundings.keeping.clone().filter(|_| keeps);
        let taken = self.live.get_mut(&job).and_then(|live| live.take_container(network));
        let sandbox = self.surroundings.sandbox.clone();
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let sealed = match taken {
                Some((container, base)) => {
                    let sealed = seal::seal(sandbox, container, base, (made_by, keeping));
                    let sealed = tokio::spawn(sealed).await;
                    sealed.unwrap_or_else(|error| Err(Unsealed::system(error.to_string())))
                }
                None => Err(Unsealed::system("the container was lost".to_owned())),
            };
            messages.send(Message::Sealed { job, step, network, sealed }).await.ok();
        });
    }

    /// Who has written what a job's container holds, for the history of images.
    pub(super) fn made_by(&mut self, job: usize) -> String {
        let ran = self.step_records(job).into_iter().filter(|(_, record)| record.started);
        let names: Vec<String> = ran.map(|(_, record)| record.name).collect();
        let live = self.live.get_mut(&job);
        let news = live.map(|live| live.news(names)).unwrap_or_default();
        let plan = self.state.plan();
        let job = plan.jobs.get(job).map(|job| job.name.as_str()).unwrap_or_default();
        self.surroundings.needles.mask_text(&made_by(job, &news))
    }

    pub(super) fn take_sealed(
        &mut self,
        job: usize,
        (step, network): (Option<usize>, Option<StepRef>),
        mut sealed: Sealed,
    ) -> Kept {
        if let Some(step) = step {
            if let (Some(kept), Some(live)) = (sealed.kept_state.take(), self.live.get(&job)) {
                self.ledger.step_kept(job, live.context.attempt, step, kept);
            }
            let states = self.states.entry(job).or_default();
            states.after.insert(step, Arc::clone(&sealed.state));
        }
        let kept = sealed.kept;
        if let Some(live) = self.live.get_mut(&job) {
            live.goes_on(sealed, network);
        }
        kept
    }

    /// No container goes on; what the last one used is told all the same.
    pub(super) fn take_unsealed(&mut self, job: usize, unsealed: Unsealed) -> (Fault, String) {
        let Unsealed { fault, why, used } = unsealed;
        if let (Some(live), Some(used)) = (self.live.get_mut(&job), used) {
            let (used, is_shared) = *used;
            live.has_used(used, is_shared);
        }
        (fault, why)
    }
}
