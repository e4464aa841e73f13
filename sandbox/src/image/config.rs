//! The part of an image's configuration that running it needs.
//!
//! Labels, volumes, health checks, exposed ports and stop signals are not read at all: nothing in
//! them may change what a container is allowed to do.

use serde::Deserialize;

use super::digest::Digest;

/// How an image wants its processes started (OCI image specification, "Image Configuration").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Names and values, in the image's order; a name may be there twice, then the last counts.
    pub env: Vec<(String, String)>,
    /// The working directory, absolute; empty where the image names none.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`, unresolved; empty where the image names none.
    pub user: String,
    /// What a command is passed to.
    pub entrypoint: Vec<String>,
    /// The command, or the entry point's default arguments.
    pub command: Vec<String>,
    /// The processor architecture, as Go's `GOARCH` names it.
    pub architecture: String,
    /// The operating system, as Go's `GOOS` names it.
    pub os: String,
    /// When the image was made (RFC 3339), as the image says.
    pub created: Option<String>,
}

/// The configuration with what only unpacking needs.
#[derive(Clone, Debug)]
pub(crate) struct ParsedConfig {
    pub(crate) config: ImageConfig,
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    created: Option<String>,
    config: Option<Execution>,
    rootfs: RootFs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Execution {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// Variables of a container that starts from an image may not be more than this.
const VARIABLES: usize = 4096;

/// Parses the configuration document; the error is a phrase that says what is wrong with it.
pub(crate) fn parse(document: &[u8]) -> Result<ParsedConfig, String> {
    let document: Document = serde_json::from_slice(document)
        .map_err(|error| format!("the image's configuration is malformed: {error}"))?;
    let execution = document.config.unwrap_or_default();
    let mut env = Vec::new();
    for variable in execution.env.unwrap_or_default() {
        match variable.split_once('=') {
            Some((name, value)) if !name.is_empty() && env.len() < VARIABLES => {
                env.push((text("Env", name.to_owned())?, text("Env", value.to_owned())?));
            }
            Some((name, _)) if !name.is_empty() => {
                return Err(format!("the image sets more than {VARIABLES} variables"));
            }
            _ => {
                return Err(format!(
                    "the image sets a variable `{}` without `=`",
                    shown(&variable)
                ));
            }
        }
    }
    let working_dir = text("WorkingDir", execution.working_dir.unwrap_or_default())?;
    if !working_dir.is_empty() && !working_dir.starts_with('/') {
        return Err(format!("the image's WorkingDir `{}` is not absolute", shown(&working_dir)));
    }
    let user = text("User", execution.user.unwrap_or_default())?;
    if user.len() > 255 {
        return Err("the image's User has more than 255 bytes".to_owned());
    }
    let texts = |key: &str, values: Option<Vec<String>>| {
        values
            .unwrap_or_default()
            .into_iter()
            .map(|value| text(key, value))
            .collect::<Result<Vec<_>, _>>()
    };
    let diff_ids = document.rootfs.diff_ids.iter().map(|id| id.parse::<Digest>());
    Ok(ParsedConfig {
        config: ImageConfig {
            env,
            working_dir,
            user,
            entrypoint: texts("Entrypoint", execution.entrypoint)?,
            command: texts("Cmd", execution.cmd)?,
            architecture: document.architecture,
            os: document.os,
            created: document.created,
        },
        diff_ids: diff_ids
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the image's configuration names a layer wrongly: {error}"))?,
    })
}

fn text(key: &str, value: String) -> Result<String, String> {
    if value.contains('\0') {
        return Err(format!("the image's {key} holds a NUL byte"));
    }
    Ok(value)
}

fn shown(text: &str) -> String {
    super::problem::shown(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, expected: &str) {
        let document = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        let outcome = parse(document.as_bytes());
        let error = outcome.map_or_else(|error| error, |_| String::new());
        assert!(error.contains(expected) && error.is_empty() == expected.is_empty(), "{error}");
    }

    #[test]
    fn what_running_needs_is_checked() {
        check("null", "");
        check("{}", "");
        check(
            r#"{"Env":["A=b","A=","B==c"],"Cmd":["sh"],"User":"1000:1000","WorkingDir":"/w"}"#,
            "",
        );
        check(r#"{"Env":null,"Labels":{"x":"y"},"Volumes":{"/v":{}}}"#, "");
        check(r#"{"Env":["A"]}"#, "without `=`");
        check(r#"{"Env":["=x"]}"#, "without `=`");
        check(r#"{"Env":["A=\u0000"]}"#, "NUL");
        check(r#"{"WorkingDir":"../../proc/self/fd/7"}"#, "not absolute");
        check(r#"{"User":7}"#, "malformed");
        check(r#"{"Cmd":["a"],"Cmd":["b"]}"#, "malformed");
    }
}
