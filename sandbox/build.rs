//! Compiles the seccomp policy to BPF, so that a mistake in it ends the build and nothing is left to
//! do, and nothing can fail, when a container starts.

use std::{env, error::Error, fs, path::Path};

#[path = "src/seccomp/compile/mod.rs"]
mod compile;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = Path::new("src/seccomp");
    let policy = directory.join("policy.txt");
    let numbers = directory.join("syscalls.txt");
    for input in [&policy, &numbers, &directory.join("compile")] {
        tell_cargo(&format!("rerun-if-changed={}", input.display()));
    }
    let rust = compile::rust_source(&fs::read_to_string(policy)?, &fs::read_to_string(numbers)?)?;
    let target = env::var_os("OUT_DIR").ok_or("cargo did not set `OUT_DIR`")?;
    fs::write(Path::new(&target).join("seccomp_programs.rs"), rust)?;
    Ok(())
}

fn tell_cargo(instruction: &str) {
    println!("cargo::{instruction}");
}
