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
    /// What a layer is in the end.
    done: &'static str,
}

#[derive(Debug)]
enum Shown {
    Nothing,
    Bars { all: MultiProgress, title: ProgressBar, bars: Mutex<Vec<ProgressBar>> },
    Lines { what: String, read: Mutex<Vec<u64>> },
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
        self.begin(&format!("pulling {name}"), "unpacked")
    }

    /// One more thing that is done with layers, such as "importing debian:12"; in the end each is
    /// `done`, such as "unpacked".
    pub(crate) fn begin(&self, what: &str, done: &'static str) -> Layers {
        let shown = match &self.how {
            How::Nothing => Shown::Nothing,
            How::Lines => Shown::Lines { what: what.to_owned(), read: Mutex::default() },
            How::Bars(all) => {
                let title =
                    all.add(ProgressBar::new_spinner().with_style(style("{spinner} {msg}")));
                title.set_message(what.to_owned());
                title.enable_steady_tick(Duration::from_millis(100));
                Shown::Bars { all: all.clone(), title, bars: Mutex::default() }
            }
        };
        Layers { shown, done }
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
    /// Takes one event of an import or pull, from any thread.
    pub(crate) fn tell(&self, event: Progress) -> ControlFlow<()> {
        match event {
            Progress::Layers { count } => self.count(count),
            Progress::Present { layer } => self.present(layer),
            Progress::Read { layer, bytes, total } => self.add(layer, bytes, total),
            Progress::Unpacked { layer } => self.done(layer),
        }
        ControlFlow::Continue(())
    }

    /// There are so many layers.
    pub(crate) fn count(&self, layers: usize) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bars { all, title, bars } => {
                let mut bars = lock(bars);
                let width = layers.to_string().len();
                for number in 1..=layers.min(BARS) {
                    // Below the title, and above those of the next image.
                    let above = bars.last().unwrap_or(title);
                    let bar = ProgressBar::new(0).with_style(style("  {prefix} {msg}"));
                    let bar = all.insert_after(above, bar);
                    bar.set_prefix(format!("{number:>width$}/{layers}"));
                    bar.set_message("waiting");
                    bars.push(bar);
                }
                if layers > BARS {
                    title.set_message(format!("{} ({layers} layers)", title.message()));
                }
            }
            Shown::Lines { what, read } => {
                lock(read).resize(layers, 0);
                let layers = count(layers as u64, "layer");
                print::standard_error(format_args!("{what}: {layers}"));
            }
        }
    }

    /// A layer is where it shall go already.
    pub(crate) fn present(&self, layer: usize) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bars { bars, .. } => {
                if let Some(bar) = lock(bars).get(layer) {
                    bar.finish_with_message("there already");
                }
            }
            Shown::Lines { what, read } => {
                let of = lock(read).len();
                print::standard_error(format_args!("{what}: layer {}/{of} is there", layer + 1));
            }
        }
    }

    /// So many bytes more of a layer went.
    pub(crate) fn add(&self, layer: usize, bytes: u64, total: u64) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bars { bars, .. } => {
                if let Some(bar) = lock(bars).get(layer) {
                    if bar.length() != Some(total) {
                        bar.set_length(total);
                        bar.set_style(style(
                            "  {prefix} {bar:24} {binary_bytes:>11} of {binary_total_bytes} {binary_bytes_per_sec:>13}",
                        ));
                    }
                    bar.inc(bytes);
                }
            }
            Shown::Lines { read, .. } => {
                if let Some(read) = lock(read).get_mut(layer) {
                    *read += bytes;
                }
            }
        }
    }

    /// A layer is where it shall be.
    pub(crate) fn done(&self, layer: usize) {
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bars { bars, .. } => {
                if let Some(bar) = lock(bars).get(layer) {
                    bar.set_style(style("  {prefix} {msg}"));
                    bar.finish_with_message(self.done);
                }
            }
            Shown::Lines { what, read } => {
                let (bytes, of) = {
                    let read = lock(read);
                    (Bytes(read.get(layer).copied().unwrap_or_default()), read.len())
                };
                let (number, done) = (layer + 1, self.done);
                print::standard_error(format_args!("{what}: layer {number}/{of} {done}, {bytes}"));
            }
        }
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
