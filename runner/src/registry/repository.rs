//! One repository: its documents, and the way to its layers.

use std::{io::Read, sync::Arc};

use cofferdam_sandbox::{
    Error, Result,
    image::{Digest, Origin, Reference, Root},
    with_causes,
};
use reqwest::{
    Method, Response,
    header::{self, HeaderMap, HeaderValue},
};
use tokio::runtime::Handle;

use super::{
    answer::read,
    download::Download,
    failure::Failure,
    host::{Failed, Host},
    request::{Ask, Body, To},
    settings::{Place, Settings},
};

/// What a manifest may be (OCI image specification, "Media Types"; Docker's own before it).
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Most bytes of an index or manifest (distribution specification, "Pushing Manifests").
const MANIFEST: u64 = 4 << 20;

/// A repository, and who has it: mirrors first, the registry itself last.
#[derive(Debug)]
pub(crate) struct Repository {
    runtime: Handle,
    pub(super) reach: Arc<Reach>,
}

/// What outlives a borrow of the repository: downloads run on their own.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) settings: Arc<Settings>,
    pub(super) place: Place,
    hosts: Vec<(Arc<Host>, Place)>,
}

impl Repository {
    pub(super) fn new(
        runtime: Handle,
        settings: Arc<Settings>,
        place: Place,
        hosts: Vec<(Arc<Host>, Place)>,
    ) -> Self {
        Self { runtime, reach: Arc::new(Reach { settings, place, hosts }) }
    }

    /// Fetches the index or manifest that `reference` stands for.
    ///
    /// # Errors
    /// Where there is none, or it cannot be had, or it is not what a digest promises.
    pub(crate) fn root(&self, reference: &Reference) -> Result<Root> {
        let doing =
            format!("look up `{reference}` in the registry `{}`", self.reach.place.registry);
        let tag = reference.tag().unwrap_or("latest");
        let version = reference.digest().map_or_else(|| tag.to_owned(), Digest::to_string);
        let root = self.runtime.block_on(self.reach.document("manifests", &version, MANIFEST));
        let root = root.map_err(|failed| failed.during(&doing))?;
        if let Some(digest) = reference.digest()
            && !digest.is_of(&root.document)
        {
            let why = format!("what came does not have the digest `{digest}`");
            return Err(Error::pipeline(doing, why));
        }
        Ok(root)
    }

    /// The registry itself, without its mirrors: what is pushed goes nowhere else.
    pub(super) fn own(&self) -> Result<(&Handle, &Host, &Place)> {
        let own = self.reach.hosts.last();
        let (host, place) =
            own.ok_or_else(|| Error::system("reach a registry", "there is none"))?;
        Ok((&self.runtime, host, place))
    }

    fn piece(&self, kind: &str, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        let version = digest.to_string();
        let document = self.reach.document(kind, &version, size);
        let doing = || format!("fetch `{digest}` of `{}`", self.reach.place);
        let document = self.runtime.block_on(document);
        document.map(|root| root.document).map_err(|failed| failed.during(&doing()))
    }
}

impl Origin for Repository {
    fn name(&self) -> String {
        self.reach.place.to_string()
    }

    fn manifest(&self, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        self.piece("manifests", digest, size)
    }

    fn document(&self, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        self.piece("blobs", digest, size)
    }

    fn layer(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>> {
        let doing = format!("download `{digest}` of `{}`", self.reach.place);
        let reach = Arc::clone(&self.reach);
        Ok(Box::new(Download::start(&self.runtime, reach, digest.clone(), size, doing)))
    }
}

impl Reach {
    /// Asks for something below the repository, of those who have it in their order. The error is
    /// the registry's own: what a mirror lacks is no fault.
    pub(super) async fn get(
        &self,
        kind: &str,
        version: &str,
        headers: &HeaderMap,
    ) -> Result<(String, Response), Failed> {
        let mut last = None;
        let own = &self.place;
        for (host, place) in &self.hosts {
            let ask = Ask {
                method: Method::GET,
                to: To::Path(format!("{}/{kind}/{version}", place.repository)),
                headers: headers.clone(),
                body: Body::Nothing,
                place,
                actions: "pull",
            };
            match host.send(&ask).await {
                Ok(response) => return Ok((host.name(), response)),
                Err(failed) => {
                    if !failed.failure.is_not_found() && place != own {
                        let why = with_causes(&failed.failure);
                        tracing::warn!("a mirror of `{}` failed: {why}", own.registry);
                    }
                    last = Some(failed);
                }
            }
        }
        let nobody = || Failure::Refused("nobody has it".to_owned()).into();
        Err(last.unwrap_or_else(nobody))
    }

    async fn document(&self, kind: &str, version: &str, most: u64) -> Result<Root, Failed> {
        let mut headers = HeaderMap::new();
        if kind == "manifests" {
            headers.insert(header::ACCEPT, HeaderValue::from_static(MANIFESTS));
        }
        let (host, response) = self.get(kind, version, &headers).await?;
        let media_type = response.headers().get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        // Without parameters such as a character set.
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let document = read(&host, response, most).await?;
        Ok(Root { media_type, document })
    }
}
