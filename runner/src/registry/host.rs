//! Requests to one registry, or to a mirror of one.
//!
//! Proof is given when it is asked for, to the registry alone; redirects are followed by hand,
//! because each has to be judged; what may pass is tried again.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use cofferdam_sandbox::{Error, Result as SandboxResult};
use reqwest::{Response, StatusCode, Url, header, redirect::Policy};

use super::{
    address::{ForeignResolver, Known, OwnResolver, Reach},
    answer::read,
    challenge::{self, Challenge},
    credentials::{self, Credentials, Environment},
    failure::{Failure, detail},
    redirect,
    request::{Ask, Body, Scope, To},
    retry,
    settings::{Place, Settings},
    tls,
    token::{self, Proof, Question},
};

/// A failure, and after how many tries.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    tries: u32,
}

impl Failed {
    /// The failure of the last of so many tries.
    pub(super) fn after(failure: Failure, tries: u32) -> Self {
        Self { failure, tries }
    }

    pub(super) fn during(self, doing: &str) -> Error {
        self.failure.during(doing, self.tries)
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self { failure, tries: 1 }
    }
}

/// Most bytes of an answer that says what is wrong.
const COMPLAINT: u64 = 16 * 1024;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// One registry and what is known of it.
#[derive(Debug)]
pub(super) struct Host {
    base: Url,
    /// For the registry itself.
    own: reqwest::Client,
    /// For whatever it sends us to.
    foreign: reqwest::Client,
    /// For what is sent to it: the answer comes only after the last byte has gone.
    upload: reqwest::Client,
    known: Arc<Known>,
    /// Hosts that are reached wherever they are.
    proxies: Vec<String>,
    settings: Arc<Settings>,
    environment: Arc<Environment>,
    proofs: tokio::sync::Mutex<HashMap<Scope, Proof>>,
}

impl Host {
    /// Prepares to speak to the registry of `place`; nothing is sent.
    pub(super) fn new(
        place: &Place,
        settings: Arc<Settings>,
        environment: Arc<Environment>,
    ) -> SandboxResult<Self> {
        let doing = || format!("prepare to speak to the registry `{}`", place.registry);
        let registry = settings.registry(&place.registry);
        let scheme = if registry.insecure { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/", place.host());
        let base: Url = base.parse().map_err(|error| Error::pipeline(doing(), error))?;
        let known = Arc::new(Known::default());
        let literal = base.host_str().unwrap_or_default().trim_matches(['[', ']']);
        if let Ok(address) = literal.parse::<IpAddr>() {
            let own = Reach::of(address);
            if own == Reach::Never {
                return Err(Error::pipeline(doing(), "no registry has such an address"));
            }
            known.add(own);
        }
        let tls = tls::configuration(registry.ca.as_deref())?;
        let client = || {
            reqwest::Client::builder()
                .user_agent(concat!("cofferdam/", env!("CARGO_PKG_VERSION")))
                .tls_backend_preconfigured(tls.clone())
                .redirect(Policy::none())
                .referer(false)
                .connect_timeout(CONNECT.min(settings.idle))
                .pool_idle_timeout(Duration::from_secs(60))
        };
        let proxies = proxies();
        let own = OwnResolver::new(Arc::clone(&known), &proxies);
        let foreign = ForeignResolver::new(Arc::clone(&known), &proxies);
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| Error::system(doing(), error))
        };
        Ok(Self {
            upload: build(client().dns_resolver(own.clone()))?,
            own: build(client().read_timeout(settings.idle).dns_resolver(own))?,
            foreign: build(client().read_timeout(settings.idle).dns_resolver(foreign))?,
            base,
            known,
            proxies,
            settings,
            environment,
            proofs: tokio::sync::Mutex::default(),
        })
    }

    fn origin(&self) -> (&Url, &[String]) {
        (&self.base, &self.proxies)
    }

    /// Host and port, for messages.
    pub(super) fn name(&self) -> String {
        redirect::host(&self.base)
    }

    /// Sends a request until it succeeds, or fails for good. The answer is a success; its body is
    /// still to be read.
    pub(super) async fn send(&self, ask: &Ask<'_>) -> Result<Response, Failed> {
        self.retry(|| self.attempt(ask)).await
    }

    /// Does something until it succeeds, or fails for good.
    pub(super) async fn retry<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Failed> {
        let mut attempts = retry::Attempts::new(self.settings.attempts);
        loop {
            let failure = match attempt().await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            let wait = match failure.may_pass() {
                true => attempts.next(failure.asked()),
                false => None,
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(Failed { failure, tries: attempts.made() }),
            }
        }
    }

    /// The URL that the answer to an [`Ask`] says to go on with.
    pub(super) fn location(&self, response: &Response) -> Result<Url, Failure> {
        let location = response.headers().get(header::LOCATION);
        redirect::target(self.origin(), self.known.reach(), response.url(), location)
    }

    /// One try, with its redirects and the proof that is asked for.
    pub(super) async fn attempt(&self, ask: &Ask<'_>) -> Result<Response, Failure> {
        let mut url = match &ask.to {
            To::Url(url) => url.clone(),
            To::Path(path) => {
                let url = self.base.join(path);
                url.map_err(|_| Failure::Refused(format!("`{path}` is no path")))?
            }
        };
        let scope = Scope { repository: ask.place.repository.clone(), actions: ask.actions };
        let mut proof = self.proof(&scope).await;
        let mut asked = false;
        let mut redirects = 0;
        loop {
            let own = redirect::same_origin(&url, &self.base);
            let client = match ask.body {
                Body::File(..) if own => &self.upload,
                _ if own => &self.own,
                _ => &self.foreign,
            };
            let mut request =
                client.request(ask.method.clone(), url.clone()).headers(ask.headers.clone());
            request = match ask.body {
                Body::Nothing => request,
                Body::Text(text) => request.body(text.to_owned()),
                Body::File(path, size) => {
                    let file = tokio::fs::File::open(path).await.map_err(|error| {
                        Failure::Own(Error::system(format!("open `{}`", path.display()), error))
                    })?;
                    request.header(header::CONTENT_LENGTH, size).body(file)
                }
            };
            if let Some(proof) = proof.as_ref().filter(|_| own) {
                request = request.header(header::AUTHORIZATION, proof.header.clone());
            }
            let response = self.answer(&url, request, ask.body.patience()).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status.is_redirection() && matches!(ask.body, Body::Nothing) {
                redirects += 1;
                if redirects > redirect::MOST {
                    let host = redirect::host(&url);
                    return Err(Failure::Refused(format!("`{host}` redirects too often")));
                }
                let location = response.headers().get(header::LOCATION);
                url = redirect::target(self.origin(), self.known.reach(), &url, location)?;
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && !own {
                return Err(Failure::Refused(format!(
                    "`{}`, where `{}` sends us, asks for credentials, which nobody else gets",
                    redirect::host(&url),
                    self.name()
                )));
            }
            if status == StatusCode::UNAUTHORIZED && !asked {
                asked = true;
                proof = Some(self.prove(ask.place, &scope, proof, response).await?);
                continue;
            }
            return Err(self.complaint(&url, response).await);
        }
    }

    /// Waits for the head of an answer, by `more` longer than a connection may be silent.
    async fn answer(
        &self,
        url: &Url,
        request: reqwest::RequestBuilder,
        more: Duration,
    ) -> Result<Response, Failure> {
        let host = redirect::host(url);
        let patience = self.settings.idle + more;
        match tokio::time::timeout(patience + CONNECT.min(patience), request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_timeout() => Err(Failure::Silent { host, patience }),
            Ok(Err(error)) => Err(Failure::transport(&host, error)),
            Err(_) => Err(Failure::Silent { host, patience }),
        }
    }

    async fn complaint(&self, url: &Url, response: Response) -> Failure {
        let host = redirect::host(url);
        let status = response.status();
        let asked = response.headers().get(header::RETRY_AFTER).and_then(retry::asked);
        let body = read(&host, response, COMPLAINT).await.unwrap_or_default();
        let detail = detail(&body);
        match status {
            StatusCode::UNAUTHORIZED => {
                Failure::Denied { host, why: "what proves who asks was not accepted", detail }
            }
            StatusCode::FORBIDDEN => Failure::Denied { host, why: "this is not allowed", detail },
            status => Failure::Status { host, status, detail, asked },
        }
    }

    async fn proof(&self, scope: &Scope) -> Option<Proof> {
        self.proofs.lock().await.get(scope).filter(|proof| proof.is_fresh()).cloned()
    }

    /// Makes the proof that `refusal` asks for. `failed` is what was not accepted.
    async fn prove(
        &self,
        place: &Place,
        scope: &Scope,
        failed: Option<Proof>,
        refusal: Response,
    ) -> Result<Proof, Failure> {
        // Held meanwhile, so that many requests at once ask for one token.
        let mut proofs = self.proofs.lock().await;
        if let Some(newer) = proofs.get(scope)
            && failed.is_none_or(|failed| failed.header != newer.header)
        {
            return Ok(newer.clone());
        }
        proofs.remove(scope);
        let challenges: Vec<_> = refusal
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|header| header.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let found = credentials::find(&self.environment, place).await?;
        // A token is worth less to a thief than a password.
        let bearer = challenges.iter().find(|it| matches!(it, Challenge::Bearer { .. }));
        let proof = match (bearer, &found) {
            (Some(Challenge::Bearer { realm, service, scope: asked }), _) => {
                let scope = asked.clone().unwrap_or_else(|| scope.to_string());
                let realm = token::realm(&self.name(), realm)?;
                let question = Question::new(&realm, service.as_deref(), &[scope], found.as_ref())?;
                self.token(question).await?
            }
            (_, Some(Credentials::Password { user, password }))
                if challenges.contains(&Challenge::Basic) =>
            {
                Proof::password(user, password)?
            }
            _ => {
                let body = read(&self.name(), refusal, COMPLAINT).await.unwrap_or_default();
                let why = if challenges.is_empty() {
                    "it does not say what would prove who asks"
                } else {
                    "it wants to know who asks, and there are no credentials for it"
                };
                return Err(Failure::Denied { host: self.name(), why, detail: detail(&body) });
            }
        };
        proofs.insert(scope.clone(), proof.clone());
        Ok(proof)
    }

    async fn token(&self, question: Question) -> Result<Proof, Failure> {
        let Question { url, proof, form } = question;
        let host = redirect::host(&url);
        redirect::allowed(self.origin(), self.known.reach(), &url).map_err(|why| {
            Failure::Refused(format!("`{}` names the token service `{host}`, {why}", self.name()))
        })?;
        let own = redirect::same_origin(&url, &self.base);
        let client = if own { &self.own } else { &self.foreign };
        let mut request = match &form {
            Some(form) => client
                .post(url.clone())
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.expose().to_owned()),
            None => client.get(url.clone()),
        };
        if let Some(proof) = proof {
            request = request.header(header::AUTHORIZATION, proof.header);
        }
        let response = self.answer(&url, request, Duration::ZERO).await?;
        if !response.status().is_success() {
            return Err(self.complaint(&url, response).await);
        }
        let body = read(&host, response, token::ANSWER).await?;
        token::proof(&host, &body)
    }
}

/// The hosts of the proxies that the environment names: these are reached wherever they are.
fn proxies() -> Vec<String> {
    ["http_proxy", "https_proxy", "all_proxy"]
        .iter()
        .flat_map(|name| [(*name).to_owned(), name.to_ascii_uppercase()])
        .filter_map(|name| std::env::var(name).ok())
        .filter_map(|value| {
            let url = if value.contains("://") { value } else { format!("http://{value}") };
            url.parse::<Url>().ok()?.host_str().map(str::to_owned)
        })
        .collect()
}
