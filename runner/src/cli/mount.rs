//! A part of this host that the operator shows inside, as it is said on the command line.

use std::{path::PathBuf, str::FromStr};

use cofferdam_sandbox::Mount;

/// `SRC:DST[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountArgument {
    /// Path on the host.
    pub(crate) source: PathBuf,
    /// Absolute path inside.
    pub(crate) target: String,
    /// Whether it cannot be changed from inside.
    pub(crate) read_only: bool,
}

impl FromStr for MountArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, read_only) = match parts.as_slice() {
            [source, target] | [source, target, "rw"] => (source, target, false),
            [source, target, "ro"] => (source, target, true),
            [_, _, mode] => return Err(format!("`{mode}` is neither `ro` nor `rw`")),
            _ => return Err("expected SRC:DST or SRC:DST:ro".to_owned()),
        };
        if source.is_empty() {
            return Err("the part before the first `:` is the path on this host".to_owned());
        }
        let components: Vec<&str> =
            target.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if !target.starts_with('/') || components.is_empty() || components.contains(&"..") {
            return Err(format!("`{target}` is not an absolute path below `/`"));
        }
        if matches!(components.first(), Some(&"proc" | &"sys" | &"dev")) {
            return Err(format!("nothing can be mounted on `{target}`"));
        }
        Ok(Self { source: source.into(), target: (*target).to_owned(), read_only })
    }
}

impl From<MountArgument> for Mount {
    fn from(argument: MountArgument) -> Self {
        Self { source: argument.source, target: argument.target, read_only: argument.read_only }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_or_refused_with_a_reason() {
        let mount = |source: &str, target: &str, read_only| {
            Ok(MountArgument { source: source.into(), target: target.to_owned(), read_only })
        };
        let check = |text: &str, expected: Result<MountArgument, &str>| {
            assert_eq!(text.parse(), expected.map_err(str::to_owned), "{text}");
        };
        check("/a:/b", mount("/a", "/b", false));
        check("a:/b:ro", mount("a", "/b", true));
        check("a:/b:rw", mount("a", "/b", false));
        check("/a:/b:rx", Err("`rx` is neither `ro` nor `rw`"));
        check("/a", Err("expected SRC:DST or SRC:DST:ro"));
        check(":/b", Err("the part before the first `:` is the path on this host"));
        for target in ["b", "/", "/.", "/b/../c", ""] {
            let expected = format!("`{target}` is not an absolute path below `/`");
            check(&format!("/a:{target}"), Err(&expected));
        }
        check("/a:/proc/self", Err("nothing can be mounted on `/proc/self`"));
        check("/a:/./sys", Err("nothing can be mounted on `/./sys`"));
        check("/a://dev", Err("nothing can be mounted on `//dev`"));
    }
}
