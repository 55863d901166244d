//! Progress on stderr while a command runs; nothing when stderr is not a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const REDRAW: Duration = Duration::from_millis(250);

/// A bar over `length` steps of something countable.
pub(crate) fn bar(length: u64, label: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(label);
    bar.set_style(style("{msg:24} {bar:30} {human_pos}/{human_len} {per_sec} {eta}"));
    bar.enable_steady_tick(REDRAW);
    bar
}

/// A line that says what is being waited for.
pub(crate) fn spinner(message: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message.into());
    bar.set_style(style("{spinner} {msg} {elapsed}"));
    bar.enable_steady_tick(REDRAW);
    bar
}

fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are well-formed")
}
