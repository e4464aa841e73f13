//! The nearest known name to one that is not known.

use crate::diagnostic::quoted;

/// How many known names are looked at: a hostile file declares tens of thousands, and misspells
/// each of them.
const MAX_CANDIDATES: usize = 2_000;

/// "did you mean …?" for the known name that is nearest, if any is near enough to be meant.
pub(crate) fn suggestion<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(name, known).map(|nearest| format!("did you mean {}?", quoted(nearest)))
}

/// The same, or which names there are: a few of them, where there are many.
pub(crate) fn suggestion_or_list<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    const SHOWN: usize = 8;
    suggestion(name, known.clone()).unwrap_or_else(|| {
        let names: Vec<String> = known.clone().take(SHOWN).map(quoted).collect();
        let more = if known.count() > SHOWN { ", …" } else { "" };
        format!("there are {}{more}", names.join(", "))
    })
}

/// The known name that is nearest, if any is near enough to be meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names are short; a longer one is no misspelling, and the distance costs length times length.
    const MAX: usize = 64;
    if name.len() > MAX {
        return None;
    }
    let allowed = (name.chars().count() / 3).clamp(1, 4);
    let lower = name.to_lowercase();
    known
        .into_iter()
        .take(MAX_CANDIDATES)
        // A character has at most four bytes.
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= allowed * 4)
        .filter(|candidate| candidate.len() <= MAX)
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, candidate)| (*distance, *candidate))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["steps", "needs", "timeout", "allow-failure"];
        for (name, expect) in [
            ("step", Some("did you mean `steps`?")),
            ("Needs", Some("did you mean `needs`?")),
            ("tiemout", Some("did you mean `timeout`?")),
            ("allow_failure", Some("did you mean `allow-failure`?")),
            ("x", None),
            ("volumes", None),
        ] {
            assert_eq!(suggestion(name, known).as_deref(), expect, "{name}");
        }
        assert_eq!(suggestion(&"steps".repeat(100), known), None);
    }
}
