//! A host and a world of the tests' own: two network namespaces, so that neither this machine's
//! network and packet filters nor any address outside are ever touched.
//!
//! The world has documentation addresses only (RFC 5737), a private host, a metadata service and a
//! name server that notes what it is asked. The thread that runs a test is on the host.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use nix::sched::{CloneFlags, unshare};

use crate::{
    binary::{Cofferdam, Ended, program, wait},
    host::is_root,
};

/// Two hosts of the internet.
pub(crate) const FIRST: &str = "192.0.2.10";
pub(crate) const SECOND: &str = "198.51.100.5";
/// A host of a private network.
pub(crate) const PRIVATE: &str = "10.99.0.1";
/// Where clouds tell a machine its secrets.
pub(crate) const METADATA: &str = "169.254.169.254";
/// The host's own address.
pub(crate) const HOST: &str = "192.0.2.1";
/// The world's name server.
const NAME_SERVER: &str = "192.0.2.53";
/// Bytes that the servers of [`BULK`] send and take.
pub(crate) const BULK_BYTES: usize = 1 << 20;
/// The port on which a world's host sends [`BULK_BYTES`], and the one on which it takes them.
pub(crate) const BULK: (u16, u16) = (81, 82);

/// Asked names, in order.
#[derive(Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    /// All names that the world's server was asked for so far.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a test works with.
pub(crate) struct World {
    pub(crate) asked: Asked,
    pub(crate) cofferdam: Cofferdam,
    resolv_conf: tempfile::NamedTempFile,
    /// The world's namespace.
    namespace: String,
}

/// What every test in a world needs. Without root, packets are carried by a program of the host.
macro_rules! needs_world {
    ($($need:expr),* $(,)?) => {
        $crate::host::needs!(
            $crate::host::Need::Networks,
            $crate::host::Need::Carrier,
            $crate::host::Need::Containers,
            $crate::host::Need::Program("ip"),
            $crate::host::Need::Program("unshare"),
            $crate::host::Need::Program("bash"),
            $($need),*
        )
    };
}
pub(crate) use needs_world;

/// Runs a test on a host in a world.
pub(crate) fn with_world(test: impl FnOnce(&World) + Send + 'static) {
    with_world_of(Cofferdam::common, test);
}

/// As [`with_world`], with a state directory that no other test uses: what one has killed there, the
/// next start clears up on its own host, which would be another test's.
pub(crate) fn with_world_of_its_own(test: impl FnOnce(&World) + Send + 'static) {
    with_world_of(Cofferdam::new, test);
}

fn with_world_of(cofferdam: fn() -> Cofferdam, test: impl FnOnce(&World) + Send + 'static) {
    let host = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        forward_nothing();
        let asked = Asked::default();
        let (ready, world_up) = mpsc::channel();
        let (end, until) = mpsc::channel::<()>();
        let theirs = asked.clone();
        let world = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ready.send(nix::unistd::gettid()).expect("tell the host");
            let begin = until.recv();
            if begin.is_ok() {
                let inside: Vec<String> = [FIRST, PRIVATE, METADATA, SECOND, NAME_SERVER]
                    .iter()
                    .map(|address| format!("addr add {address}/24 dev in0"))
                    .collect();
                ip(&inside.iter().map(String::as_str).collect::<Vec<_>>());
                ip(&["link set lo up", "link set in0 up"]);
                serve(80, "world\n");
                serve(443, "world\n");
                serve_bulk();
                serve_names(theirs);
                ready.send(nix::unistd::gettid()).expect("tell the host");
                // Until the host lets go.
                until.recv().ok();
            }
        });
        let thread = world_up.recv().expect("the world");
        let namespace = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
        ip(&[
            "link set lo up",
            &format!("link add up0 type veth peer name in0 netns {namespace}"),
            &format!("addr add {HOST}/24 dev up0"),
            "link set up0 up",
        ]);
        end.send(()).expect("tell the world");
        world_up.recv().expect("the world");
        ip(&[&format!("route add default via {FIRST}")]);
        serve(8080, "host\n");
        let resolv_conf = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(resolv_conf.path(), format!("nameserver {NAME_SERVER}\n")).expect("write");
        test(&World { asked, cofferdam: cofferdam(), resolv_conf, namespace });
        drop(end);
        world.join().expect("the world");
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

/// New network namespaces take this over from the first one, where an engine may have turned it on.
fn forward_nothing() {
    const SETTING: &str = "/proc/sys/net/ipv4/ip_forward";
    if std::fs::read_to_string(SETTING).expect("the setting").trim() != "0" {
        std::fs::write(SETTING, "0").expect("turn forwarding off");
    }
}

/// Runs `ip` with each of these, in this thread's namespace.
pub(crate) fn ip(commands: &[&str]) {
    for command in commands {
        let output = program("ip").args(command.split(' ')).output().expect("run ip");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {command}: {error}");
    }
}

/// A server that greets and hangs up, on every address of this thread's namespace.
fn serve(port: u16, greeting: &'static str) {
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("listen");
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that does not listen is none of the test's business.
            stream.and_then(|mut stream| stream.write_all(greeting.as_bytes())).ok();
        }
    });
}

fn serve_bulk() {
    let (sends, takes) = BULK;
    let listener = TcpListener::bind(("0.0.0.0", sends)).expect("listen");
    thread::spawn(move || {
        for stream in listener.incoming() {
            stream.and_then(|mut stream| stream.write_all(&vec![0; BULK_BYTES])).ok();
        }
    });
    let listener = TcpListener::bind(("0.0.0.0", takes)).expect("listen");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let taken = stream.and_then(|mut stream| {
                stream.read_exact(&mut vec![0; BULK_BYTES])?;
                stream.write_all(b"taken\n")
            });
            taken.ok();
        }
    });
}

/// Answers every question for the address of a name that ends in `.example`.
fn serve_names(asked: Asked) {
    let socket = UdpSocket::bind((NAME_SERVER, 53)).expect("listen");
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let question = &buffer[12..length];
            let (mut name, mut place) = (String::new(), 0);
            while question[place] != 0 {
                let end = place + 1 + usize::from(question[place]);
                name.push_str(&String::from_utf8_lossy(&question[place + 1..end]));
                name.push('.');
                place = end;
            }
            let mut names = asked.0.lock().unwrap_or_else(PoisonError::into_inner);
            let address: [u8; 4] = match name.as_str() {
                "private.example." => [10, 99, 0, 1],
                // Once a public host, from then on a private one.
                "rebind.example." if names.contains(&name) => [10, 99, 0, 1],
                "other.example." => [192, 0, 2, 10],
                _ => [198, 51, 100, 5],
            };
            let kind = question[place + 2];
            let mut answer = buffer[..12 + place + 5].to_vec();
            let both = name == "both.example." && kind == 28;
            answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(kind == 1 || both)]);
            answer[8..12].fill(0);
            if kind == 1 {
                answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(address);
            }
            if both {
                answer.extend([0xc0, 0x0c, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16]);
                answer.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            }
            names.push(name);
            drop(names);
            socket.send_to(&answer, client).expect("answer");
        }
    });
}

impl World {
    /// Has the world answer this network by way of the host.
    pub(crate) fn route_back(&self, network: &str) {
        let status = program("nsenter")
            .arg(format!("--net={}", self.namespace))
            .args(["ip", "route", "add", network, "via", HOST])
            .status();
        assert!(status.expect("run nsenter").success());
    }

    /// The binary on this host, which uses the world's name server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let plain = self.cofferdam.command(arguments);
        let mut command = program("unshare");
        command.args(["--mount", "sh", "-c"]);
        // A user's power over the test's own networks is not the binary's.
        let dropped = if is_root() { "" } else { "setpriv --ambient-caps=-all --inh-caps=-all --" };
        command.arg(format!("mount --bind \"$0\" /etc/resolv.conf && exec {dropped} \"$@\""));
        command.arg(self.resolv_conf.path()).arg(plain.get_program()).args(plain.get_args());
        command.env_clear();
        for (name, value) in plain.get_envs() {
            command.envs(value.map(|value| (name, value)));
        }
        command.current_dir(plain.get_current_dir().unwrap_or_else(|| Path::new("/")));
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        // So that a test can end it as a whole.
        command.process_group(0);
        command
    }

    /// Starts a script in a container with this network.
    pub(crate) fn start(&self, network: &str, script: &str) -> Child {
        let script = format!("{PROBE}{script}");
        self.command(&["exec", "host", "--network", network, "--", "bash", "-c", &script])
            .spawn()
            .expect("start cofferdam")
    }

    /// Runs a script in a container with this network.
    pub(crate) fn script(&self, network: &str, script: &str) -> Ended {
        wait(self.start(network, script))
    }
}

/// `probe HOST PORT` prints what a server says, `refused`, or `lost` when there was no answer.
const PROBE: &str = r#"
probe() {
    timeout 60 bash -c "exec 3<>/dev/tcp/$1/$2 && cat <&3" 2>/dev/null && return
    [ $? = 124 ] && echo lost || echo refused
}
"#;
