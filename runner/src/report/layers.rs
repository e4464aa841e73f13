//! The layers of an image on their way into the store: a bar each on a terminal, lines elsewhere.

use std::{
    io::IsTerminal as _,
    ops::ControlFlow,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cofferdam_sandbox::image::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::quantity::{Bytes, count};
use crate::print;

/// Shows how far the layers of one image are.
#[derive(Debug)]
pub(crate) struct Layers {
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Bars { all: MultiProgress, title: ProgressBar, bars: Mutex<Vec<ProgressBar>> },
    Lines { what: String, layers: Mutex<Vec<u64>> },
}

/// Bars that a terminal has room for; further layers are counted in the title.
const BARS: usize = 16;

impl Layers {
    /// `what` is being done, such as "pulling debian:12". Where results go to standard output as
    /// JSON, no lines are printed between.
    pub(crate) fn new(what: &str, json: bool) -> Self {
        let shown = if std::io::stderr().is_terminal() {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let title = all.add(ProgressBar::new_spinner().with_style(style("{spinner} {msg}")));
            title.set_message(what.to_owned());
            title.enable_steady_tick(Duration::from_millis(100));
            Shown::Bars { all, title, bars: Mutex::default() }
        } else if json {
            Shown::Nothing
        } else {
            Shown::Lines { what: what.to_owned(), layers: Mutex::default() }
        };
        Self { shown }
    }

    /// Shows nothing.
    pub(crate) fn silent() -> Self {
        Self { shown: Shown::Nothing }
    }

    /// Takes one event, from any thread.
    pub(crate) fn tell(&self, event: Progress) -> ControlFlow<()> {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bars { all, title, bars } => draw(all, title, &mut lock(bars), event),
            Shown::Lines { what, layers } => line(what, &mut lock(layers), event),
        }
        ControlFlow::Continue(())
    }

    /// Takes the bars away.
    pub(crate) fn finish(&self) {
        if let Shown::Bars { all, title, bars } = &self.shown {
            title.finish_and_clear();
            lock(bars).iter().for_each(ProgressBar::finish_and_clear);
            // Nothing can be done about a terminal that is gone.
            all.clear().ok();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("━╸─")
}

fn draw(all: &MultiProgress, title: &ProgressBar, bars: &mut Vec<ProgressBar>, event: Progress) {
    let bar = |layer: usize| bars.get(layer);
    match event {
        Progress::Layers { count } => {
            let width = count.to_string().len();
            for number in 1..=count.min(BARS) {
                let bar = all.add(ProgressBar::new(0).with_style(style("  {prefix} {msg}")));
                bar.set_prefix(format!("{number:>width$}/{count}"));
                bar.set_message("waiting");
                bars.push(bar);
            }
            if count > BARS {
                title.set_message(format!("{} ({count} layers)", title.message()));
            }
        }
        Progress::Present { layer } => {
            if let Some(bar) = bar(layer) {
                bar.finish_with_message("here already");
            }
        }
        Progress::Read { layer, bytes, total } => {
            if let Some(bar) = bar(layer) {
                if bar.length() != Some(total) {
                    bar.set_length(total);
                    bar.set_style(style(
                        "  {prefix} {bar:24} {binary_bytes:>11} of {binary_total_bytes} {binary_bytes_per_sec:>13}",
                    ));
                }
                bar.inc(bytes);
            }
        }
        Progress::Unpacked { layer } => {
            if let Some(bar) = bar(layer) {
                bar.set_style(style("  {prefix} {msg}"));
                bar.finish_with_message("unpacked");
            }
        }
    }
}

fn line(what: &str, layers: &mut Vec<u64>, event: Progress) {
    match event {
        Progress::Layers { count: number } => {
            layers.resize(number, 0);
            print::standard_error(format_args!("{what}: {}", count(number as u64, "layer")));
        }
        Progress::Present { layer } => {
            let of = layers.len();
            print::standard_error(format_args!("{what}: layer {}/{of} is here", layer + 1));
        }
        Progress::Read { layer, bytes, .. } => {
            if let Some(read) = layers.get_mut(layer) {
                *read += bytes;
            }
        }
        Progress::Unpacked { layer } => {
            let (read, of) = (layers.get(layer).copied().unwrap_or_default(), layers.len());
            let read = Bytes(read);
            print::standard_error(format_args!(
                "{what}: layer {}/{of} unpacked, {read}",
                layer + 1
            ));
        }
    }
}
