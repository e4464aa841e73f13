//! One target under libFuzzer: that which `COFFERDAM_FUZZ_TARGET` names. `run` builds and starts it.
//!
//! All targets are one program, so that what they share is instrumented and linked once.
#![no_main]
#![expect(clippy::expect_used, reason = "without a target there is nothing to do")]

use std::sync::OnceLock;

use cofferdam_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("COFFERDAM_FUZZ_TARGET").unwrap_or_default();
        cofferdam_fuzz::target(&name).expect("`COFFERDAM_FUZZ_TARGET` names a target")
    })
}

fuzz_target!(|input: &[u8]| target().check(input));
