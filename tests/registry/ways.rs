//! The ways to a registry that the operator names: mirrors, without encryption, by a proxy; and how
//! long any of them is waited for.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use super::{
    needs_registry,
    picture::Picture,
    proxy::{Act, Proxy, read},
    server::{Kind, Server},
    told,
};

#[test]
fn mirrors() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let (origin, mirror) = (Server::start(), Server::start());
    let (far, near) = (Picture::of(&["far"]), Picture::of(&["near"]));
    origin.push(far.layout(), "app:1");
    mirror.push(near.layout(), "app:1");
    origin.push(far.layout(), "only:1");
    let (asked, first) =
        (Proxy::start(origin.port, |_| Act::Pass), Proxy::start(mirror.port, |_| Act::Pass));
    let configured = |mirrors: &str, insecure: &str| {
        let text = format!(
            "registries:\n  '{}': {{ insecure: true, mirrors: [{mirrors}] }}\n  '{}': {{ insecure: {insecure} }}\n\
             downloads: {{ attempts: 2 }}\n",
            asked.name(),
            first.name(),
        );
        told(directory.path(), &text)
    };
    let pull = |mirrors: &str, insecure: &str, name: &str, picture: &Picture| {
        let cofferdam = configured(mirrors, insecure);
        let tag = format!("{}/{name}:1", asked.name());
        cofferdam.run(["image", "pull", &tag]).expect(0);
        let json = cofferdam.run(["image", "inspect", "--json", &tag]).expect(0);
        json.says(&[&picture.digest()]);
    };
    let near_first = format!("'{}'", first.name());
    pull(&near_first, "true", "app", &near);
    assert!(asked.seen().is_empty(), "{:?}", asked.seen());
    // What the mirror does not have, or when it is not there, or is no mirror, comes from the origin.
    pull(&near_first, "true", "only", &far);
    assert!(first.seen().iter().any(|request| request.path.contains("only")));
    pull("'127.0.0.1:1'", "true", "app", &far);
    // To who is not said to be insecure, nothing is said in the clear.
    let before = first.seen().len();
    pull(&near_first, "false", "app", &far);
    assert_eq!(first.seen().len(), before);
    let ended = told(directory.path(), "downloads: { attempts: 2 }\n");
    let ended = ended.run(["image", "pull", &format!("{}/app:1", origin.name())]);
    ended.expect(70).says(&[&origin.name(), "insecure"]);
}

/// A proxy as browsers know it: what it was asked, and to whom it led.
struct Forward {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    /// Whatever host is named, it is this one.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                // One who goes away is no fault of the proxy.
                thread::spawn(move || forward(client, &log).ok());
            }
        });
        Self { port, seen }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("the log").clone()
    }
}

fn forward(mut client: TcpStream, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let Some((request, raw)) = read(&client) else { return Ok(()) };
    log.lock().expect("the log").push(format!("{} {}", request.method, request.path));
    let tunnel = request.method == "CONNECT";
    let place = request.path.strip_prefix("http://").unwrap_or(&request.path);
    let (host, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let port = host.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).unwrap_or(80);
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    if tunnel {
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || {
            std::io::copy(&mut from, &mut to).ok();
            to.shutdown(Shutdown::Write).ok();
        });
    } else {
        let text = String::from_utf8_lossy(&raw).replacen(&request.path, path, 1);
        server.write_all(text.as_bytes())?;
    }
    let mut buffer = vec![0; 65536];
    loop {
        let read = server.read(&mut buffer)?;
        if read == 0 {
            return client.shutdown(Shutdown::Write);
        }
        client.write_all(&buffer[..read])?;
    }
}

/// By the variables that other programs know. Behind a proxy, nobody here has to know the name.
#[test]
fn proxies() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let picture = Picture::of(&["one"]);
    let plain = Server::start();
    plain.push(picture.layout(), "app:1");
    let name = format!("registry.test:{}", plain.port);
    let configuration = |name: &str| {
        format!("registries: {{ '{name}': {{ insecure: true }} }}\ndownloads: {{ attempts: 2 }}\n")
    };
    let proxy = Forward::start();
    let tag = format!("{name}/app:1");
    let by_proxy =
        told(directory.path(), &configuration(&name)).variable("http_proxy", &proxy.url());
    by_proxy.run(["image", "pull", &tag]).expect(0);
    let seen = proxy.seen();
    assert!(
        seen.len() > 2 && seen.iter().all(|it| it.starts_with(&format!("GET http://{name}/v2/"))),
        "{seen:?}"
    );
    told(directory.path(), &configuration(&name))
        .run(["image", "pull", &tag])
        .expect(70)
        .says(&["registry.test"]);

    // Not where the caller says so.
    let own = Server::start();
    own.push(picture.layout(), "app:1");
    let before = proxy.seen().len();
    let beside = told(directory.path(), &configuration(&own.name()));
    let beside = beside.variable("http_proxy", &proxy.url()).variable("no_proxy", "127.0.0.1");
    beside.run(["image", "pull", &format!("{}/app:1", own.name())]).expect(0);
    assert_eq!(proxy.seen().len(), before);

    // Behind TLS it is a tunnel: the proxy learns the name, and nothing that is said.
    let tls = Server::of(Kind { tls: true, ..Kind::default() });
    tls.push(picture.layout(), "app:1");
    let name = format!("localhost:{}", tls.port);
    let text = format!("registries: {{ '{name}': {{ ca: {} }} }}\n", tls.ca().display());
    let before = proxy.seen().len();
    let tunnelled = told(directory.path(), &text).variable("HTTPS_PROXY", &proxy.url());
    tunnelled.run(["image", "pull", &format!("{name}/app:1")]).expect(0);
    let seen = proxy.seen().split_off(before);
    assert!(!seen.is_empty() && seen.iter().all(|it| *it == format!("CONNECT {name}")), "{seen:?}");

    // One that is not there is told of, with what would have been asked for.
    let text = configuration(&own.name());
    let nobody = told(directory.path(), &text).variable("http_proxy", "http://127.0.0.1:1");
    nobody.run(["image", "pull", &format!("{}/app:1", own.name())]).expect(70).says(&[&own.name()]);
}

/// A layer that comes in drops, each soon enough and enough of them, is not waited for without end.
#[test]
fn a_layer_has_a_deadline() {
    needs_registry!();
    let directory = tempfile::tempdir().expect("a directory");
    let server = Server::start();
    // Some megabytes that no compressor makes smaller.
    let mut random = fastrand::Rng::with_seed(7);
    let text: String = (0..2 << 20).map(|_| random.alphanumeric()).collect();
    let picture = Picture::of(&[&text]);
    server.push(picture.layout(), "app:1");
    let layer = picture.manifest["layers"][1]["digest"].as_str().expect("a digest").to_owned();
    let proxy = Proxy::start(server.port, move |request| match request.is_blob(&layer) {
        true => Act::Crawl(20),
        false => Act::Pass,
    });
    let text = format!(
        "registries: {{ '{}': {{ insecure: true }} }}\ndownloads: {{ idle: 2s, attempts: 2 }}\n",
        proxy.name()
    );
    let ended =
        told(directory.path(), &text).run(["image", "pull", &format!("{}/app:1", proxy.name())]);
    ended.expect(70).says(&[&proxy.name(), "s of waiting"]);
}
