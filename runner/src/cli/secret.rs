//! `image build --secret`, in the words of `docker build`.

use std::{path::PathBuf, str::FromStr};

/// Where the value of a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// A file of this host, as it is.
    File(PathBuf),
    /// A variable of the caller's.
    Variable(String),
}

/// A secret of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretArgument {
    /// What the Dockerfile calls it.
    pub(crate) id: String,
    pub(crate) source: SecretSource,
}

impl FromStr for SecretArgument {
    type Err = String;

    /// The value is never on the command line, where everyone could read it.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
        for part in text.split(',') {
            let (name, value) = part
                .split_once('=')
                .filter(|(_, value)| !value.is_empty())
                // Not what it is: who means a value must not read it in a log.
                .ok_or("a part of it is not KEY=VALUE")?;
            let place = match name {
                "id" => &mut id,
                "src" | "source" => &mut file,
                "env" => &mut variable,
                "type" => &mut kind,
                _ => return Err(format!("there is no `{name}`; there are `id`, `src` and `env`")),
            };
            if place.replace(value).is_some() {
                return Err(format!("`{name}` is given twice"));
            }
        }
        let id = id.ok_or("it needs an `id`, which is what the Dockerfile calls it")?.to_owned();
        let source = match (kind, file, variable) {
            (_, Some(_), Some(_)) => return Err("it has both `src` and `env`".to_owned()),
            (None | Some("file"), Some(file), None) => SecretSource::File(PathBuf::from(file)),
            // So it is with docker: a variable may be named by `src` where the type says so.
            (Some("env"), Some(name), None) | (None | Some("env"), None, Some(name)) => {
                SecretSource::Variable(name.to_owned())
            }
            (None | Some("env"), None, None) => SecretSource::Variable(id.clone()),
            (Some("file"), None, _) => return Err("it needs a `src`".to_owned()),
            (Some(kind), ..) => {
                return Err(format!("there is no type `{kind}`; there are `file` and `env`"));
            }
        };
        Ok(Self { id, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_builds() {
        let check = |text: &str, expect: Result<(&str, SecretSource), &str>| {
            let expect = expect.map(|(id, source)| SecretArgument { id: id.to_owned(), source });
            assert_eq!(text.parse(), expect.map_err(str::to_owned), "{text}");
        };
        let file = |path: &str| SecretSource::File(PathBuf::from(path));
        let variable = |name: &str| SecretSource::Variable(name.to_owned());
        check("id=a,src=/x/y", Ok(("a", file("/x/y"))));
        check("type=file,source=k=v,id=a", Ok(("a", file("k=v"))));
        check("id=a,env=TOKEN", Ok(("a", variable("TOKEN"))));
        check("id=a,type=env,src=TOKEN", Ok(("a", variable("TOKEN"))));
        check("id=TOKEN", Ok(("TOKEN", variable("TOKEN"))));
        check("hunter22", Err("a part of it is not KEY=VALUE"));
        check("id=", Err("a part of it is not KEY=VALUE"));
        check("src=x", Err("it needs an `id`, which is what the Dockerfile calls it"));
        check("id=a,id=b", Err("`id` is given twice"));
        check("id=a,src=x,env=y", Err("it has both `src` and `env`"));
        check("id=a,type=file", Err("it needs a `src`"));
        check("id=a,type=ssh", Err("there is no type `ssh`; there are `file` and `env`"));
        check("id=a,value=x", Err("there is no `value`; there are `id`, `src` and `env`"));
    }
}
