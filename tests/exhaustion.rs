//! What the kernel keeps for a job beside its processes, memory and files (A1.20, A1.28): each is bounded,
//! and what one container uses up is nobody else's.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Stdio},
};

use crate::{
    binary::{Cofferdam, program, wait},
    host::{Need, is_root, needs},
};

/// Takes as many of something as it gets, of 1000, says how many, and holds them until it hears.
fn hog(taking: &str) -> String {
    format!("$| = 1; $n = 0; while ($n < 1000 && {taking}) {{ $n++ }} print \"$n\\n\"; <STDIN>")
}

/// How many containers use up theirs at once: of root, more than would leave root something if all of it
/// were root's. An unprivileged user has made all of their containers, so one of them only.
fn containers() -> usize {
    if is_root() { 5 } else { 1 }
}

/// A container that takes what it gets of something, and holds it.
struct Hog {
    child: Child,
    taken: u32,
}

impl Hog {
    fn start(taking: &str) -> Self {
        let arguments = ["exec", "host", "-i", "--", "perl", "-e", &hog(taking)];
        let mut command = Cofferdam::common().command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start cofferdam");
        let mut said = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut said).expect("a line");
        Self { child, taken: said.trim().parse().expect("a number") }
    }

    fn end(mut self) {
        self.child.stdin.take().expect("its input").write_all(b"\n").expect("tell it");
        wait(self.child);
    }
}

/// Each of several containers gets as many as the first and no more than `most`, and another, and the host,
/// can have some meanwhile.
#[track_caller]
fn check(taking: &str, most: std::ops::RangeInclusive<u32>) {
    let hogs: Vec<Hog> = (0..containers()).map(|_| Hog::start(taking)).collect();
    let one = format!("print(({taking}) ? 'one' : 'none')");
    let another = Cofferdam::common().run(["exec", "host", "--", "perl", "-e", &one]);
    let of_host = program("perl").args(["-e", &one]).output().expect("run perl");
    let taken: Vec<u32> = hogs.iter().map(|hog| hog.taken).collect();
    hogs.into_iter().for_each(Hog::end);
    let same = taken.windows(2).all(|pair| pair[0] == pair[1]);
    assert!(same && most.contains(&taken[0]), "{taken:?} of `{taking}`");
    assert_eq!(another.stdout, "one", "{}", another.text());
    assert_eq!(String::from_utf8_lossy(&of_host.stdout), "one", "on the host");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn inotify_instances() {
    needs!(Need::Containers, Need::Program("perl"));
    // inotify_init1
    check("syscall(294, 0) >= 0", 1..=32);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn message_queues() {
    needs!(Need::Containers, Need::Program("perl"));
    // mq_open with O_CREAT | O_RDWR, of the default size, and mq_unlink, which leaves it to who has it open.
    let queue = "do { $q = \"cofferdam-$$-\" . $n++; $o = syscall(240, $q, 0102, 0600, 0); $n--; \
                 syscall(241, $q); $o >= 0 }";
    check(queue, 1..=2);
}

#[test]
fn terminals() {
    needs!(Need::Containers, Need::Program("perl"));
    check("open($t[$n], '+<', '/dev/ptmx')", 1..=64);
}

/// What is in pipes is memory like any other.
#[test]
fn pipes() {
    needs!(Need::Containers, Need::Program("perl"));
    let fill = "for $n (0 .. 999) { pipe $r[$n], $w[$n] or last; syswrite $w[$n], 'x' x 65536 } print 'held'";
    let flags = ["exec", "host", "--memory", "24MiB", "--", "perl", "-e", fill];
    Cofferdam::common().run(flags).expect(137).says(&["memory", "24 MiB"]);
}
