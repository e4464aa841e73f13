//! Asking the host's name servers.

use std::{
    fs::File,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::message::{Question, is_truncated};

/// How long one server is waited for; a stub resolver waits 5 s by default (resolv.conf(5)).
const PATIENCE: Duration = Duration::from_secs(2);
/// Rounds over all servers.
const ROUNDS: usize = 2;
/// Servers that are used, as in resolv.conf(5).
const SERVERS: usize = 3;
/// Largest resolv.conf that is read.
const LARGEST: u64 = 64 * 1024;

/// The name servers of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upstream(Vec<SocketAddr>);

impl Upstream {
    /// Those that the host itself uses.
    pub(super) fn of_host() -> io::Result<Self> {
        let mut text = String::new();
        File::open("/etc/resolv.conf")?.take(LARGEST).read_to_string(&mut text)?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let addresses = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let address: IpAddr = match words.next() {
                Some("nameserver") => words.next()?.parse().ok()?,
                _ => return None,
            };
            Some(SocketAddr::new(address, 53))
        });
        Self(addresses.take(SERVERS).collect())
    }

    /// The first answer of any server, whatever it says.
    pub(super) async fn ask(&self, question: &Question) -> io::Result<Vec<u8>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no name server");
        for server in (0..ROUNDS).flat_map(|_| &self.0) {
            match timeout(PATIENCE, ask_one(*server, question)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

async fn ask_one(server: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
    let id = unpredictable();
    let message = question.ask(id);
    // A socket, and so a port, for each question: with the number, that is what an outsider would
    // have to guess (RFC 5452).
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&message).await?;
    let mut answer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut answer).await?;
        let received = answer.get(..length).unwrap_or_default();
        if !question.is_answered_by(received, id) {
            continue;
        }
        if is_truncated(received) {
            return ask_by_stream(server, question, id).await;
        }
        return Ok(received.to_vec());
    }
}

/// With the two bytes of length that TCP needs (RFC 7766, section 8).
async fn ask_by_stream(server: SocketAddr, question: &Question, id: u16) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let message = question.ask(id);
    stream.write_u16(u16::try_from(message.len()).map_err(io::Error::other)?).await?;
    stream.write_all(&message).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    if question.is_answered_by(&answer, id) {
        Ok(answer)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"))
    }
}

/// The standard library keys each of these hashers anew from the kernel's random numbers.
fn unpredictable() -> u16 {
    u16::try_from(RandomState::new().build_hasher().finish() & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_resolv_conf() {
        let text = "# nameserver 192.0.2.9\nsearch example.org\nnameserver 127.0.0.53\n\
                    nameserver nonsense\nnameserver 2001:db8::1\nnameserver 192.0.2.1\n\
                    nameserver 192.0.2.2\n";
        let expect = ["127.0.0.53:53", "[2001:db8::1]:53", "192.0.2.1:53"];
        assert_eq!(Upstream::parse(text).0, expect.map(|it| it.parse().unwrap()));
    }
}
