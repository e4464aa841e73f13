//! What a run would do with the steps of images, before it does anything.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use cofferdam_jobs::{
    Plan,
    plan::PlannedJob,
    state::{Run, Settings},
};
use cofferdam_sandbox::with_causes;

use super::{changes, dockerfile::foresee, engine_step};
use crate::{
    build::{Forecast, Lookup, dockerfile::Foreseen},
    execute::{inputs, job},
    problem::Problem,
};

/// For each step of the jobs that make images, by the ids of these jobs.
pub(crate) type Forecasts = BTreeMap<String, Vec<Forecast>>;

/// Looks up the images of a plan in the store below `state`. The files of the project in `workspace`
/// are read where steps depend on what they hold.
pub(crate) fn forecasts(
    plan: &Arc<Plan>,
    workspace: &Path,
    state: &Path,
) -> Result<Forecasts, Problem> {
    let mut all = Forecasts::new();
    if plan.jobs.iter().all(|job| job.build.is_none()) {
        return Ok(all);
    }
    let settings = Settings { hashes: inputs::hashes(plan, workspace)?, ..Settings::default() };
    // Without bounds there is room for each job.
    let Ok(mut run) = Run::new(Arc::clone(plan), settings) else { return Ok(all) };
    let mut made: HashMap<&str, Option<Lookup>> = HashMap::new();
    for (index, planned) in plan.jobs.iter().enumerate() {
        let Some(build) = &planned.build else { continue };
        let from = job::image_name(planned);
        let lookup = match made.get(from) {
            _ if !state.join("store").exists() => Ok(None),
            Some(Some(lookup)) => Ok(Some(lookup.clone())),
            Some(None) => Err(format!("the image `{from}` is made first")),
            None => Lookup::begin(state, from).map(Some).map_err(|error| with_causes(&error)),
        };
        let (forecasts, lookup) = match lookup {
            Ok(Some(_)) | Err(_) if planned.dockerfile().is_some() => {
                of_dockerfile(&mut run, (index, planned), plan, (workspace, state))
            }
            // Nothing was ever built here.
            Ok(None) => {
                let first = std::iter::once(Forecast::New(Vec::new()));
                let all = first.chain(std::iter::repeat(Forecast::After(1)));
                (all.take(planned.source.steps.len()).collect(), None)
            }
            Ok(Some(mut lookup)) => {
                let forecasts = steps(&mut run, index, planned, &mut lookup, Vec::new());
                (forecasts, Some(lookup))
            }
            Err(why) => (vec![Forecast::Unknown(why); planned.source.steps.len()], None),
        };
        let whole = forecasts.iter().all(Forecast::is_kept);
        let lookup = lookup.filter(|_| whole).map(|mut lookup| {
            for (_, change) in changes(&build.config) {
                lookup.configure(&change);
            }
            lookup
        });
        if let Some(image) = plan.images.get(build.image) {
            made.insert(&image.name.value, lookup);
        }
        all.insert(planned.id.clone(), forecasts);
    }
    Ok(all)
}

/// The Dockerfile is the first step, and the others go on with its image.
fn of_dockerfile(
    run: &mut Run,
    (job, planned): (usize, &PlannedJob),
    plan: &Plan,
    places: (&Path, &Path),
) -> (Vec<Forecast>, Option<Lookup>) {
    let count = planned.source.steps.len();
    let unknown = |why: String| (vec![Forecast::Unknown(why); count], None);
    let Some(file) = planned.dockerfile() else {
        return unknown("it has no Dockerfile".to_owned());
    };
    let Foreseen { instructions, image } = match foresee(plan, planned, file, places) {
        Ok(foreseen) => foreseen,
        Err(problem) => return unknown(problem.to_string()),
    };
    let first = Forecast::Instructions(instructions);
    match image {
        Some(mut lookup) => {
            let forecasts = steps(run, job, planned, &mut lookup, vec![first]);
            (forecasts, Some(lookup))
        }
        None => {
            let rest = first.after(1).unwrap_or(Forecast::After(1));
            let all = std::iter::once(first).chain(std::iter::repeat(rest));
            (all.take(count).collect(), None)
        }
    }
}

/// Those after `forecasts`, which are of the first steps.
fn steps(
    run: &mut Run,
    job: usize,
    planned: &PlannedJob,
    lookup: &mut Lookup,
    mut forecasts: Vec<Forecast>,
) -> Vec<Forecast> {
    let count = planned.source.steps.len();
    let resolved = match run.image_steps(job) {
        Ok(resolved) => resolved,
        Err(why) => {
            forecasts.resize(count, Forecast::Unknown(why));
            return forecasts;
        }
    };
    for (index, resolved) in resolved.iter().enumerate().skip(forecasts.len()) {
        let before = forecasts.last().and_then(|last| last.after(index));
        forecasts.push(before.unwrap_or_else(|| {
            let step = engine_step(planned, index, resolved, false);
            let told = lookup.step(&step);
            told.unwrap_or_else(|error| Forecast::Unknown(with_causes(&error)))
        }));
    }
    forecasts
}
