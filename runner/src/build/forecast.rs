//! Whether a step was done before, without doing it.
//!
//! Nothing runs, and nothing in the store is written or counted as used: what is said holds until
//! someone builds or removes. A step's key has the layers below it in it, so nothing can be known of
//! what comes after a step that is to run. Files that are copied have no key: they are read, and what
//! they come to is looked for.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use cofferdam_sandbox::{
    Error,
    image::{Base, Digest, Image, ImportLimits, LayerDir, Sealing, SeenCopy, Store, next_chain_id},
};

use super::{
    Change, Configuration, Instruction, Put, Run, Stage, Step, engine,
    instruction::Place,
    key::{BASE, DOES, Key},
};

/// What a build will do with a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forecast {
    /// Nothing: it was done before.
    Kept,
    /// Run it. What differs from the step that comes nearest of those that are kept; empty where none
    /// does.
    New(Vec<String>),
    /// Copy files that no layer has like this.
    Copied,
    /// Run it, because that of this number before it runs.
    After(usize),
    /// That cannot be told before, for this reason.
    Unknown(String),
    /// What becomes of each instruction of a Dockerfile that makes a layer, by what the build's
    /// output calls it.
    Instructions(Vec<(String, Self)>),
}

impl Forecast {
    /// Whether all of it was done before.
    pub(crate) fn is_kept(&self) -> bool {
        match self {
            Self::Kept => true,
            Self::Instructions(all) => all.iter().all(|(_, forecast)| forecast.is_kept()),
            _ => false,
        }
    }

    /// What it means for the step after this one, whose number is `number`: nothing is known of it but
    /// this, unless this is kept.
    pub(crate) fn after(&self, number: usize) -> Option<Self> {
        match self {
            _ if self.is_kept() => None,
            Self::Unknown(_) | Self::After(_) => Some(self.clone()),
            _ => Some(Self::After(number)),
        }
    }
}

/// An image in the making, as far as it was made before.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    store: Arc<Store>,
    configuration: Configuration,
    image: Arc<Image>,
    moment: u64,
    chain: Digest,
    is_empty: bool,
}

impl Lookup {
    /// On an image of the store below `state`.
    pub(crate) fn begin(state: &Path, image: &str) -> Result<Self, Error> {
        let store = Store::open(state)?;
        let base = store.base(&store.get(image)?)?;
        Self::on(store, &base, image)
    }

    /// On no image.
    pub(super) fn begin_empty(state: &Path) -> Result<Self, Error> {
        let store = Store::open(state)?;
        let base = store.empty_base();
        Self::on(store, &base, "scratch")
    }

    fn on(store: Store, base: &Base, image: &str) -> Result<Self, Error> {
        let configuration = Configuration::new(&base.document, base.layers())
            .map_err(|error| Error::pipeline(format!("read the image `{image}`"), error))?;
        Ok(Self {
            store: Arc::new(store),
            configuration,
            image: Arc::new(base.image().with_layers(&[])?),
            moment: engine::moment(base.image()),
            chain: base.chain_id(),
            is_empty: base.layers() == 0,
        })
    }

    /// On what a stage has come to.
    pub(super) fn over(stage: &Stage) -> Result<Self, Error> {
        Ok(Self {
            store: Arc::new(Store::open(stage.engine.state())?),
            configuration: stage.configuration.clone(),
            image: Arc::new(stage.image()?),
            moment: stage.moment,
            chain: stage.chain.clone(),
            is_empty: stage.is_empty(),
        })
    }

    /// What will be done with the next step. After anything but [`Forecast::Kept`], nothing that is
    /// said counts.
    pub(crate) fn step(&mut self, step: &Step) -> Result<Forecast, Error> {
        match &step.instruction {
            Instruction::Configure(changes) => {
                changes.iter().for_each(|change| self.configure(change));
                Ok(Forecast::Kept)
            }
            Instruction::Put(put) => self.put(put),
            Instruction::Enter(path) => {
                let forecast = self.put(&Put::directory(path))?;
                self.configure(&Change::Workdir(path.clone()));
                Ok(forecast)
            }
            Instruction::Run(run) => self.run(run),
        }
    }

    fn run(&mut self, run: &Run) -> Result<Forecast, Error> {
        let mut shown = Vec::new();
        for put in &run.shown {
            shown.extend(self.seen(put)?.map(|seen| seen.diff_id));
        }
        let Place { env, workdir, user } = run.place(&self.configuration);
        let key = Key::of_run(&self.chain, run, &env, (&workdir, &user))
            .and_shown(shown.iter(), &run.aside)
            .and_secrets(&run.secrets);
        let Some(seen) = self.store.seen_step(&key.digest())? else {
            return Ok(Forecast::New(difference(&self.store.step_parts()?, &key.parts())));
        };
        seen.layer.map_or(Ok(()), |layer| self.push(&layer))?;
        Ok(Forecast::Kept)
    }

    fn put(&mut self, put: &Put) -> Result<Forecast, Error> {
        match self.seen(put)? {
            None => Ok(Forecast::Kept),
            Some(SeenCopy { layer: Some(layer), .. }) => {
                self.push(&layer)?;
                Ok(Forecast::Kept)
            }
            Some(SeenCopy { layer: None, .. }) => Ok(Forecast::Copied),
        }
    }

    /// The layer of files that are copied; [`None`] where there are none.
    fn seen(&self, put: &Put) -> Result<Option<SeenCopy>, Error> {
        let owner = put.owner.as_ref().map(|owner| self.image.ids_of(owner)).transpose()?;
        let (limits, stopped) = (ImportLimits::default(), AtomicBool::new(false));
        let how = Sealing { moment: self.moment, limits: &limits, stopped: &stopped };
        put.with_ids(owner, |copying| self.store.seen_copy(copying, &self.image.layers, how))
    }

    fn push(&mut self, layer: &LayerDir) -> Result<(), Error> {
        self.chain = next_chain_id(&self.chain, &layer.diff_id, self.is_empty);
        self.is_empty = false;
        self.image = Arc::new(self.image.with_layers(std::slice::from_ref(layer))?);
        Ok(())
    }

    /// Changes how containers of the image are started.
    pub(crate) fn configure(&mut self, change: &Change) {
        self.configuration.apply(change);
    }

    /// How they are started so far.
    pub(super) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// What the image says that images built on it begin with.
    pub(super) fn take_triggers(&mut self) -> Vec<String> {
        self.configuration.take_triggers()
    }

    /// The files so far.
    pub(super) fn image(&self) -> &Arc<Image> {
        &self.image
    }
}

/// In what a step differs from the nearest that is kept; nothing where that is another step.
fn difference(kept: &[Vec<(String, String)>], parts: &[(String, String)]) -> Vec<String> {
    let of = |kept: &Vec<(String, String)>| -> Vec<String> {
        let new = parts.iter().filter(|part| !kept.contains(part));
        let gone = kept.iter().filter(|(name, _)| !parts.iter().any(|(known, _)| known == name));
        new.chain(gone).map(|(name, _)| name.clone()).collect()
    };
    let nearest = kept.iter().map(of).min_by_key(Vec::len).unwrap_or_default();
    let does_other = nearest.iter().any(|name| DOES.contains(&name.as_str()));
    if does_other && nearest.iter().any(|name| name == BASE) { Vec::new() } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_of_a_step() {
        let step = |said: &str| -> Vec<(String, String)> {
            said.split(' ')
                .filter_map(|part| part.split_once('='))
                .map(|(name, value)| {
                    let name = match name {
                        "base" => BASE,
                        "script" => "the script",
                        other => other,
                    };
                    (name.to_owned(), value.to_owned())
                })
                .collect()
        };
        let kept = [step("base=1 script=1 A=1"), step("base=2 script=2 A=1 user=x")];
        for (now, expect) in [
            ("base=1 script=3 A=1", vec!["the script"]),
            ("base=3 script=1 A=1", vec![BASE]),
            ("base=1 script=1 A=2", vec!["A"]),
            ("base=1 script=1", vec!["A"]),
            ("base=2 script=2 A=1 user=x B=1", vec!["B"]),
            ("base=1 script=1 A=2 C=1", vec!["A", "C"]),
            ("base=3 script=3 A=1", vec![]),
        ] {
            assert_eq!(difference(&kept, &step(now)), expect, "{now}");
        }
        assert!(difference(&[], &step("base=1 script=1")).is_empty());
    }
}
