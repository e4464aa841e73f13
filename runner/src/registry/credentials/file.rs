//! The one format of docker's `config.json` and podman's `auth.json`.

use std::{collections::BTreeMap, fs::File, io, io::Read as _, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Credentials, DOCKER_HUB_KEY, Hidden};
use crate::registry::settings::Place;

/// What a file says about a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Here(Credentials),
    /// To be asked of this helper.
    Helper(String),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    auths: BTreeMap<String, Login>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Login {
    /// `user:password` in base64.
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// Largest file that is read, in bytes.
const FILE: u64 = 1024 * 1024;

/// Looks `place` up in the file at `path`; a file that is not there says nothing. The error shows
/// nothing of what the file holds.
pub(super) fn find(path: &Path, place: &Place) -> Result<Option<Entry>, String> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(FILE + 1).read_to_string(&mut text)) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        other => other.map_err(|error| error.to_string())?,
    };
    if text.len() as u64 > FILE {
        return Err(format!("it is larger than {FILE} bytes"));
    }
    if text.trim().is_empty() {
        return Ok(None);
    }
    // serde's message could quote a password.
    let document: Document = serde_json::from_str(&text).map_err(|error| {
        format!("line {} column {} is not as it should be", error.line(), error.column())
    })?;
    document.find(place)
}

impl Document {
    fn find(&self, place: &Place) -> Result<Option<Entry>, String> {
        let names = names(place);
        let said = |key: &String| names.iter().any(|name| name == normal(key));
        if let Some((_, helper)) = self.cred_helpers.iter().find(|(key, _)| said(key)) {
            return Ok(Some(Entry::Helper(helper.clone())));
        }
        // The most specific name first.
        for name in &names {
            for (key, login) in &self.auths {
                if normal(key) == name
                    && let Some(credentials) = login.credentials(key)?
                {
                    return Ok(Some(Entry::Here(credentials)));
                }
            }
        }
        let store = Some(&self.creds_store).filter(|store| !store.is_empty());
        Ok(store.map(|store| Entry::Helper(store.clone())))
    }
}

impl Login {
    fn credentials(&self, key: &str) -> Result<Option<Credentials>, String> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::Identity(Hidden::new(self.identitytoken.clone()))));
        }
        let password = |user: &str, password: &str| {
            let password = Hidden::new(password.trim_matches('\0').to_owned());
            Ok(Some(Credentials::Password { user: user.to_owned(), password }))
        };
        if !self.auth.is_empty() {
            let decoded = STANDARD.decode(self.auth.trim()).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            return match text.as_ref().and_then(|text| text.split_once(':')) {
                Some((user, secret)) => password(user, secret),
                None => Err(format!("the `auth` of `{key}` is not the base64 of user:password")),
            };
        }
        if !self.username.is_empty() {
            return password(&self.username, &self.password);
        }
        // An empty entry says that the store has it.
        Ok(None)
    }
}

/// What `place` may be called in a file, the most specific first: podman also keeps credentials
/// for folders and single repositories.
fn names(place: &Place) -> Vec<String> {
    let mut names = Vec::new();
    let mut path = place.repository.as_str();
    loop {
        names.push(format!("{}/{path}", place.registry));
        match path.rsplit_once('/') {
            Some((above, _)) => path = above,
            None => break,
        }
    }
    names.push(place.registry.clone());
    if place.registry == "docker.io" {
        names.push(normal(DOCKER_HUB_KEY).to_owned());
        names.push(place.host().to_owned());
    }
    names
}

/// A key without the scheme and version that older programs wrote. Where there is no scheme, `v1` and
/// `v2` are folders, and what is said of those holds for them alone.
fn normal(key: &str) -> &str {
    let Some(url) = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) else {
        return key.trim_end_matches('/');
    };
    let url = url.trim_end_matches('/');
    url.strip_suffix("/v1").or_else(|| url.strip_suffix("/v2")).unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(document: &str, registry: &str, repository: &str) -> Result<Option<Entry>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), document).unwrap();
        let place = Place { registry: registry.to_owned(), repository: repository.to_owned() };
        find(file.path(), &place)
    }

    fn password(user: &str, password: &str) -> Option<Entry> {
        let password = Hidden::new(password.to_owned());
        Some(Entry::Here(Credentials::Password { user: user.to_owned(), password }))
    }

    #[test]
    fn entries_of_docker_and_podman() {
        // `ci:secret`, `ci:a:b` and `robot:two`.
        let (ci, colon, robot) = ("Y2k6c2VjcmV0", "Y2k6YTpi", "cm9ib3Q6dHdv");
        let auths = |entries: &str| format!("{{\"auths\":{{{entries}}}}}");
        let check = |document: &str, registry: &str, repository: &str, expect: Option<Entry>| {
            assert_eq!(found(document, registry, repository), Ok(expect), "{document}");
        };
        let plain = auths(&format!("\"r.example:5000\":{{\"auth\":\"{ci}\"}}"));
        check(&plain, "r.example:5000", "app", password("ci", "secret"));
        check(&plain, "r.example", "app", None);
        check(&plain, "other.example:5000", "app", None);
        let old = auths(&format!("\"https://r.example/v2/\":{{\"auth\":\"{colon}\"}}"));
        check(&old, "r.example", "app", password("ci", "a:b"));
        let hub = auths(&format!("\"https://index.docker.io/v1/\":{{\"auth\":\"{ci}\"}}"));
        check(&hub, "docker.io", "library/debian", password("ci", "secret"));
        let folders = auths(&format!(
            "\"r.example\":{{\"auth\":\"{ci}\"}},\"r.example/team\":{{\"auth\":\"{robot}\"}}"
        ));
        check(&folders, "r.example", "team/app", password("robot", "two"));
        check(&folders, "r.example", "teams/app", password("ci", "secret"));
        let version = auths(&format!("\"r.example/v2\":{{\"auth\":\"{robot}\"}}"));
        check(&version, "r.example", "v2/app", password("robot", "two"));
        check(&version, "r.example", "app", None);
        let named = auths("\"r.example\":{\"username\":\"ci\",\"password\":\"p\"}");
        check(&named, "r.example", "app", password("ci", "p"));
        let identity = auths("\"r.example\":{\"auth\":\"Y2k6\",\"identitytoken\":\"t\"}");
        let token = Entry::Here(Credentials::Identity(Hidden::new("t".to_owned())));
        check(&identity, "r.example", "app", Some(token));
        let helper = |name: &str| Some(Entry::Helper(name.to_owned()));
        check("{\"credsStore\":\"pass\"}", "r.example", "app", helper("pass"));
        check(
            "{\"credHelpers\":{\"r.example\":\"ecr\"},\"credsStore\":\"pass\"}",
            "r.example",
            "app",
            helper("ecr"),
        );
        check(
            "{\"auths\":{\"r.example\":{}},\"credsStore\":\"pass\"}",
            "r.example",
            "a",
            helper("pass"),
        );
        check("{\"HttpHeaders\":{\"X\":\"y\"},\"psFormat\":\"z\"}", "r.example", "app", None);
        check("", "r.example", "app", None);
    }

    #[test]
    fn damaged_files_are_refused_without_their_content() {
        for document in [
            "{\"auths\":{\"r.example\":{\"auth\":\"hunter22\"}}}",
            "{\"auths\":{\"r.example\":{\"auth\":\"!hunter22\"}}}",
            "{\"auths\":\"hunter22\"}",
            "hunter22",
            &format!("{{\"auths\":{{}}}}{}", " ".repeat(1024 * 1024)),
        ] {
            let error = found(document, "r.example", "app").unwrap_err();
            assert!(!error.contains("hunter22"), "{error}");
        }
        let place = Place { registry: "r".to_owned(), repository: "a".to_owned() };
        assert_eq!(find(Path::new("/nonexistent/x"), &place), Ok(None));
    }
}
