//! Text as the name of an image: refused with a place inside of it, or read, and then the same again
//! from what it prints.

use cofferdam_sandbox::image::{Digest, Reference};

pub(crate) fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    match text.parse::<Reference>() {
        Ok(reference) => {
            let printed = reference.to_string();
            assert_eq!(printed.parse::<Reference>().ok(), Some(reference), "{printed}");
            assert!(!printed.contains(char::is_control), "{printed:?}");
        }
        Err(error) => {
            let span = error.span();
            assert!(text.get(span.clone()).is_some(), "{span:?} is no place in {text:?}");
            assert!(!error.why().is_empty());
        }
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
}
