//! A proxy before a registry that does to chosen answers what networks and liars do.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The header lines, lowercase names.
    pub(crate) head: String,
    /// How many requests for this path came before.
    pub(crate) before: usize,
}

impl Request {
    /// Whether it is for a blob with this digest.
    pub(crate) fn is_blob(&self, digest: &str) -> bool {
        self.method == "GET" && self.path.ends_with(&format!("/blobs/{digest}"))
    }

    pub(crate) fn is_manifest(&self) -> bool {
        self.method == "GET" && self.path.contains("/manifests/")
    }

    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split_once(':').map(|(_, value)| value.trim())
    }
}

/// What is done to an answer.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Passed on as it is.
    Pass,
    /// Cut after so many bytes of the body; the connection is closed.
    Cut(usize),
    /// Sent so far, and then nothing, for as long as anyone waits.
    Stall(usize),
    /// Sent a kilobyte at a time, this many in a second.
    Crawl(u64),
    /// The byte at this place of the body changed.
    Corrupt(usize),
    /// Answered in the registry's stead.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
}

impl Act {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn redirect(to: String) -> Self {
        Self::Answer { status: 307, headers: vec![("Location", to)], body: Vec::new() }
    }

    pub(crate) fn document(media_type: &str, body: Vec<u8>) -> Self {
        let headers = vec![("Content-Type", media_type.to_owned())];
        Self::Answer { status: 200, headers, body }
    }
}

/// A running proxy; what is under way when it is dropped ends with the test.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Proxy {
    /// Before the registry at `upstream`; `rule` says what is done to which answer.
    pub(crate) fn start(
        upstream: u16,
        rule: impl Fn(&Request) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (rule, counts) = (Arc::new(rule), Arc::new(Mutex::new(HashMap::new())));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (rule, counts, log) =
                    (Arc::clone(&rule), Arc::clone(&counts), Arc::clone(&log));
                thread::spawn(move || {
                    let Some((mut request, raw)) = read(&connection) else { return };
                    {
                        let mut counts = counts.lock().expect("counts");
                        let count = counts.entry(request.path.clone()).or_insert(0);
                        request.before = *count;
                        *count += 1;
                    }
                    log.lock().expect("the log").push(request.clone());
                    // A client that has gone away is no fault of the proxy.
                    let _gone = serve(connection, upstream, &raw, rule(&request));
                });
            }
        });
        Self { port, seen }
    }

    /// Host and port.
    pub(crate) fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests that came.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("the log").clone()
    }
}

/// Reads a request with its body.
pub(crate) fn read(mut connection: &TcpStream) -> Option<(Request, Vec<u8>)> {
    let mut raw = Vec::new();
    let mut buffer = [0; 65536];
    let end = loop {
        if let Some(end) = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => raw.extend_from_slice(&buffer[..read]),
        }
    };
    let text = String::from_utf8_lossy(&raw[..end]).into_owned();
    let (first, head) = text.split_once("\r\n").unwrap_or((&text, ""));
    let mut words = first.split(' ');
    let request = Request {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        head: head.lines().map(lowercase_name).collect::<Vec<_>>().join("\n"),
        before: 0,
    };
    let length = request.header("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    while raw.len() < end + 4 + length {
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(read) => raw.extend_from_slice(&buffer[..read]),
        }
    }
    // One request per connection, so that its end is the answer's end.
    let mut closed = format!("{text}\r\nConnection: close\r\n\r\n").into_bytes();
    closed.extend_from_slice(&raw[end + 4..]);
    Some((request, closed))
}

fn lowercase_name(line: &str) -> String {
    match line.split_once(':') {
        Some((name, value)) => format!("{}:{value}", name.to_ascii_lowercase()),
        None => line.to_owned(),
    }
}

fn serve(mut client: TcpStream, upstream: u16, request: &[u8], act: Act) -> std::io::Result<()> {
    if let Act::Answer { status, headers, body } = act {
        let mut head = format!("HTTP/1.1 {status} Because\r\nConnection: close\r\n");
        for (name, value) in headers {
            head = format!("{head}{name}: {value}\r\n");
        }
        head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        client.write_all(head.as_bytes())?;
        client.write_all(&body)?;
        return client.shutdown(Shutdown::Write);
    }
    let mut registry = TcpStream::connect(("127.0.0.1", upstream))?;
    registry.write_all(request)?;
    let mut answer = Vec::new();
    registry.read_to_end(&mut answer)?;
    let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |at| at + 4);
    match act {
        Act::Cut(after) => answer.truncate(body + after),
        Act::Corrupt(at) => {
            if let Some(byte) = answer.get_mut(body + at) {
                *byte ^= 0x55;
            }
        }
        Act::Stall(after) => {
            answer.truncate(body + after);
            client.write_all(&answer)?;
            // Longer than any test waits; a client that goes away ends it.
            client.set_read_timeout(Some(Duration::from_secs(60)))?;
            return client.read(&mut [0; 1]).map(drop);
        }
        Act::Crawl(rate) => {
            for piece in answer.chunks(1024) {
                client.write_all(piece)?;
                thread::sleep(Duration::from_secs(1) / u32::try_from(rate).expect("a rate"));
            }
            return client.shutdown(Shutdown::Write);
        }
        Act::Pass | Act::Answer { .. } => {}
    }
    client.write_all(&answer)?;
    client.shutdown(Shutdown::Write)
}
