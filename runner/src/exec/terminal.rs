//! `exec --tty`: the command gets a terminal of its own, and this one is connected to it.

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, OwnedFd},
};

use cofferdam_sandbox::{Container, End, Streams};
use nix::sys::termios::{self, SetArg, Termios};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    signal::unix::{SignalKind, signal},
};

use super::{Description, Wait, start};
use crate::{
    exit::Exit,
    log::masker::{Ending, Masker},
    problem::Problem,
    supervise::{Ended, Interrupts, LAST_WORDS},
};

/// Size of a terminal that cannot be asked.
const USUAL_SIZE: (u16, u16) = (24, 80);

/// This terminal in raw mode, set back when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to set back.
        termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0).ok();
    }
}

/// Runs the command on a terminal until it ends.
pub(super) async fn run(
    container: &Container,
    description: &Description,
    interrupts: &mut Interrupts,
) -> Result<(Ended, End), Problem> {
    let problem = |error: io::Error| {
        Problem::new(Exit::NotStarted, "failed to connect the terminal").because(error)
    };
    let (rows, columns) = size();
    let mut process = start(container, description, Streams::Terminal { rows, columns }).await?;
    let master = process
        .terminal
        .as_ref()
        .ok_or_else(|| io::Error::other("the container gave none"))
        .and_then(|master| master.as_fd().try_clone_to_owned())
        .map_err(problem)?;
    // As with any program, input comes from a terminal or a pipe, and only a terminal goes raw.
    let raw = io::stdin().is_terminal().then(Raw::enter).transpose().map_err(problem)?;
    pass_input(&master).map_err(problem)?;
    let mut resized = signal(SignalKind::window_change()).map_err(problem)?;
    let mut reader = tokio::fs::File::from_std(master.into());
    let mut stdout = tokio::io::stdout();
    let mut masker = Masker::new(description.needles.clone());
    let mut wait = Wait::new(description.container.limits.timeout);
    let mut buffer = vec![0; 16 * 1024];
    let mut masked = Vec::new();
    let mut open = true;
    let ended = loop {
        tokio::select! {
            ended = wait.next(container, &mut process, interrupts) => {
                if let Some(ended) = ended? {
                    break ended;
                }
            }
            // EIO is how a terminal says that its other side is closed.
            read = reader.read(&mut buffer), if open => match read {
                Ok(read @ 1..) => {
                    masked.clear();
                    masker.push(buffer.get(..read).unwrap_or_default(), &mut masked);
                    stdout.write_all(&masked).await.map_err(problem)?;
                    stdout.flush().await.map_err(problem)?;
                }
                Ok(0) | Err(_) => open = false,
            },
            _ = resized.recv() => {
                let (rows, columns) = size();
                container.resize(&process, rows, columns)?;
            }
        }
    };
    let end = container.stop().await?;
    let deadline = tokio::time::Instant::now() + LAST_WORDS;
    while open
        && let Ok(Ok(read @ 1..)) =
            tokio::time::timeout_at(deadline, reader.read(&mut buffer)).await
    {
        masked.clear();
        masker.push(buffer.get(..read).unwrap_or_default(), &mut masked);
        stdout.write_all(&masked).await.map_err(problem)?;
    }
    masked.clear();
    masker.finish(Ending::Closed, &mut masked);
    stdout.write_all(&masked).await.map_err(problem)?;
    stdout.flush().await.map_err(problem)?;
    drop(raw);
    Ok((ended, end))
}

/// Copies what is typed to the command's terminal. The thread dies with the process.
fn pass_input(master: &OwnedFd) -> io::Result<()> {
    let target = master.try_clone()?;
    super::show::pass_input(target);
    Ok(())
}

fn size() -> (u16, u16) {
    terminal_size::terminal_size().map_or(USUAL_SIZE, |(columns, rows)| (rows.0, columns.0))
}
