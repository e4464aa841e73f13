//! What goes to a registry: blobs that it lacks, and manifests (distribution specification,
//! "Push").

use cofferdam_sandbox::{
    Result,
    image::{Digest, Manifest, PackedLayer},
};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{self, HeaderMap, HeaderValue},
};

use super::{
    failure::Failure,
    host::{Failed, Host},
    repository::Repository,
    request::{Ask, Body, To},
    settings::Place,
};

/// A repository that is pushed to.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    repository: &'a Repository,
}

impl<'a> Upload<'a> {
    pub(super) fn new(repository: &'a Repository) -> Self {
        Self { repository }
    }

    /// Whether the repository has this blob.
    pub(super) fn has(&self, digest: &Digest) -> Result<bool> {
        let (runtime, host, place) = self.repository.own()?;
        let path = To::Path(format!("{}/blobs/{digest}", place.repository));
        let ask = ask(place, Method::HEAD, path, Body::Nothing);
        match runtime.block_on(host.send(&ask)) {
            Ok(_) => Ok(true),
            Err(failed) if failed.failure.is_not_found() => Ok(false),
            Err(failed) => Err(failed.during(&format!("look for `{digest}` in `{place}`"))),
        }
    }

    /// Whether the registry gives the repository a blob that another of its repositories has.
    pub(super) fn mount(&self, digest: &Digest, from: &str) -> Result<bool> {
        let (runtime, host, place) = self.repository.own()?;
        let path = format!("{}/blobs/uploads/?mount={digest}&from={from}", place.repository);
        let ask = ask(place, Method::POST, To::Path(path), Body::Nothing);
        match runtime.block_on(host.send(&ask)) {
            Ok(response) if response.status() == StatusCode::CREATED => Ok(true),
            Ok(response) => {
                // It began an upload instead, which nobody will go on with.
                runtime.block_on(cancel(host, place, &response));
                Ok(false)
            }
            // Nobody may mount what they may not read.
            Err(_) => Ok(false),
        }
    }

    /// Sends a blob from a file, or from memory.
    pub(super) fn blob(&self, blob: &PackedLayer, body: Body<'_>) -> Result<()> {
        let (runtime, host, place) = self.repository.own()?;
        let sent = host.retry(|| send(host, place, &blob.digest, body));
        runtime
            .block_on(sent)
            .map_err(|failed| failed.during(&format!("push `{}` to `{place}`", blob.digest)))
    }

    /// Puts a manifest in place under its tag, or under its digest where there is none.
    pub(super) fn manifest(&self, manifest: &Manifest, tag: Option<&str>) -> Result<()> {
        let (runtime, host, place) = self.repository.own()?;
        let version = tag.map_or_else(|| manifest.digest().to_string(), str::to_owned);
        let doing = format!("push the manifest `{version}` to `{place}`");
        let path = To::Path(format!("{}/manifests/{version}", place.repository));
        let mut ask = ask(place, Method::PUT, path, Body::Text(&manifest.document));
        let media_type = HeaderValue::from_str(&manifest.media_type);
        let media_type = media_type.map_err(|_| {
            Failed::from(Failure::Refused("its media type fits no header".to_owned()))
                .during(&doing)
        })?;
        ask.headers.insert(header::CONTENT_TYPE, media_type);
        let sent = runtime.block_on(host.send(&ask));
        sent.map(drop).map_err(|failed| failed.during(&doing))
    }
}

fn ask<'a>(place: &'a Place, method: Method, to: To, body: Body<'a>) -> Ask<'a> {
    Ask { method, to, headers: HeaderMap::new(), body, place, actions: "pull,push" }
}

/// One try at a blob, from the beginning: an upload that broke is in no known state.
async fn send(host: &Host, place: &Place, digest: &Digest, body: Body<'_>) -> Result<(), Failure> {
    let path = To::Path(format!("{}/blobs/uploads/", place.repository));
    let begun = host.attempt(&ask(place, Method::POST, path, Body::Nothing)).await?;
    let mut url: Url = host.location(&begun)?;
    url.query_pairs_mut().append_pair("digest", &digest.to_string());
    let mut put = ask(place, Method::PUT, To::Url(url), body);
    let octets = HeaderValue::from_static("application/octet-stream");
    put.headers.insert(header::CONTENT_TYPE, octets);
    host.attempt(&put).await.map(drop)
}

async fn cancel(host: &Host, place: &Place, begun: &Response) {
    if let Ok(url) = host.location(begun) {
        // Registries forget uploads by themselves; this only is polite.
        host.attempt(&ask(place, Method::DELETE, To::Url(url), Body::Nothing)).await.ok();
    }
}
