//! Proof for requests: a header made from what the registry asks and what we have.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Url, header::HeaderValue};
use serde::Deserialize;

use super::{
    credentials::{Credentials, Hidden},
    failure::Failure,
    shown,
};

/// A header that proves who asks, and until when it does.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) header: HeaderValue,
    until: Option<Instant>,
}

impl Proof {
    pub(super) fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }

    pub(super) fn password(user: &str, password: &Hidden) -> Result<Self, Failure> {
        let text = STANDARD.encode(format!("{user}:{}", password.expose()));
        Ok(Self { header: header(&format!("Basic {text}"))?, until: None })
    }
}

/// What a token service answers (distribution specification, "token authentication").
#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Most bytes of an answer.
pub(super) const ANSWER: u64 = 256 * 1024;
/// How long a token holds that does not say so.
const HOLDS: u64 = 60;
/// How much earlier than it says a token is taken for expired.
const MARGIN: u64 = 5;

/// A request for a token.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) url: Url,
    pub(super) proof: Option<Proof>,
    /// What is posted, where this is not a plain question.
    pub(super) form: Option<Hidden>,
}

impl Question {
    /// How to ask the service at `realm` for a token for `scopes`.
    pub(super) fn new(
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
        credentials: Option<&Credentials>,
    ) -> Result<Self, Failure> {
        let mut url = realm.clone();
        if let Some(Credentials::Identity(identity)) = credentials {
            // Built in a URL's query, which has the form's encoding.
            let mut form = realm.clone();
            form.set_query(None);
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("service", service.unwrap_or_default())
                .append_pair("client_id", "cofferdam")
                .append_pair("scope", &scopes.join(" "))
                .append_pair("refresh_token", identity.expose());
            let form = form.query().unwrap_or_default().to_owned();
            return Ok(Self { url, proof: None, form: Some(Hidden::new(form)) });
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            for scope in scopes {
                query.append_pair("scope", scope);
            }
        }
        let proof = match credentials {
            Some(Credentials::Password { user, password }) => {
                Some(Proof::password(user, password)?)
            }
            _ => None,
        };
        Ok(Self { url, proof, form: None })
    }
}

/// Makes a proof of what the token service answered.
pub(super) fn proof(host: &str, body: &[u8]) -> Result<Proof, Failure> {
    let malformed = || Failure::Refused(format!("what `{host}` answered is no token"));
    // The message of the parser could quote a token.
    let answer: Answer = serde_json::from_slice(body).map_err(|_| malformed())?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    let header = header(&format!("Bearer {}", token.ok_or_else(malformed)?))?;
    // Some say 0 and mean "short".
    let seconds = answer.expires_in.filter(|seconds| *seconds > 0).unwrap_or(HOLDS).min(86_400);
    let until = Instant::now() + Duration::from_secs(seconds.saturating_sub(MARGIN));
    Ok(Proof { header, until: Some(until) })
}

fn header(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Failure::Refused("a token or password has characters that no header can carry".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The realm of a challenge as a URL.
pub(super) fn realm(host: &str, realm: &str) -> Result<Url, Failure> {
    realm.parse().map_err(|_| {
        Failure::Refused(format!(
            "`{host}` names the token service `{}`, which is no URL",
            shown(realm)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(credentials: Option<&Credentials>) -> Question {
        let realm = "https://auth.example/token?x=1".parse().unwrap();
        let scopes = ["repository:a/b:pull".to_owned()];
        Question::new(&realm, Some("r & s"), &scopes, credentials).unwrap()
    }

    #[test]
    fn questions_of_strangers_and_of_those_with_a_password() {
        let url = "https://auth.example/token?x=1&service=r+%26+s&scope=repository%3Aa%2Fb%3Apull";
        let stranger = question(None);
        assert_eq!((stranger.url.as_str(), stranger.proof.is_none()), (url, true));
        let password = Hidden::new("pass:word".to_owned());
        let known = Credentials::Password { user: "ci".to_owned(), password };
        let known = question(Some(&known));
        assert_eq!(known.url.as_str(), url);
        let proof = known.proof.unwrap();
        assert_eq!(proof.header.to_str().unwrap(), "Basic Y2k6cGFzczp3b3Jk");
        assert!(!format!("{proof:?}").contains("Y2k6"));
    }

    #[test]
    fn an_identity_is_posted_and_never_stands_in_a_url() {
        let identity = Credentials::Identity(Hidden::new("a=b&c".to_owned()));
        let question = question(Some(&identity));
        assert_eq!(question.url.as_str(), "https://auth.example/token?x=1");
        assert_eq!(
            question.form.unwrap().expose(),
            "grant_type=refresh_token&service=r+%26+s&client_id=cofferdam&scope=repository%3Aa%2Fb%3Apull&refresh_token=a%3Db%26c"
        );
    }

    #[test]
    fn answers() {
        let check = |body: &str, expect: Option<&str>| {
            let found = proof("h", body.as_bytes()).ok();
            let text = found.as_ref().map(|proof| proof.header.to_str().unwrap());
            assert_eq!(text, expect, "{body}");
        };
        check("{\"token\":\"t\"}", Some("Bearer t"));
        check("{\"access_token\":\"t\",\"expires_in\":300}", Some("Bearer t"));
        check("{\"token\":\"\"}", None);
        check("{\"token\":\"a\\nb\"}", None);
        check("[]", None);
        assert!(
            proof("h", b"{\"token\":\"t\",\"expires_in\":18446744073709551615}")
                .unwrap()
                .is_fresh()
        );
        assert!(!proof("h", b"{\"token\":\"t\",\"expires_in\":1}").unwrap().is_fresh());
    }
}
