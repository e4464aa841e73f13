//! One image in the making, step by step.

use std::{
    io::Write as _,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cofferdam_jobs::state::Stop;
use cofferdam_sandbox::{
    Error, ProgramFile,
    image::{
        Aside, Base, Digest, Image, ImportLimits, KeptStep, LayerDir, Reference, Sealing, StepLock,
        Store, next_chain_id,
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Change, Configuration, Engine, Forecast, Instruction, Lookup, Put, Ran, Run, SecretUse, Step,
    instruction::Place, key::Key, run::Start,
};
use crate::log::secret::Secret;

/// An image in the making.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(super) engine: Engine,
    /// What messages call it.
    pub(super) name: String,
    base: Base,
    pub(super) configuration: Configuration,
    /// When it is said to be made, in seconds since 1970.
    pub(super) moment: u64,
    /// Of the steps so far.
    pub(super) layers: Vec<LayerDir>,
    /// The id of the stack so far.
    pub(super) chain: Digest,
}

/// Where a step's output goes, and how it is stopped.
#[derive(Debug)]
pub(crate) struct Io {
    /// Standard output and standard error.
    pub(crate) streams: (OwnedFd, OwnedFd),
    /// Ends the step.
    pub(crate) stop: mpsc::UnboundedReceiver<Stop>,
}

/// What a step came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was done before; nothing ran.
    Kept,
    /// It is done.
    Made(Option<Ran>),
    /// Its program failed, or was stopped; the stage is as it was before.
    Failed(Ran),
    /// It was stopped while it waited for another build or while its files were kept.
    Stopped,
}

impl Stage {
    pub(super) fn new(
        engine: Engine,
        name: String,
        base: Base,
        configuration: Configuration,
        moment: u64,
    ) -> Self {
        let chain = base.chain_id();
        Self { engine, name, base, configuration, moment, layers: Vec::new(), chain }
    }

    /// What the steps so far came to.
    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// What the image says that images built on it begin with; they do not say it again.
    pub(crate) fn take_triggers(&mut self) -> Vec<String> {
        self.configuration.take_triggers()
    }

    /// The files so far.
    pub(super) fn image(&self) -> Result<Image, Error> {
        self.base.image().with_layers(&self.layers)
    }

    /// What doing this step will come to, as far as that can be told.
    pub(crate) fn forecast(&self, step: &Step) -> Result<Forecast, Error> {
        Lookup::over(self)?.step(step)
    }

    /// Does a step, or finds that it was done.
    pub(crate) async fn perform(&mut self, step: &Step, mut io: Io) -> Result<Outcome, Error> {
        let (outcome, layer) = match &step.instruction {
            Instruction::Configure(changes) => {
                self.configure(&step.created_by, changes);
                return Ok(Outcome::Made(None));
            }
            Instruction::Put(put) => match self.put(put, &mut io).await? {
                Some(layer) => (Outcome::Made(None), layer),
                None => return Ok(Outcome::Stopped),
            },
            Instruction::Enter(path) => {
                let Some(layer) = self.put(&Put::directory(path), &mut io).await? else {
                    return Ok(Outcome::Stopped);
                };
                self.configuration.apply(&Change::Workdir(path.clone()));
                (Outcome::Made(None), layer)
            }
            Instruction::Run(run) => self.run(step, run, io).await?,
        };
        if matches!(outcome, Outcome::Kept | Outcome::Made(_)) {
            self.tell(&step.created_by, layer.is_some());
            if let Some(layer) = layer {
                self.chain = next_chain_id(&self.chain, &layer.diff_id, self.is_empty());
                self.layers.push(layer);
            }
        }
        Ok(outcome)
    }

    /// Changes how containers of the image are started.
    pub(crate) fn configure(&mut self, created_by: &str, changes: &[Change]) {
        for change in changes {
            self.configuration.apply(change);
        }
        self.tell(created_by, false);
    }

    fn tell(&mut self, created_by: &str, layer: bool) {
        let comment = format!("cofferdam, image `{}`", self.name);
        let created = self.created();
        self.configuration.tell(&created, created_by, &comment, layer);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.base.layers() == 0 && self.layers.is_empty()
    }

    async fn run(
        &self,
        step: &Step,
        run: &Run,
        io: Io,
    ) -> Result<(Outcome, Option<LayerDir>), Error> {
        let mut io = io;
        let mut shown = Vec::new();
        for put in &run.shown {
            match self.put(put, &mut io).await? {
                Some(layer) => shown.extend(layer),
                None => return Ok((Outcome::Stopped, None)),
            }
        }
        let Place { env, workdir, user } = run.place(&self.configuration);
        let key = Key::of_run(&self.chain, run, &env, (&workdir, &user))
            .and_shown(shown.iter().map(|layer: &LayerDir| &layer.diff_id), &run.aside)
            .and_secrets(&run.secrets);
        let (key, parts) = (key.digest(), key.parts());
        let store = Store::open(&self.engine.state)?;
        let kept = |found: KeptStep| (Outcome::Kept, found.layer);
        if let Some(found) = self.kept(&store, &key)? {
            return Ok(kept(found));
        }
        let Some(_lock) = self.lock(&store, &key, &mut io).await? else {
            return Ok((Outcome::Stopped, None));
        };
        // Whoever was waited for has kept it, unless it failed.
        if let Some(found) = self.kept(&store, &key)? {
            return Ok(kept(found));
        }
        if self.is_empty() {
            let doing = format!("run a program in the image `{}`", self.name);
            let why = "the image has no files so far";
            return Err(Error::pipeline(doing, why).remedy("copy files into it first"));
        }
        for link in run.secrets.iter().filter_map(SecretUse::shown) {
            match self.put(&link, &mut io).await? {
                Some(layer) => shown.extend(layer),
                None => return Ok((Outcome::Stopped, None)),
            }
        }
        let Some(caches) = self.caches(&store, run, &mut io).await? else {
            return Ok((Outcome::Stopped, None));
        };
        let Io { streams, mut stop } = io;
        let image = self.image()?.with_layers(&shown)?;
        let (mut env, mut files) = (env, run.files.clone());
        for secret in &run.secrets {
            let Some(value) = secret.value.as_ref().map(Secret::expose) else { continue };
            if let Some(mode) = secret.file {
                let content = value.to_vec();
                files.push(ProgramFile { path: secret.path(), mode, content });
            }
            if let Some(name) = &secret.variable {
                env.retain(|(known, _)| known != name);
                env.push((name.clone(), String::from_utf8_lossy(value).into_owned()));
            }
        }
        let layers = caches.layers.clone();
        let start = Start { image, layers, run, env, files, workdir, user };
        let ran = start.run(&self.engine, streams, &mut stop).await;
        drop(caches);
        if let Some(caches) = &self.engine.caches {
            caches.tidy(&run.caches)?;
        }
        let (ran, state) = ran?;
        let Some(state) = state else { return Ok((Outcome::Failed(ran), None)) };
        let (created_by, paths) = (step.created_by.clone(), run.aside.clone());
        let sealed = self.blocking(&mut stop, move |store, below, how| {
            let aside = Aside { shown: &shown, paths: &paths };
            let layer = store.seal_around(&state, below, aside, how)?;
            store.keep_step(&key, &created_by, &parts, layer.as_ref())?;
            Ok(layer)
        });
        match sealed.await? {
            Some(layer) => Ok((Outcome::Made(Some(ran)), layer)),
            None => Ok((Outcome::Stopped, None)),
        }
    }

    /// What the step of this key came to before, unless it is to run afresh.
    fn kept(&self, store: &Store, key: &Digest) -> Result<Option<KeptStep>, Error> {
        if self.engine.afresh { Ok(None) } else { store.kept_step(key) }
    }

    /// The right to run the step of this key; [`None`] where it was stopped while it waited.
    pub(super) async fn lock(
        &self,
        store: &Store,
        key: &Digest,
        io: &mut Io,
    ) -> Result<Option<StepLock>, Error> {
        if let Some(lock) = store.try_lock_step(key)? {
            return Ok(Some(lock));
        }
        let note = format!("waiting for another build of `{}`\n", self.name);
        let copy = io.streams.1.try_clone().map(std::fs::File::from);
        // Who reads it may have gone; the step goes on all the same.
        copy.and_then(|mut file| file.write_all(note.as_bytes())).ok();
        let (locked, waiting) = oneshot::channel();
        let (state, key) = (self.engine.state.clone(), key.clone());
        // Not one of the runtime's threads: nothing ends the wait, so nothing must wait for it.
        std::thread::spawn(move || {
            let lock = Store::open(&state).and_then(|store| store.lock_step(&key));
            // Whoever waited may have been stopped, and then the lock goes to the next.
            locked.send(lock).ok();
        });
        tokio::select! {
            lock = waiting => lock.map_err(|_| self.lost())?.map(Some),
            Some(_) = io.stop.recv() => Ok(None),
        }
    }

    /// Makes a layer over those so far on a thread that may wait; [`None`] where it was stopped.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        stop: &mut mpsc::UnboundedReceiver<Stop>,
        make: impl FnOnce(&Store, &[LayerDir], Sealing<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let (state, moment, below) = (self.engine.state.clone(), self.moment, self.image()?);
        let stopped = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopped);
        let made = tokio::task::spawn_blocking(move || {
            let limits = ImportLimits::default();
            let how = Sealing { moment, limits: &limits, stopped: &seen };
            make(&Store::open(&state)?, &below.layers, how)
        });
        tokio::pin!(made);
        loop {
            tokio::select! {
                made = &mut made => {
                    return match made.map_err(|_| self.lost())? {
                        Err(_) if stopped.load(Ordering::Relaxed) => Ok(None),
                        other => other.map(Some),
                    };
                }
                Some(_) = stop.recv() => stopped.store(true, Ordering::Relaxed),
            }
        }
    }

    fn lost(&self) -> Error {
        Error::system(format!("build the image `{}`", self.name), "a thread ended early")
    }

    /// When it is said to be made (RFC 3339).
    fn created(&self) -> String {
        let seconds = i64::try_from(self.moment).unwrap_or_default();
        jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
    }

    /// The image, under `names`; without one it stays until the store lets go of what has none.
    pub(crate) fn finish(self, names: &[Reference]) -> Result<Arc<Image>, Error> {
        let store = Store::open(&self.engine.state)?;
        let document = self.configuration.document(&self.created());
        store.put_together(&self.base, &self.layers, &document, names).map(Arc::new)
    }
}
