//! What a job can reach.

use crate::source::{Span, Spanned};

/// The network of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Network {
    /// Nothing but itself.
    None,
    /// Its services.
    Services(Span),
    /// Everything.
    Full(Span),
    /// What is listed.
    Allow {
        /// The destinations.
        allow: Vec<AllowRule>,
        /// Bits per second, in each direction.
        bandwidth: Option<Spanned<u64>>,
        /// Where it is written.
        span: Span,
    },
}

/// One destination of an allow list.
#[derive(Clone, Debug, PartialEq)]
pub struct AllowRule {
    /// Which hosts.
    pub destination: Destination,
    /// Which port.
    pub port: u16,
    /// Where it is written.
    pub span: Span,
}

/// The hosts of an allow rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One name, in lower case.
    Name(String),
    /// All names below this one, in lower case and without the `*.`.
    Below(String),
    /// All addresses that share this many first bits.
    Block(std::net::IpAddr, u8),
}
