//! Puts up what a try of a job needs: its network, its services, its container.
//!
//! All of it is one task that the driver can give up at any moment; what stands already then goes
//! with it.

use std::{path::PathBuf, sync::Arc};

use cofferdam_jobs::{
    plan::PlannedJob,
    state::{Fault, ResolvedCache, ResolvedService},
};
use cofferdam_sandbox::{
    Container, ContainerSpec, Layer, Limits, Mount, Sandbox, ScratchKind,
    image::Image,
    network::{ContainerNetwork, Network},
};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use super::{
    brought::{self, Brings},
    caches::{CacheStore, Restored},
    fault_of, hostname, in_words,
    service::{Service, ServiceStart},
};
use crate::execute::{message::Message, step::JobContext};

/// What each container of a try is made from; there are several where what a job has written is
/// kept on the way.
#[derive(Clone, Debug)]
pub(in crate::execute) struct Base {
    pub(in crate::execute) image: Arc<Image>,
    pub(in crate::execute) layers: Vec<Layer>,
    pub(in crate::execute) limits: Limits,
    pub(in crate::execute) hostname: String,
    pub(in crate::execute) workspace: Option<PathBuf>,
    pub(in crate::execute) workspace_copies: usize,
    pub(in crate::execute) mounts: Vec<Mount>,
    pub(in crate::execute) scratch: ScratchKind,
    pub(in crate::execute) network: ContainerNetwork,
    pub(in crate::execute) keep: bool,
}

impl Base {
    pub(in crate::execute) fn spec(&self) -> ContainerSpec {
        ContainerSpec {
            limits: self.limits.clone(),
            hostname: self.hostname.clone(),
            workspace: self.workspace.clone(),
            workspace_copies: self.workspace_copies,
            mounts: self.mounts.clone(),
            layers: self.layers.clone(),
            keep: self.keep,
            scratch: self.scratch,
            network: self.network.clone(),
            ..ContainerSpec::new(Arc::clone(&self.image))
        }
    }

    /// Of a job that starts from `image` and what lies over it.
    pub(in crate::execute) fn new(
        planned: &PlannedJob,
        image: Arc<Image>,
        layers: Vec<Layer>,
    ) -> Self {
        Self {
            image,
            layers,
            limits: crate::execute::job::limits(planned),
            hostname: hostname(&planned.id),
            workspace: None,
            workspace_copies: planned.step_images.iter().flatten().count(),
            mounts: Vec::new(),
            scratch: ScratchKind::default(),
            network: ContainerNetwork::default(),
            keep: false,
        }
    }
}

/// A try that is to be put up.
#[derive(Debug)]
pub(in crate::execute) struct Start {
    pub(in crate::execute) sandbox: Sandbox,
    pub(in crate::execute) job: usize,
    pub(in crate::execute) base: Base,
    /// What the job can reach.
    pub(in crate::execute) network: Network,
    /// Each with its image, its limits and where its log goes.
    pub(in crate::execute) services: Vec<(ResolvedService, Arc<Image>, Limits, PathBuf)>,
    pub(in crate::execute) brings: Vec<Brings>,
    pub(in crate::execute) caches: (CacheStore, Vec<ResolvedCache>),
    /// The run's directory.
    pub(in crate::execute) directory: PathBuf,
    pub(in crate::execute) context: Arc<JobContext>,
}

/// A try that stands.
#[derive(Debug)]
pub(in crate::execute) struct Up {
    pub(in crate::execute) container: Container,
    pub(in crate::execute) base: Base,
    pub(in crate::execute) services: Vec<Service>,
    /// The artifacts that were brought; they are a layer as long as this lives.
    pub(in crate::execute) brought: Option<TempDir>,
    /// The caches that are layers, likewise.
    pub(in crate::execute) caches: Vec<Restored>,
}

type Failed = (Fault, String);

impl Start {
    /// Returns the message that says that it stands, or why not: then nothing is left of it.
    pub(in crate::execute) async fn run(mut self, aborted: oneshot::Receiver<()>) -> Message {
        let job = self.job;
        let messages = self.context.messages.clone();
        let mut services = Vec::new();
        let aborted = async {
            if aborted.await.is_err() {
                // Nobody can give it up any more.
                std::future::pending::<()>().await;
            }
        };
        let up = tokio::select! {
            up = self.put_up(&mut services, messages) => up,
            () = aborted => Err((Fault::Pipeline, "it was given up".to_owned())),
        };
        match up {
            Ok((container, brought, caches)) => {
                let up = Up { container, base: self.base, services, brought, caches };
                Message::Started { job, up: Box::new(up) }
            }
            Err((fault, message)) => {
                let mut reports = Vec::new();
                for service in services {
                    reports.extend(service.stop().await);
                }
                Message::StartFailed { job, fault, message, services: reports }
            }
        }
    }

    async fn put_up(
        &mut self,
        services: &mut Vec<Service>,
        messages: mpsc::Sender<Message>,
    ) -> Result<(Container, Option<TempDir>, Vec<Restored>), Failed> {
        let failed = |error: &cofferdam_sandbox::Error| (fault_of(error), in_words(error));
        let caches = self.restore().await?;
        let brought = self.bring().await?;
        let mut ready = Vec::new();
        self.base.network = self.network.clone().into();
        if !self.services.is_empty() || self.base.workspace_copies > 0 {
            let names = self.services.iter().map(|(service, ..)| service.name.clone()).collect();
            let shared = self.sandbox.share_network(self.network.clone(), names).await;
            let shared = shared.map_err(|error| failed(&error))?;
            for (resolved, image, limits, log) in self.services.drain(..) {
                let start = ServiceStart {
                    sandbox: self.sandbox.clone(),
                    resolved,
                    image,
                    limits,
                    scratch: self.base.scratch,
                    network: shared.clone(),
                    log,
                    needles: Arc::clone(&self.context.needles),
                };
                let (service, up) = start.spawn(self.job, messages.clone());
                services.push(service);
                ready.push(up);
            }
            self.base.network = shared.into();
        }
        let container = self.sandbox.create(self.base.spec()).await;
        let container = container.map_err(|error| failed(&error))?;
        for up in ready {
            let gone = |_| (Fault::System, "the task of a service has ended".to_owned());
            up.await.map_err(gone)??;
        }
        Ok((container, brought, caches))
    }

    async fn restore(&mut self) -> Result<Vec<Restored>, Failed> {
        if self.caches.1.is_empty() {
            return Ok(Vec::new());
        }
        let (store, caches) = (self.caches.0.clone(), std::mem::take(&mut self.caches.1));
        let restored = tokio::task::spawn_blocking(move || store.restore(&caches)).await;
        let (layers, restored) = restored.map_err(|error| (Fault::System, error.to_string()))?;
        self.base.layers.extend(layers);
        Ok(restored)
    }

    async fn bring(&mut self) -> Result<Option<TempDir>, Failed> {
        if self.brings.is_empty() {
            return Ok(None);
        }
        let (run, brings) = (self.directory.clone(), std::mem::take(&mut self.brings));
        let workdir = self.context.workdir.clone();
        let made =
            tokio::task::spawn_blocking(move || brought::tree(&run, workdir.as_deref(), &brings));
        let tree = made.await.map_err(|error| (Fault::System, error.to_string()))??;
        self.base.layers.push(Layer::Tree(tree.path().to_owned()));
        Ok(Some(tree))
    }
}
