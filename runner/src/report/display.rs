//! What a person sees while a run goes on: plain lines, or on a terminal a line per running job
//! with the output above.
//!
//! The executor tells what happens as [`Event`]s and knows nothing of terminals. Output comes as
//! masked bytes; here it is cut into lines, cleaned, and printed a whole line at a time, so that
//! jobs never write into each other's lines.

mod echo;

use std::{
    fmt::Write as _,
    io::{self, Write},
    mem,
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use unicode_width::UnicodeWidthStr as _;

use super::{
    quantity::{Elapsed, count},
    record::Conclusion,
    style::{Paint, fit, one_line, pad},
};
use crate::log::{index::Stream, terminal::Sanitizer};
pub(crate) use echo::ControlEchoOff;

/// Columns that the names of jobs may take before their output.
const NAME_WIDTH_MAX: usize = 24;
/// Bytes that stay allocated for the text of the next event.
const TEXT_KEPT: usize = 256 * 1024;

/// Something that happened. Jobs are told by their place in the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    /// The run begins.
    RunStarted {
        /// The run's id.
        run: &'a str,
        /// The names of all jobs, in the order of the plan.
        jobs: &'a [&'a str],
    },
    /// A job has to wait although its needs are met.
    JobQueued {
        /// The job.
        job: usize,
        /// For what it waits.
        reason: &'a str,
    },
    /// A job's container is being put up.
    JobStarted {
        /// The job.
        job: usize,
        /// How many steps it has.
        steps: usize,
    },
    /// A step was started.
    StepStarted {
        /// Its job.
        job: usize,
        /// Its number, from 1.
        number: usize,
        /// Its name.
        name: &'a str,
    },
    /// A step wrote something, masked.
    Output {
        /// Its job.
        job: usize,
        /// To which stream.
        stream: Stream,
        /// What.
        bytes: &'a [u8],
    },
    /// A step is over.
    StepEnded {
        /// Its job.
        job: usize,
        /// How it ended.
        conclusion: Conclusion,
        /// Why it did not pass.
        why: Option<&'a str>,
    },
    /// A job is over, or will not be run.
    JobEnded {
        /// The job.
        job: usize,
        /// How it ended.
        conclusion: Conclusion,
        /// How long it took.
        elapsed: Duration,
        /// Why it did not pass.
        why: Option<&'a str>,
    },
    /// The user has asked for the end.
    Stopping,
    /// The run is over; nothing follows but the summary.
    RunEnded,
}

/// Shows the events of one run.
#[derive(Debug)]
pub(crate) struct Display {
    sink: Sink,
    paint: Paint,
    jobs: Vec<Job>,
    name_width: usize,
    /// Empty; what is shown of an event is put together here.
    text: String,
}

#[derive(Debug)]
struct Job {
    name: String,
    steps: usize,
    stdout: Sanitizer,
    stderr: Sanitizer,
    /// The last reason that a step gave.
    told: Option<String>,
    line: Option<ProgressBar>,
}

enum Sink {
    Plain(Box<dyn Write + Send>),
    Live { lines: MultiProgress, total: ProgressBar, _echo: Option<ControlEchoOff> },
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Live { .. } => "Live",
        })
    }
}

impl Display {
    /// Prints plain lines, as logs of other systems and pipes want them.
    pub(crate) fn plain(output: Box<dyn Write + Send>, colour: bool) -> Self {
        Self::new(Sink::Plain(output), colour)
    }

    /// Shows progress on a terminal. Nothing else may write there until [`Event::RunEnded`].
    pub(crate) fn live(
        terminal: ProgressDrawTarget,
        colour: bool,
        echo: Option<ControlEchoOff>,
    ) -> Self {
        let lines = MultiProgress::with_draw_target(terminal);
        Self::new(Sink::Live { lines, total: ProgressBar::hidden(), _echo: echo }, colour)
    }

    fn new(sink: Sink, colour: bool) -> Self {
        Self { sink, paint: Paint { colour }, jobs: Vec::new(), name_width: 0, text: String::new() }
    }

    /// Moves the spinners and clocks; to be called some ten times a second on a terminal.
    pub(crate) fn tick(&self) {
        if let Sink::Live { total, .. } = &self.sink {
            self.jobs.iter().filter_map(|job| job.line.as_ref()).for_each(ProgressBar::tick);
            total.tick();
        }
    }

    /// Shows what happened. Fails where the output does, such as on a closed pipe.
    pub(crate) fn show(&mut self, event: Event<'_>) -> io::Result<()> {
        let mut text = mem::take(&mut self.text);
        self.draw(event);
        match event {
            Event::RunStarted { run, jobs } => {
                let jobs = count(number(jobs.len()), "job");
                // Writing into a string cannot fail.
                let _ = writeln!(text, "run {run}: {jobs}");
            }
            Event::JobQueued { job, reason } => self.say(job, &one_line(reason), &mut text),
            // Whoever has a terminal can ask a second time.
            Event::Stopping if matches!(self.sink, Sink::Live { .. }) => {
                text.push_str("stopping: cleanup steps still run; ^C once more kills at once\n");
            }
            Event::JobStarted { .. } | Event::Stopping | Event::RunEnded => {}
            Event::StepStarted { job, number, name } => {
                let steps = self.jobs.get(job).map_or(0, |job| job.steps);
                let step = format!("step {number}/{steps} {}", one_line(name));
                self.say(job, &step, &mut text);
            }
            Event::Output { job, stream, bytes } => {
                self.output(job, stream, |sanitizer, show| sanitizer.push(bytes, show), &mut text);
            }
            Event::StepEnded { job, conclusion, why } => {
                for stream in [Stream::Stdout, Stream::Stderr] {
                    self.output(job, stream, |sanitizer, show| sanitizer.flush(show), &mut text);
                }
                if let Some(job) = self.jobs.get_mut(job) {
                    // Colours of one step are not those of the next.
                    job.stdout = Sanitizer::new(self.paint.colour);
                    job.stderr = Sanitizer::new(self.paint.colour);
                }
                if let Some(why) = why
                    && conclusion != Conclusion::Passed
                {
                    let what = self.paint.conclusion(&one_line(why), conclusion);
                    self.say(job, &what, &mut text);
                    if let Some(job) = self.jobs.get_mut(job) {
                        job.told = Some(why.to_owned());
                    }
                }
            }
            Event::JobEnded { job, conclusion, elapsed, why } => {
                let told = self.jobs.get(job).and_then(|job| job.told.as_deref()) == why;
                let took = match conclusion {
                    Conclusion::Skipped => String::new(),
                    _ => format!(" after {}", Elapsed(elapsed)),
                };
                // What the step has said already need not be said again.
                let what = match why {
                    Some(why) if !told => one_line(why),
                    _ => format!("{}{took}", conclusion.word()),
                };
                self.say(job, &self.paint.conclusion(&what, conclusion), &mut text);
            }
        }
        let printed = self.print(&text);
        text.clear();
        text.shrink_to(TEXT_KEPT);
        self.text = text;
        printed
    }

    /// A line about a job.
    fn say(&self, index: usize, what: &str, text: &mut String) {
        let Some(job) = self.jobs.get(index) else { return };
        text.push_str(&self.paint.job(&job.name, index));
        text.push_str(": ");
        text.push_str(what);
        text.push('\n');
    }

    /// The lines that a job's output completes. Standard error has a broken bar, so that the two
    /// can be told apart without colour.
    fn output(
        &mut self,
        index: usize,
        stream: Stream,
        feed: impl FnOnce(&mut Sanitizer, &mut dyn FnMut(&str)),
        text: &mut String,
    ) {
        let Some(job) = self.jobs.get_mut(index) else { return };
        let (sanitizer, bar) = match stream {
            Stream::Stderr => (&mut job.stderr, "¦"),
            Stream::Stdout | Stream::Note => (&mut job.stdout, "|"),
        };
        let name = pad(&fit(&job.name, self.name_width), self.name_width);
        let prefix = format!("{} {bar} ", self.paint.job(&name, index));
        feed(sanitizer, &mut |line: &str| {
            text.push_str(&prefix);
            text.push_str(line);
            text.push('\n');
        });
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match &mut self.sink {
            Sink::Plain(output) => {
                output.write_all(text.as_bytes())?;
                output.flush()
            }
            Sink::Live { lines, .. } => lines.println(text.trim_end_matches('\n')),
        }
    }

    /// Keeps the jobs and their lines on the terminal up to date.
    fn draw(&mut self, event: Event<'_>) {
        match event {
            Event::RunStarted { jobs, .. } => self.begin(jobs),
            Event::JobStarted { job, steps } => {
                let Some(job) = self.jobs.get_mut(job) else { return };
                job.steps = steps;
                if let Sink::Live { lines, total, .. } = &self.sink {
                    let line = lines.insert_before(total, ProgressBar::new_spinner());
                    line.set_style(style("{spinner} {prefix} {wide_msg} {elapsed} "));
                    line.set_prefix(pad(&fit(&job.name, self.name_width), self.name_width));
                    line.set_message("starting");
                    job.line = Some(line);
                }
            }
            Event::StepStarted { job, number, name } => {
                let Some(job) = self.jobs.get(job) else { return };
                if let Some(line) = &job.line {
                    line.set_message(format!("{number}/{} {}", job.steps, one_line(name)));
                }
            }
            Event::JobEnded { job, .. } => {
                let Some(job) = self.jobs.get_mut(job) else { return };
                let line = job.line.take();
                if let Sink::Live { lines, total, .. } = &self.sink {
                    if let Some(line) = line {
                        line.finish_and_clear();
                        lines.remove(&line);
                    }
                    total.inc(1);
                }
            }
            Event::RunEnded => {
                if let Sink::Live { total, .. } = &self.sink {
                    for job in &mut self.jobs {
                        job.line.take().inspect(ProgressBar::finish_and_clear);
                    }
                    total.finish_and_clear();
                }
            }
            Event::JobQueued { .. }
            | Event::Output { .. }
            | Event::StepEnded { .. }
            | Event::Stopping => {}
        }
    }

    fn begin(&mut self, jobs: &[&str]) {
        let colour = self.paint.colour;
        self.jobs = jobs
            .iter()
            .map(|name| Job {
                name: one_line(name),
                steps: 0,
                stdout: Sanitizer::new(colour),
                stderr: Sanitizer::new(colour),
                told: None,
                line: None,
            })
            .collect();
        let widest = self.jobs.iter().map(|job| job.name.width()).max().unwrap_or_default();
        self.name_width = widest.min(NAME_WIDTH_MAX);
        if let Sink::Live { lines, total, .. } = &mut self.sink {
            *total = lines.add(ProgressBar::new(number(jobs.len())));
            total.set_style(style("[{bar:30}] {pos}/{len} jobs {elapsed}"));
        }
    }
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn style(template: &str) -> ProgressStyle {
    // A template that does not parse would show the default, which is no reason to stop a run.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests;
