//! What a build shows of itself, on standard error or in the log of a job's step: a line per step,
//! and what programs say.
//!
//! A step that is quick, or was done before, is one line at its end. One that takes longer, or says
//! something, is announced first. On a terminal what is running is at the bottom, with its time. In
//! a log every step is announced, and its programs write to the log themselves.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    log::{
        index::Stream,
        masker::{self, Masker},
        needles::Needles,
        terminal::Sanitizer,
    },
    print,
    report::{
        quantity::{Bytes, Elapsed},
        style::one_line,
    },
};

/// A step that takes longer than this is announced.
pub(super) const ANNOUNCED_AFTER: Duration = Duration::from_millis(300);
/// Characters of an instruction that are shown.
const WIDTH: usize = 100;

/// Shows how builds go.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: Option<MultiProgress>,
    quiet: bool,
    log: Option<(OwnedFd, OwnedFd)>,
    /// What must not be shown; in a log, whoever reads it sees to that.
    needles: Arc<Needles>,
}

impl Progress {
    /// On a terminal with what is running; nothing but failures where `quiet`.
    pub(crate) fn new(quiet: bool, needles: Arc<Needles>) -> Self {
        let is_terminal = io::stderr().is_terminal() && !quiet;
        let bars = || MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { bars: is_terminal.then(bars), quiet, log: None, needles }
    }

    /// In a log, by what is its standard output and its standard error.
    pub(crate) fn in_log(streams: (OwnedFd, OwnedFd)) -> Self {
        Self { bars: None, quiet: false, log: Some(streams), needles: Arc::new(Needles::none()) }
    }

    /// Where programs write by themselves; [`None`] where [`Shown::output`] takes what they write.
    pub(super) fn streams(&self) -> io::Result<Option<(OwnedFd, OwnedFd)>> {
        let Some((stdout, stderr)) = &self.log else { return Ok(None) };
        Ok(Some((stdout.try_clone()?, stderr.try_clone()?)))
    }

    /// Shows a line. A log is written to from another thread: its reader may be a task of this one,
    /// and the pipe may be full.
    async fn say(&self, line: String) {
        let Some((_, log)) = &self.log else { return self.line(&line) };
        let Ok(log) = log.try_clone() else { return };
        let written = tokio::task::spawn_blocking(move || writeln!(File::from(log), "{line}"));
        // Who reads it may have gone; the build goes on all the same.
        written.await.ok();
    }

    /// One step more, such as `[build 2/5]`, and what it does; output beyond `limit` bytes is
    /// dropped.
    pub(super) fn step(&self, label: String, text: &str, limit: u64) -> Shown<'_> {
        let short = shortened(text);
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_message(format!("{label} {short}"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        let masker = || Masker::new(Arc::clone(&self.needles));
        let output = Output {
            maskers: [masker(), masker()],
            streams: [Sanitizer::new(self.bars.is_some()), Sanitizer::new(self.bars.is_some())],
            announced: false,
            left: limit,
            dropped: 0,
        };
        let started = Instant::now();
        Shown { progress: self, label, text: short, bar, started, output: Mutex::new(output) }
    }

    fn line(&self, line: &str) {
        if self.quiet {
            return;
        }
        match &self.bars {
            Some(bars) => bars.suspend(|| print::standard_error(line)),
            None => print::standard_error(line),
        }
    }

    /// Takes what is running away.
    pub(crate) fn finish(&self) {
        if let Some(bars) = &self.bars {
            // Nothing can be done about a terminal that is gone.
            bars.clear().ok();
        }
    }
}

/// As much of an instruction as is shown, on one line.
pub(super) fn shortened(text: &str) -> String {
    let text = one_line(text).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut short: String = text.chars().take(WIDTH).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A step that is being shown.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    progress: &'a Progress,
    label: String,
    text: String,
    bar: Option<ProgressBar>,
    started: Instant,
    output: Mutex<Output>,
}

#[derive(Debug)]
struct Output {
    /// Standard output, standard error.
    maskers: [Masker; 2],
    streams: [Sanitizer; 2],
    announced: bool,
    left: u64,
    dropped: u64,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It was done before.
    Cached,
    /// It is done.
    Done,
    /// It did not get done.
    Failed,
}

impl Shown<'_> {
    /// Says what is going on, once.
    pub(super) fn announce(&self) {
        if self.progress.log.is_some() {
            // It was, when it began.
            return;
        }
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        self.announce_with(&mut output);
    }

    fn announce_with(&self, output: &mut Output) {
        if !std::mem::replace(&mut output.announced, true) {
            self.progress.line(&format!("{} {}", self.label(), self.text));
        }
    }

    /// Says in a log what is going on, before any program does.
    pub(super) async fn begin(&self) {
        if self.progress.log.is_some() {
            self.output.lock().unwrap_or_else(PoisonError::into_inner).announced = true;
            self.progress.say(format!("{} {}", self.label(), self.text)).await;
        }
    }

    fn label(&self) -> String {
        if self.progress.log.is_some() {
            return self.label.clone();
        }
        let style = Style::new().fg_color(Some(AnsiColor::Cyan.into()));
        format!("{style}{}{style:#}", self.label)
    }

    /// What its program said.
    pub(super) fn output(&self, stream: Stream, bytes: &[u8]) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let mut masked = Vec::new();
        let [stdout, stderr] = &mut output.maskers;
        match stream {
            Stream::Stderr => stderr.push(bytes, &mut masked),
            _ => stdout.push(bytes, &mut masked),
        }
        self.show(&mut output, stream, &masked);
    }

    fn show(&self, output: &mut Output, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.announce_with(output);
        let keep = usize::try_from(output.left).unwrap_or(usize::MAX).min(bytes.len());
        output.left -= keep as u64;
        output.dropped += (bytes.len() - keep) as u64;
        let sanitizer = Self::stream(output, stream);
        let kept = bytes.get(..keep).unwrap_or_default();
        sanitizer.push(kept, |line| self.progress.line(&format!("  {line}")));
    }

    fn stream(output: &mut Output, stream: Stream) -> &mut Sanitizer {
        let [stdout, stderr] = &mut output.streams;
        match stream {
            Stream::Stderr => stderr,
            _ => stdout,
        }
    }

    /// Says how it ended.
    pub(super) async fn end(self, ending: Ending) {
        let line = self.last_line(ending);
        self.progress.say(line).await;
    }

    fn last_line(&self, ended: Ending) -> String {
        let label = self.label();
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            let mut masked = Vec::new();
            let ending = match ended {
                Ending::Failed => masker::Ending::Cut,
                Ending::Cached | Ending::Done => masker::Ending::Closed,
            };
            if let Some(masker) = output.maskers.get_mut(number) {
                masker.finish(ending, &mut masked);
            }
            self.show(&mut output, stream, &masked);
        }
        for sanitizer in &mut output.streams {
            sanitizer.flush(|line| self.progress.line(&format!("  {line}")));
        }
        if output.dropped > 0 {
            let dropped = Bytes(output.dropped);
            self.progress.line(&format!("  ({dropped} of output dropped: `--log-limit`)"));
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let time = Elapsed(self.started.elapsed());
        let how = match ended {
            Ending::Cached => "cached".to_owned(),
            Ending::Done => format!("{time}"),
            Ending::Failed => format!("failed after {time}"),
        };
        let how = match self.progress.log {
            Some(_) => how,
            None => {
                let dim = Style::new().dimmed();
                format!("{dim}{how}{dim:#}")
            }
        };
        match output.announced {
            true => format!("{label} {how}"),
            false => format!("{label} {}  {how}", self.text),
        }
    }
}
