//! The seccomp filter: a default-deny allow list compiled to BPF.
