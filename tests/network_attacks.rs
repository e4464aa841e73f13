//! What hostile code tries from inside of an allow list, each by itself: refused at once, and told.
//!
//! One listed name, at one port; everything else is the attack. The world is the tests' own.

use crate::{
    binary::wait,
    host::Need,
    world::{FIRST, HOST, METADATA, PRIVATE, World, needs_world, with_world},
};

/// Attempts in Perl, which has the system calls at hand. Each prints a name and how it went.
const ATTEMPTS: &str = r#"
use strict; use Socket qw(:all); use Errno; $| = 1;
my %short = (Errno::ECONNREFUSED() => "refused", Errno::EPERM() => "not permitted",
    Errno::EACCES() => "not permitted", Errno::EHOSTUNREACH() => "unreachable",
    Errno::ENETUNREACH() => "unreachable", Errno::EAFNOSUPPORT() => "no such family",
    Errno::EPROTONOSUPPORT() => "no such protocol", Errno::ESOCKTNOSUPPORT() => "no such type");
sub short { $short{$! + 0} // "error $!" }
sub made { my ($what, @kind) = @_; print "$what: ", (socket(my $s, $kind[0], $kind[1], $kind[2]) ? "MADE" : short()), "\n" }
# Sends a datagram, and waits for the refusal to come back.
sub sent {
    my ($what, $address, $port, $protocol) = @_;
    socket(my $s, PF_INET, SOCK_DGRAM, $protocol // 0) or return print "$what: ", short(), "\n";
    setsockopt($s, SOL_SOCKET, SO_BROADCAST, 1);
    connect($s, pack_sockaddr_in($port, inet_aton($address))) or return print "$what: ", short(), "\n";
    my $message = defined $protocol ? pack("CCnnn", 8, 0, 0xf7ff, 0, 0) : "hello";
    send($s, $message, 0) or return print "$what: ", short(), "\n";
    vec(my $ready = "", fileno($s), 1) = 1;
    select($ready, undef, undef, 3) or return print "$what: no answer\n";
    print "$what: ", (defined recv($s, my $answer, 512, 0) ? "ANSWERED" : short()), "\n";
}
sub connected {
    my ($what, $address, $port) = @_;
    my $six = $address =~ /:/;
    socket(my $s, $six ? PF_INET6 : PF_INET, SOCK_STREAM, 0) or return print "$what: ", short(), "\n";
    my $to = $six ? pack_sockaddr_in6($port, inet_pton(AF_INET6, $address), $address =~ /^fe80/ ? 2 : 0) : pack_sockaddr_in($port, inet_aton($address));
    print "$what: ", (connect($s, $to) ? "CONNECTED" : short()), "\n";
}
"#;

/// Runs attempts in a container that may reach `listed.example:443`; each line is what one came to.
#[track_caller]
fn check(world: &World, attempts: &str, expect: &[&str]) -> Vec<(String, Option<u64>)> {
    let outcome = tempfile::NamedTempFile::new().expect("a file");
    let json = outcome.path().to_str().expect("a path").to_owned();
    let script = format!("{ATTEMPTS}{attempts}");
    let command = ["exec", "host", "--json", &json, "--network", "listed.example:443", "--"];
    let arguments = [&command[..], &["perl", "-e", &script]].concat();
    let ended = wait(world.command(&arguments).spawn().expect("start")).expect(0);
    let found: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(found, expect, "{}", ended.stderr);
    let outcome: serde_json::Value =
        serde_json::from_slice(&std::fs::read(outcome.path()).expect("an outcome")).expect("JSON");
    let denied = outcome["network"]["denied"].as_array().into_iter().flatten();
    denied
        .map(|each| (each["host"].as_str().expect("a host").to_owned(), each["port"].as_u64()))
        .collect()
}

/// A1.18: sockets that make packets by themselves, for false sources, ARP and other protocols, or
/// that change the filter.
#[test]
fn packets_of_its_own_making() {
    needs_world!(Need::Program("perl"));
    with_world(|world| {
        let attempts = r#"
            made("raw IPv4", PF_INET, SOCK_RAW, 1);
            made("raw IPv6", PF_INET6, SOCK_RAW, 58);
            made("raw IP header", PF_INET, SOCK_RAW, 255);
            made("packet", 17, SOCK_RAW, 0x0003);
            made("packet datagram", 17, SOCK_DGRAM, 0x0608);
            made("netfilter", 16, SOCK_RAW, 12);
            made("SCTP", PF_INET, SOCK_STREAM, 132);
            made("virtual machine", 40, SOCK_STREAM, 0);
            print `ip neigh replace 10.213.64.1 lladdr 02:00:00:00:00:01 dev eth0 2>&1`;
            print `ip addr add 192.0.2.10/32 dev eth0 2>&1`;
            print `ip route replace default dev eth0 2>&1`;
            print `tc qdisc del dev eth0 root 2>&1`;
        "#;
        let refused = "RTNETLINK answers: Operation not permitted";
        let expect = [
            "raw IPv4: no such family",
            "raw IPv6: no such family",
            "raw IP header: no such family",
            "packet: no such family",
            "packet datagram: no such family",
            "netfilter: no such family",
            "SCTP: no such family",
            "virtual machine: no such family",
            refused,
            refused,
            refused,
            refused,
        ];
        check(world, attempts, &expect);
    });
}

/// A1.18, A1.19: by datagram, echo request, broadcast and multicast, and to other name servers.
#[test]
fn without_a_connection() {
    needs_world!(Need::Program("perl"));
    with_world(|world| {
        let attempts = format!(
            r#"
            sent("QUIC", "{FIRST}", 443);
            sent("names", "192.0.2.53", 53);
            connected("names by stream", "192.0.2.53", 53);
            sent("echo", "{FIRST}", 0, 1);
            sent("broadcast", "255.255.255.255", 67);
            sent("multicast", "224.0.0.251", 5353);
            sent("metadata", "{METADATA}", 80);
            "#
        );
        let denied = check(
            world,
            &attempts,
            &[
                "QUIC: refused",
                "names: refused",
                "names by stream: refused",
                "echo: unreachable",
                // Nobody may answer these, a refusal included; the second goes nowhere by itself.
                "broadcast: no answer",
                "multicast: no answer",
                "metadata: refused",
            ],
        );
        for each in [
            (FIRST, Some(443)),
            ("192.0.2.53", Some(53)),
            (FIRST, None),
            (METADATA, Some(80)),
            ("255.255.255.255", Some(67)),
        ] {
            assert!(denied.contains(&(each.0.to_owned(), each.1)), "{each:?} in {denied:?}");
        }
    });
}

/// A1.18, A1.19: addresses instead of names, of either family, near and far.
#[test]
fn by_address() {
    needs_world!(Need::Program("perl"));
    with_world(|world| {
        let attempts = format!(
            r#"
            my ($gateway) = `ip -4 route show default` =~ /via (\S+)/;
            connected("gateway", $gateway, 8080);
            connected("host", "{HOST}", 8080);
            connected("far", "{FIRST}", 443);
            connected("private", "{PRIVATE}", 80);
            connected("metadata", "{METADATA}", 80);
            connected("another container", "10.213.64.14", 80);
            connected("IPv6", "2001:db8::1", 443);
            connected("IPv6 near", "fe80::1", 443);
            connected("IPv6 metadata", "fd00:ec2::254", 80);
            connected("IPv4 in IPv6", "::ffff:{FIRST}", 443);
            connected("NAT64", "64:ff9b::c000:20a", 443);
            "#
        );
        let denied = check(
            world,
            &attempts,
            &[
                "gateway: refused",
                "host: refused",
                "far: refused",
                "private: refused",
                "metadata: refused",
                "another container: refused",
                "IPv6: unreachable",
                "IPv6 near: unreachable",
                "IPv6 metadata: unreachable",
                "IPv4 in IPv6: refused",
                "NAT64: unreachable",
            ],
        );
        for each in [(HOST, 8080), (FIRST, 443), (PRIVATE, 80), (METADATA, 80)] {
            assert!(denied.contains(&(each.0.to_owned(), Some(each.1))), "{each:?} in {denied:?}");
        }
    });
}

/// A1.19: a listed name whose owner first points it at a public host, and then at a private one.
#[test]
fn a_name_that_changes_its_mind() {
    needs_world!(Need::Program("perl"));
    with_world(|world| {
        let script = format!(
            "for it in 1 2; do probe rebind.example 443; done; probe {PRIVATE} 443; \
             getent ahostsv4 rebind.example | head -n 1 | cut -d' ' -f 1; exit 7"
        );
        let ended = world.script("rebind.example:443", &script).expect(7);
        assert_eq!(
            ended.stdout,
            format!("world\nrefused\nrefused\n{PRIVATE}\n"),
            "{}",
            ended.stderr
        );
        let sentence = "to reach rebind.example:443, not in the allow list";
        assert!(ended.stderr.contains(sentence), "{}", ended.text());
    });
}

/// A1.20: the host's table of connections, which all networks share, is not a container's to fill.
#[test]
fn connections_of_the_host() {
    needs_world!(Need::Root, Need::Program("perl"));
    with_world(|world| {
        // The test's own host, which had none before.
        let connections = || -> usize {
            let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
            count.expect("a count").trim().parse().expect("a number")
        };
        let before = connections();
        let flood = format!(
            "perl -MSocket -e 'socket(my $s, PF_INET, SOCK_DGRAM, 0) or die; my $n = 0; \
             for (10000 .. 19999) {{ send($s, \"x\", 0, sockaddr_in($_, inet_aton(\"{FIRST}\"))) and $n++ }} \
             print $n > 5000 ? \"sent\" : $n'"
        );
        let ended = world.script("full", &flood).expect(0);
        assert_eq!(ended.stdout, "sent", "{}", ended.stderr);
        let after = connections();
        assert!(after <= before + 4096, "{before} connections before, {after} after");
    });
}
