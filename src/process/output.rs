//! What the process writes to stdout and stderr. Nobody need take it.
//!
//! A command writes with [`print()`] and [`print_error`], and ends. A server goes on whatever becomes of its output: its
//! lines go through an [`Outlet`], which drops and counts what cannot be written. All that it writes after its
//! configuration has been read comes through here: log lines, the banner ([`announce`]), why it ends ([`report`]), and
//! panics.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    collections::VecDeque,
    fmt::Display,
    io::{self, ErrorKind, IsTerminal, Write},
    panic::{self, PanicHookInfo},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::limits::{LAST_WORDS_MS, LOG_QUEUE_MAX_BYTES, OUTPUT_RETRY_MS};

/// What must be logged at every level of logging.
const ALWAYS: &str = "guardbeat::always";

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// Directives of a tracing `EnvFilter`, such as `info,guardbeat::store=debug`.
    pub level: String,
    /// For whom the lines are written.
    pub format: LogFormat,
}

/// For whom log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// People.
    Text,
    /// Programs: one JSON object per line.
    Json,
}

/// Lines that could not be written.
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// The outlets of the server that this process is.
static SERVER: OnceLock<ServerOutput> = OnceLock::new();

struct ServerOutput {
    stdout: Outlet,
    stderr: Outlet,
    format: LogFormat,
}

/// Prints it. Whoever was to read it may have gone away (`guardbeat openapi | head`): that is no reason to panic.
pub fn print(what: impl Display) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{what}").and_then(|()| out.flush());
}

/// As [`print()`], a line on stderr.
pub fn print_error(what: impl Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Makes this process speak as a server: log lines and panics go to stderr in the configured format.
///
/// # Errors
/// The threads that write cannot be started.
pub fn begin(config: &LogConfig) -> io::Result<()> {
    let output = ServerOutput {
        stdout: Outlet::start("stdout", io::stdout())?,
        stderr: Outlet::start("stderr", io::stderr())?,
        format: config.format,
    };
    start_log(config, output.stderr.clone());
    // A second server in this process: it speaks as the first one does.
    let _ = SERVER.set(output);
    panic::set_hook(Box::new(tell_of_panic));
    Ok(())
}

/// Writes log lines to `out`, which must not fail.
pub fn start_log(config: &LogConfig, out: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    // The framework's own chatter is of interest only to who asks for it; and what it says of malformed requests would
    // let any stranger fill the log.
    let directives = format!("actix_server=warn,actix_http=off,h2=off,rustls=off,{},{ALWAYS}=trace", config.level);
    let filter = EnvFilter::builder().parse(directives).expect("the configuration has checked the level");
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(out)
        .with_ansi(io::stderr().is_terminal())
        // With `eprintln!`, which panics where stderr cannot be written.
        .log_internal_errors(false);
    match config.format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// Reports on stdout that the server is ready: `text` for people, `json` for programs.
pub fn announce(text: impl Display, json: impl FnOnce() -> serde_json::Value) {
    match SERVER.get() {
        Some(ServerOutput { stdout, format: LogFormat::Text, .. }) => stdout.send(text.to_string().into_bytes()),
        Some(ServerOutput { stdout, format: LogFormat::Json, .. }) => stdout.send(format!("{}\n", json()).into_bytes()),
        None => print(text),
    }
}

/// Reports on stderr why the process ends, whatever the level of logging.
pub fn report(what: impl Display) {
    match SERVER.get() {
        Some(ServerOutput { stderr, format: LogFormat::Text, .. }) => stderr.send(format!("{what}\n").into_bytes()),
        Some(ServerOutput { format: LogFormat::Json, .. }) => tracing::error!(target: ALWAYS, "{what}"),
        None => print_error(what),
    }
}

/// Waits a moment for what is queued to be written.
pub fn finish() {
    if let Some(ServerOutput { stdout, stderr, .. }) = SERVER.get() {
        stdout.finish();
        stderr.finish();
    }
}

/// Ends the process at once, its last words said.
pub fn exit(code: i32) -> ! {
    finish();
    std::process::exit(code)
}

/// Lines that were dropped because they could not be written.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Relaxed)
}

fn tell_of_panic(info: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        report(format_args!("thread '{name}' {info}\n{backtrace}"));
    } else {
        report(format_args!("thread '{name}' {info}"));
    }
}

/// Lines on their way out, written by a thread of their own. Who sends one never waits; what is too much, or cannot be
/// written, is dropped and counted. Clones share it.
#[derive(Clone, Debug)]
pub struct Outlet {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line has been taken and is not written yet.
    is_writing: bool,
}

impl Outlet {
    /// Starts the thread that writes to `out`; it lives as long as the process.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(name: &str, out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writer = shared.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || writer.write_to(out))?;
        Ok(Self { shared })
    }

    /// Hands over one line, with its end.
    pub fn send(&self, line: Vec<u8>) {
        let mut queue = self.shared.queue();
        if queue.bytes + line.len() > LOG_QUEUE_MAX_BYTES {
            DROPPED.fetch_add(1, Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line);
        drop(queue);
        self.shared.filled.notify_one();
    }

    /// Waits until all is written, or for [`LAST_WORDS_MS`].
    pub fn finish(&self) {
        let patience = Duration::from_millis(LAST_WORDS_MS);
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty();
        // Late or not: there is nothing more to be done.
        let _ = self.shared.emptied.wait_while_for(&mut self.shared.queue(), is_busy, patience);
    }
}

impl Shared {
    /// Whole after every step: a panic elsewhere does not spoil it.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    fn next_line(&self) -> Vec<u8> {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return line;
            }
            queue.is_writing = false;
            self.emptied.notify_all();
            self.filled.wait(&mut queue);
        }
    }

    fn write_to(&self, mut out: impl Write) {
        let mut is_torn = false;
        loop {
            let mut line = self.next_line();
            if is_torn {
                line.insert(0, b'\n');
            }
            match write_line(&mut out, &line) {
                Ok(()) => is_torn = false,
                Err(begun) => {
                    is_torn |= begun;
                    DROPPED.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

/// Writes it whole; or returns whether it has been begun.
fn write_line(out: &mut impl Write, line: &[u8]) -> Result<(), bool> {
    let mut rest = line;
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => return Err(rest.len() < line.len()),
            Ok(written) => rest = &rest[written..],
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(OUTPUT_RETRY_MS)),
                _ => return Err(rest.len() < line.len()),
            },
        }
    }
    out.flush().map_err(|_| false)
}

impl<'a> MakeWriter<'a> for Outlet {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

/// Takes a log line, which is written at once.
#[derive(Debug)]
pub struct LineWriter<'a>(&'a Outlet);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes lines as long as it is open; shared with the test.
    #[derive(Clone, Default)]
    struct Reader(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        text: Vec<u8>,
        /// Bytes that are taken before the next attempt fails.
        room: Option<usize>,
        is_stuck: bool,
    }

    impl Reader {
        fn change(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.0.0.lock());
            self.0.1.notify_all();
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.0.lock().text.clone()).unwrap()
        }
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.0.lock();
            self.0.1.wait_while(&mut state, |state| state.is_stuck);
            let taken = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            state.room = state.room.map(|room| room - taken);
            state.text.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The counter is the process's: one test at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    #[test]
    fn lines_that_cannot_be_written_are_dropped_and_counted_and_none_is_glued_to_a_torn_one() {
        let _one = ONE_AT_A_TIME.lock();
        let (reader, before) = (Reader::default(), dropped_lines());
        let outlet = Outlet::start("test", reader.clone()).unwrap();
        outlet.send(b"one\n".to_vec());
        outlet.finish();
        reader.change(|state| state.room = Some(2));
        outlet.send(b"torn\n".to_vec());
        outlet.send(b"lost\n".to_vec());
        outlet.finish();
        assert_eq!(dropped_lines() - before, 2);
        reader.change(|state| state.room = None);
        outlet.send(b"two\n".to_vec());
        outlet.send(b"three\n".to_vec());
        outlet.finish();
        assert_eq!(reader.text(), "one\nto\ntwo\nthree\n");
        assert_eq!(dropped_lines() - before, 2);
    }

    #[test]
    fn a_reader_that_stands_still_makes_nobody_wait_and_costs_no_more_than_the_queue() {
        let _one = ONE_AT_A_TIME.lock();
        let (reader, before) = (Reader::default(), dropped_lines());
        reader.change(|state| state.is_stuck = true);
        let outlet = Outlet::start("test", reader.clone()).unwrap();
        let line = [b"x".repeat(1_023), b"\n".to_vec()].concat();
        let lines = 3 * LOG_QUEUE_MAX_BYTES / line.len();
        (0..lines).for_each(|_| outlet.send(line.clone()));
        assert!(outlet.shared.queue().bytes <= LOG_QUEUE_MAX_BYTES);
        let dropped = usize::try_from(dropped_lines() - before).unwrap();
        assert!(dropped >= lines / 2, "{dropped} of {lines}");
        reader.change(|state| state.is_stuck = false);
        outlet.finish();
        assert_eq!(reader.text().lines().count(), lines - dropped, "the rest is there");
    }
}
