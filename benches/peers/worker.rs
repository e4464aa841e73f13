//! Subjects that live in a process of their own for the whole run, and are told over a pipe what to
//! do: the floor, and Cofferdam as a library.
//!
//! A worker is this very program, started again before it has threads. It gets lines `each N`,
//! `arrivals N` or `at-once N`, and answers with the nanoseconds that each took, in one line.

use std::{
    error::Error,
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What a worker may be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// So many, one after the other.
    Each(usize),
    /// So many, one every 20 ms: the time from the request to the program's first instruction.
    Arrivals(usize),
    /// So many in all, eight at once: one time for all of them.
    AtOnce(usize),
}

impl Order {
    fn parse(line: &str) -> Option<Self> {
        let (what, count) = line.split_once(' ')?;
        let count = count.parse().ok()?;
        match what {
            "each" => Some(Self::Each(count)),
            "arrivals" => Some(Self::Arrivals(count)),
            "at-once" => Some(Self::AtOnce(count)),
            _ => None,
        }
    }
}

/// Does what stdin says until it ends.
pub(crate) fn serve(mut work: impl FnMut(Order) -> Result<Vec<Duration>>) -> Result<()> {
    for line in io::stdin().lines() {
        let line = line?;
        let order = Order::parse(&line).ok_or_else(|| format!("no order: `{line}`"))?;
        let times: Vec<String> =
            work(order)?.iter().map(|time| time.as_nanos().to_string()).collect();
        writeln!(io::stdout(), "{}", times.join(" "))?;
    }
    Ok(())
}

/// A worker, as its owner sees it. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    #[expect(clippy::disallowed_methods, reason = "this program itself")]
    pub(crate) fn start(name: &str, directory: &Path) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["worker", name])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let orders = Some(child.stdin.take().ok_or_else(missing)?);
        let answers = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Self { child, orders, answers })
    }

    pub(crate) fn order(&mut self, order: Order) -> Result<Vec<Duration>> {
        let line = match order {
            Order::Each(count) => format!("each {count}\n"),
            Order::Arrivals(count) => format!("arrivals {count}\n"),
            Order::AtOnce(count) => format!("at-once {count}\n"),
        };
        if let Some(orders) = &mut self.orders {
            orders.write_all(line.as_bytes())?;
        }
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err("a worker ended; what it said is above".into());
        }
        let times = answer.split_whitespace().map(|time| Ok(Duration::from_nanos(time.parse()?)));
        times.collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders = None;
        self.child.wait().ok();
    }
}
