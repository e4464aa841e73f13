//! The images that jobs start from: found in the store, or pulled first.
//!
//! What the store has is taken without a word to any network, unless `always` asks for it.

use std::{
    collections::{BTreeMap, HashMap},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use cofferdam_jobs::{Configuration, model::PullPolicy};
use cofferdam_sandbox::{
    Fault,
    image::{Digest, Image, ImportLimits, Platform, PullOptions, Reference, Store},
};

use crate::{
    exit::Exit,
    image_bounds,
    problem::Problem,
    registry::{self, Client, Environment, Settings},
    report::layers::Pulls,
    supervise::Interrupts,
};

/// The images by the names that jobs have for them; while this lives their layers stay.
pub(crate) type Images = HashMap<String, Arc<Image>>;

/// How long pulls that were cancelled may take to clear up after themselves.
const LAST_MOMENT: Duration = Duration::from_secs(5);
/// Images that are pulled at the same time; the layers of each are fetched side by side as well.
const SIDE_BY_SIDE: usize = 3;

/// Which images are wanted, and when each is to be pulled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted(BTreeMap<String, PullPolicy>);

impl Wanted {
    /// Adds an image. Where jobs differ, the most eager gets its way: the others lose nothing.
    pub(crate) fn add(&mut self, name: &str, policy: PullPolicy) {
        let eager = |policy: PullPolicy| match policy {
            PullPolicy::Never => 0,
            PullPolicy::Missing => 1,
            PullPolicy::Always => 2,
        };
        match self.0.get_mut(name) {
            Some(known) if eager(*known) < eager(policy) => *known = policy,
            Some(_) => {}
            None => {
                self.0.insert(name.to_owned(), policy);
            }
        }
    }
}

/// Takes all images that are wanted from the store of the state directory `state`, and pulls those
/// that have to be. An interrupt ends that.
pub(crate) async fn take(
    store: &Store,
    state: &Path,
    configuration: &Configuration,
    wanted: Wanted,
    interrupts: &mut Interrupts,
) -> Result<Images, Problem> {
    let mut images = Images::new();
    let mut missing = Vec::new();
    for (name, policy) in wanted.0 {
        match find(store, &name, policy)? {
            Some(image) => {
                images.insert(name, Arc::new(image));
            }
            None => missing.push(name),
        }
    }
    if missing.is_empty() {
        return Ok(images);
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let settings = Settings::from(&configuration.registries);
    let pulling = {
        let (state, stopped) = (state.to_owned(), Arc::clone(&stopped));
        tokio::task::spawn_blocking(move || pull(&state, settings, &missing, &stopped))
    };
    tokio::pin!(pulling);
    let pulled = tokio::select! {
        pulled = &mut pulling => pulled,
        () = interrupts.next() => {
            stopped.store(true, Ordering::Relaxed);
            // What is left in the store is cleared up by whoever opens it next.
            tokio::time::timeout(LAST_MOMENT, &mut pulling).await.ok();
            return Err(Problem::new(Exit::Cancelled, "cancelled while images were pulled"));
        }
    };
    let pulled = pulled
        .map_err(|error| Problem::new(Exit::System, "failed to pull images").because(error))?;
    images.extend(pulled?);
    // What was just taken is in use, so it stays.
    image_bounds::tidy(store, configuration);
    Ok(images)
}

/// The image where it need not be pulled.
fn find(store: &Store, name: &str, policy: PullPolicy) -> Result<Option<Image>, Problem> {
    let not_here = |error| Problem::sandbox(Exit::NoInput, error);
    // An id, and the embedded image, are not in any registry.
    let local = name.parse::<Digest>().is_ok()
        || name.parse::<Reference>().is_ok_and(|reference| reference.is_embedded());
    match policy {
        _ if local => store.get(name).map(Some).map_err(not_here),
        PullPolicy::Always => Ok(None),
        PullPolicy::Never => store.get(name).map(Some).map_err(not_here),
        PullPolicy::Missing => store
            .find(name)
            .and_then(|found| found.map(|image| image.for_this_host(name)).transpose())
            .map_err(not_here),
    }
}

fn pull(
    state: &Path,
    settings: Settings,
    names: &[String],
    stopped: &AtomicBool,
) -> Result<Images, Problem> {
    let client = Client::new(settings, Environment::read())?;
    let pulls = Pulls::new(false);
    let job = Job { state: state.to_owned(), client, pulls, stopped, problem: Mutex::default() };
    let mut images = Images::new();
    for few in names.chunks(SIDE_BY_SIDE) {
        let pulled: Vec<_> = thread::scope(|scope| {
            let started: Vec<_> =
                few.iter().map(|name| (name, scope.spawn(|| job.pull(name)))).collect();
            started.into_iter().map(|(name, thread)| (name, thread.join())).collect()
        });
        for (name, outcome) in pulled {
            if let Ok(Some(image)) = outcome {
                images.insert(name.clone(), Arc::new(image));
            }
        }
        if few.iter().any(|name| !images.contains_key(name)) {
            break;
        }
    }
    job.pulls.finish();
    match job.problem.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(problem) => Err(problem),
        None if images.len() == names.len() => Ok(images),
        None => Err(Problem::new(Exit::System, "failed to pull images: a thread ended early")),
    }
}

struct Job<'a> {
    state: PathBuf,
    client: Client,
    pulls: Pulls,
    stopped: &'a AtomicBool,
    /// What went wrong first. It stops all others, which only say that they were stopped.
    problem: Mutex<Option<Problem>>,
}

impl Job<'_> {
    fn pull(&self, name: &str) -> Option<Image> {
        self.pull_image(name)
            .map_err(|error| {
                let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
                problem.get_or_insert(error);
                self.stopped.store(true, Ordering::Relaxed);
            })
            .ok()
    }

    fn pull_image(&self, name: &str) -> Result<Image, Problem> {
        let reference = name.parse::<Reference>().map_err(|error| {
            Problem::new(Exit::NoInput, "failed to pull an image").because(error)
        })?;
        let store = Store::open(&self.state)?;
        let options = PullOptions { platform: Platform::host(), limits: ImportLimits::default() };
        let layers = self.pulls.image(name);
        let progress = |event| match self.stopped.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => layers.tell(event),
        };
        registry::pull(&self.client, &store, &reference, &options, &progress).map_err(|error| {
            let exit = match error.fault() {
                Fault::Pipeline => Exit::NoInput,
                Fault::System => Exit::System,
            };
            Problem::sandbox(exit, error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_eager_job_decides() {
        let mut wanted = Wanted::default();
        wanted.add("a", PullPolicy::Never);
        wanted.add("a", PullPolicy::Always);
        wanted.add("a", PullPolicy::Missing);
        wanted.add("b", PullPolicy::Never);
        let expect = [("a".to_owned(), PullPolicy::Always), ("b".to_owned(), PullPolicy::Never)];
        assert_eq!(wanted.0.into_iter().collect::<Vec<_>>(), expect);
    }

    /// The pipeline and the store each have a reader of image names, since neither knows the other:
    /// what one takes, the other has to take.
    fn both(text: &str) -> (bool, bool) {
        let quoted = serde_json::Value::from(text);
        let pipeline = format!("jobs: {{ a: {{ image: {quoted}, steps: [{{ run: x }}] }} }}");
        let mut sources = cofferdam_jobs::Sources::new();
        let file = sources.add("cofferdam.yml", pipeline.as_bytes());
        let accepted = !cofferdam_jobs::parse(&sources, file).has_errors();
        (accepted, text.parse::<Reference>().is_ok())
    }

    #[test]
    fn pipelines_and_the_store_know_the_same_names() {
        let hex = "0123456789abcdef".repeat(8);
        let (long, longer) = ("a".repeat(255), "a".repeat(256));
        let (tag, longer_tag) =
            (format!("a:{}", "t".repeat(128)), format!("a:{}", "t".repeat(129)));
        let digest = format!("a@sha256:{}", &hex[..64]);
        let all = format!("registry.example:5000/team/app:v1@sha512:{hex}");
        for (text, expect) in [
            ("debian", true),
            ("debian:12", true),
            ("localhost/app", true),
            ("[::1]:5000/app:v1", true),
            ("[::zz]/app", false),
            ("a__b/c-d---e.f:_x", true),
            ("a___b", false),
            ("a..b", false),
            ("registry.example:99999/app", false),
            ("registry.example:/app", false),
            ("exa_mple.com:5000/app", false),
            ("-x.example/app", false),
            ("UPPER.example/app", true),
            ("UPPER/app", true),
            ("UPPER/App", false),
            ("Debian", false),
            ("debian:", false),
            ("debian:-x", false),
            ("debian:12:13", false),
            ("a//b", false),
            ("a/../b", false),
            ("app@md5:00", false),
            ("app@sha256:12", false),
            (&digest, true),
            (&digest.to_uppercase(), false),
            (&all, true),
            (&long, true),
            (&longer, false),
            (&tag, true),
            (&longer_tag, false),
        ] {
            assert_eq!(both(text), (expect, expect), "{text}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(
            proptest::prelude::ProptestConfig::default().cases.max(3000)
        ))]
        #[test]
        fn they_agree_on_any_name(text in "([a-z]{1,3}|[A-Z._:/@-]|[a-z0-9]{2}\\.[a-z]|:[0-9]{1,5}|@sha256:){1,8}") {
            let (pipeline, store) = both(&text);
            proptest::prop_assert_eq!(pipeline, store, "{}", text);
        }
    }
}
