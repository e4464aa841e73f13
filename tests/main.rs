//! End-to-end tests: the binary, driven as a user drives it.
