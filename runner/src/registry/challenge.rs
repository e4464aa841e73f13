//! What a registry asks for when it answers 401: the challenges of RFC 9110, section 11.6.1.

/// One way to prove who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password in every request (RFC 7617).
    Basic,
    /// A token from somewhere else (distribution specification, "token authentication").
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Longest header that is read, in bytes.
const HEADER: usize = 8192;

/// Reads the value of one `WWW-Authenticate` header; schemes that are not known are passed over.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    if header.len() > HEADER {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut rest = header;
    let mut current: Option<(String, Vec<(String, String)>)> = None;
    loop {
        // What follows a scheme instead of parameters may end in `=` (RFC 9110, "token68").
        rest = rest.trim_start_matches([' ', '\t', ',', '=']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        match after.trim_start().strip_prefix('=') {
            // A word before `=` is a parameter of the scheme before it.
            Some(value) if !value.starts_with('=') => {
                let Some((value, after)) = parameter(value.trim_start()) else { break };
                if let Some((_, parameters)) = &mut current {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            _ => {
                found.extend(current.replace((word.to_ascii_lowercase(), Vec::new())));
                rest = after;
            }
        }
    }
    found.extend(current);
    found.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, parameters)).collect()
}

fn challenge(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    let get = |name: &str| {
        parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer {
            realm: get("realm")?,
            service: get("service"),
            scope: get("scope"),
        }),
        _ => None,
    }
}

/// A token or quoted string, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        let (value, after) = text.split_at(end);
        return Some((value.to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn is_token(character: char) -> bool {
    character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn challenges_of_registries() {
        let check = |header: &str, expect: &[Challenge]| {
            assert_eq!(parse(header), expect, "{header}");
        };
        check("Basic realm=\"Registry\"", &[Challenge::Basic]);
        check("basic", &[Challenge::Basic]);
        check(
            "Bearer realm=\"https://auth.example/token\",service=\"registry\",scope=\"repository:a/b:pull,push\"",
            &[bearer(
                "https://auth.example/token",
                Some("registry"),
                Some("repository:a/b:pull,push"),
            )],
        );
        check(
            "Bearer realm = \"a\" , error=\"invalid_token\", Basic realm=x",
            &[bearer("a", None, None), Challenge::Basic],
        );
        check("Bearer realm=\"a\\\"b\"", &[bearer("a\"b", None, None)]);
        check("Negotiate YII==, Basic realm=\"x\"", &[Challenge::Basic]);
        // No realm, no end of a string, nothing at all.
        check("Bearer service=\"x\"", &[]);
        check("Bearer realm=\"x", &[]);
        check("", &[]);
        check(&format!("Basic realm=\"{}\"", "x".repeat(HEADER)), &[]);
    }
}
