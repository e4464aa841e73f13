//! Answering a container's questions, over UDP and TCP, with bounds on everything.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::{
    message::{self, A, Code, Question},
    names::{History, Names},
    upstream::Upstream,
};
use crate::network::{
    Network,
    table::{self, Filter},
};

/// Questions that are being answered at once; more wait in the socket, and then are lost.
const AT_ONCE: usize = 64;
/// Connections at once.
const CONNECTIONS: usize = 16;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Largest question by UDP; the sockets drop what is beyond.
const DATAGRAM: usize = 1500;
/// How long an address stays reachable after it was answered, in seconds, whatever its records say:
/// long enough to connect, short enough to follow a change.
const SHORTEST: u32 = 60;
const LONGEST: u32 = 3600;
/// What programs may keep an answer for; always less than the address stays reachable.
const KEPT: u32 = 30;

/// Answers the questions of one container until it is dropped.
#[derive(Debug)]
pub(crate) struct Resolver {
    history: Arc<Mutex<History>>,
    #[expect(dead_code, reason = "its tasks end when it is dropped")]
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    names: Names,
    upstream: Upstream,
    filter: Filter,
    history: Arc<Mutex<History>>,
    at_once: Semaphore,
}

impl Resolver {
    /// Starts to answer on the two sockets, which are the container's.
    pub(crate) fn start(
        sockets: [OwnedFd; 2],
        network: &Network,
        filter: Filter,
    ) -> io::Result<Self> {
        let [udp, tcp] = sockets;
        let (udp, tcp) = (UdpSocket::from(udp), TcpListener::from(tcp));
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let udp = Arc::new(tokio::net::UdpSocket::from_std(udp)?);
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        let history = Arc::new(Mutex::new(History::default()));
        let shared = Arc::new(Shared {
            names: Names::new(network),
            upstream: Upstream::of_host()?,
            filter,
            history: Arc::clone(&history),
            at_once: Semaphore::new(AT_ONCE),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_datagrams(Arc::clone(&shared), udp));
        tasks.spawn(serve_streams(shared, tcp));
        Ok(Self { history, tasks })
    }

    /// What happened so far.
    pub(crate) fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve_datagrams(shared: Arc<Shared>, socket: Arc<tokio::net::UdpSocket>) {
    let mut answering = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        while answering.try_join_next().is_some() {}
        if answering.len() >= AT_ONCE {
            answering.join_next().await;
        }
        let (length, client): (usize, SocketAddr) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // Such as that a client has closed its socket before it was answered.
                tracing::debug!(%error, "a container's question");
                continue;
            }
        };
        let question = buffer.get(..length).unwrap_or_default().to_vec();
        let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
        answering.spawn(async move {
            if let Some(mut answer) = shared.answer(&question).await {
                if answer.len() > 512 {
                    answer = truncated(&question, &answer);
                }
                // A client that has gone away needs no answer.
                socket.send_to(&answer, client).await.ok();
            }
        });
    }
}

/// What fits in a datagram without EDNS is nothing but the question and the flag; the client asks
/// again by TCP.
fn truncated(question: &[u8], answer: &[u8]) -> Vec<u8> {
    let Ok(asked) = message::question(question) else { return Vec::new() };
    let mut short = asked.answer(Code::None, &[], 0);
    if let (Some(flags), Some(code)) = (short.get_mut(2..4), answer.get(3))
        && let [high, low] = flags
    {
        *high |= 0x02;
        *low |= code & 0xf;
    }
    short
}

async fn serve_streams(shared: Arc<Shared>, listener: tokio::net::TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    // Its end, in whatever way, concerns the client alone.
                    serve_stream(&shared, stream).await.ok();
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a container's connection for names");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_stream(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut question = vec![0; length.into()];
        timeout(IDLE, stream.read_exact(&mut question)).await??;
        let Some(answer) = shared.answer(&question).await else { return Ok(()) };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        timeout(IDLE, async {
            stream.write_u16(length).await?;
            stream.write_all(&answer).await
        })
        .await??;
    }
}

impl Shared {
    /// The answer to a message; `None` for what deserves none.
    async fn answer(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let question = match message::question(bytes) {
            Ok(question) => question,
            Err(wrong) => return wrong.map(|(id, code)| message::error(id, code)),
        };
        let _permit = self.at_once.acquire().await.ok()?;
        if self.names.are_listed() {
            Some(self.answer_listed(&question).await)
        } else {
            Some(self.answer_any(&question).await)
        }
    }

    /// Only the allowed names have addresses, and only these are ever asked of a server: a name is
    /// a message to whoever answers for it.
    async fn answer_listed(&self, question: &Question) -> Vec<u8> {
        let ports = self.names.ports(&question.name);
        if ports.is_empty() {
            if question.kind == A {
                self.history().refused(&question.name);
            }
            return question.answer(Code::NoSuchName, &[], 0);
        }
        if question.kind != A {
            return question.answer(Code::None, &[], 0);
        }
        let answer = match self.upstream.ask(question).await {
            Ok(bytes) => message::answer(question, &bytes),
            Err(error) => {
                tracing::debug!(%error, name = question.name, "cannot ask for a name");
                None
            }
        };
        let Some(answer) = answer else { return question.answer(Code::Server, &[], 0) };
        if answer.no_such_name {
            return question.answer(Code::NoSuchName, &[], 0);
        }
        let (private, public): (Vec<_>, Vec<_>) =
            answer.addresses.iter().partition(|address| table::is_private(**address));
        self.history().resolved(&question.name, &answer.addresses);
        let endpoints: Vec<_> =
            public.iter().flat_map(|address| ports.iter().map(|port| (*address, *port))).collect();
        let seconds = answer.seconds.clamp(SHORTEST, LONGEST);
        let filter = self.filter.clone();
        let opened =
            tokio::task::spawn_blocking(move || filter.open(&endpoints, seconds.into())).await;
        match opened {
            Ok(Ok(())) => {
                // Private ones are answered too: a rule may name them by address.
                let addresses: Vec<_> = public.into_iter().chain(private).collect();
                question.answer(Code::None, &addresses, answer.seconds.min(KEPT))
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, name = question.name, "cannot open the way to a name");
                question.answer(Code::Server, &[], 0)
            }
            Err(_) => question.answer(Code::Server, &[], 0),
        }
    }

    /// All names, as the host's servers answer them.
    async fn answer_any(&self, question: &Question) -> Vec<u8> {
        match self.upstream.ask(question).await {
            Ok(mut bytes) => {
                if let Some(answer) = message::answer(question, &bytes) {
                    self.history().resolved(&question.name, &answer.addresses);
                }
                message::renumber(&mut bytes, question.id);
                bytes
            }
            Err(error) => {
                tracing::debug!(%error, name = question.name, "cannot ask for a name");
                question.answer(Code::Server, &[], 0)
            }
        }
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
