//! The layers of images on their way into the store: a bar each on a terminal, lines elsewhere.

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

/// Shows how far images are that are pulled or imported, one or several at once.
#[derive(Debug)]
pub(crate) struct Pulls {
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Nothing,
    Bars(MultiProgress),
    Lines,
}

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

impl Pulls {
    /// Bars on a terminal, lines elsewhere, and nothing where `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let how = if std::io::stderr().is_terminal() && !quiet {
            How::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
        } else if quiet {
            How::Nothing
        } else {
            How::Lines
        };
        Self { how }
    }

    /// One image more, which is being pulled.
    pub(crate) fn image(&self, name: &str) -> Layers {
        self.begin(&format!("pulling {name}"))
    }

    /// One more thing that is done with layers, such as "importing debian:12".
    pub(crate) fn begin(&self, what: &str) -> Layers {
        let shown = match &self.how {
            How::Nothing => Shown::Nothing,
            How::Lines => Shown::Lines { what: what.to_owned(), layers: Mutex::default() },
            How::Bars(all) => {
                let title =
                    all.add(ProgressBar::new_spinner().with_style(style("{spinner} {msg}")));
                title.set_message(what.to_owned());
                title.enable_steady_tick(Duration::from_millis(100));
                Shown::Bars { all: all.clone(), title, bars: Mutex::default() }
            }
        };
        Layers { shown }
    }

    /// Takes the bars away.
    pub(crate) fn finish(&self) {
        if let How::Bars(all) = &self.how {
            // Nothing can be done about a terminal that is gone.
            all.clear().ok();
        }
    }
}

impl Layers {
    /// Takes one event, from any thread.
    pub(crate) fn tell(&self, event: Progress) -> ControlFlow<()> {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bars { all, title, bars } => draw(all, title, &mut lock(bars), event),
            Shown::Lines { what, layers } => line(what, &mut lock(layers), event),
        }
        ControlFlow::Continue(())
    }
}

impl Drop for Layers {
    /// The bars of an image go with it.
    fn drop(&mut self) {
        if let Shown::Bars { title, bars, .. } = &self.shown {
            lock(bars).iter().for_each(ProgressBar::finish_and_clear);
            title.finish_and_clear();
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
                // Below the title, and above those of the next image.
                let above = bars.last().unwrap_or(title);
                let bar = ProgressBar::new(0).with_style(style("  {prefix} {msg}"));
                let bar = all.insert_after(above, bar);
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
