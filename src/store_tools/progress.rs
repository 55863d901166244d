//! How far a command has come, on stderr: a bar on a terminal, a line now and then elsewhere.

use std::{
    cell::Cell,
    io::{self, Write},
    time::Duration,
};

use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use crate::limits::{PROGRESS_LINE_MS, PROGRESS_REDRAW_MS};

/// Stderr, shared by log lines and a bar that stays below them.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    bars: MultiProgress,
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Screen {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// How far one step of a command has come. Gone from the screen when it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    bar: ProgressBar,
    logged: Cell<Instant>,
}

impl Progress {
    /// A step of which nobody knows how long it is.
    pub(super) fn counting(screen: &Screen, what: &'static str) -> Self {
        Self::new(screen, what, ProgressBar::no_length(), "{spinner} {prefix}: {msg}, {elapsed}")
    }

    /// A step that ends with so many agents and last heartbeats.
    pub(super) fn towards(screen: &Screen, what: &'static str, agents: u64, heartbeats: u64) -> Self {
        Self::new(
            screen,
            what,
            ProgressBar::new(agents + heartbeats),
            "{prefix}: {bar:30} {percent}% {msg}, {eta} left",
        )
    }

    fn new(screen: &Screen, what: &'static str, bar: ProgressBar, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).expect("the templates above are well-formed");
        let bar = screen.bars.add(bar.with_style(style).with_prefix(what));
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(PROGRESS_REDRAW_MS));
        }
        let progress = Self { what, bar, logged: Cell::new(Instant::now()) };
        progress.reached(0, 0);
        progress
    }

    /// So many are done.
    pub(super) fn reached(&self, agents: u64, heartbeats: u64) {
        let message = format!("agents {}, last heartbeats {}", HumanCount(agents), HumanCount(heartbeats));
        self.show(message, agents + heartbeats);
    }

    /// So many threats are done.
    pub(super) fn reached_threats(&self, threats: u64) {
        self.show(format!("threats {}", HumanCount(threats)), threats);
    }

    fn show(&self, message: String, done: u64) {
        if self.bar.is_hidden() && self.logged.get().elapsed() >= Duration::from_millis(PROGRESS_LINE_MS) {
            // Nobody may be listening.
            let _ = writeln!(io::stderr(), "{}: {message} so far", self.what);
            self.logged.set(Instant::now());
        }
        self.bar.set_message(message);
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
