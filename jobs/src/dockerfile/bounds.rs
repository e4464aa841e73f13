//! How much a Dockerfile may ask of its reader: each bound is far above what people write, and
//! far below what hurts.

/// Instructions in one file, each `ONBUILD` with the one that it holds.
pub(super) const INSTRUCTIONS: usize = 2_000;
/// Stages in one file.
pub(super) const STAGES: usize = 200;
/// Words of one instruction.
pub(super) const WORDS: usize = 2_000;
/// Here-documents of one instruction.
pub(super) const HEREDOCS: usize = 32;
/// Bytes of one here-document.
pub(super) const HEREDOC: usize = 256 * 1024;
/// How deep substitutions may be nested.
pub(super) const DEPTH: usize = 16;
/// Bytes that one word may become when its variables are put in.
pub(super) const EXPANDED: usize = 64 * 1024;
/// Bytes of all variables that a stage knows, names and values.
pub(super) const VARIABLES: usize = 1024 * 1024;
/// Patterns of a `.dockerignore`.
pub(super) const PATTERNS: usize = 2_000;
