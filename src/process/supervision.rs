//! Background tasks: none of them ends without a word.
//!
//! A task that panics is gone, and whoever waits for it would wait for ever. What keeps nothing between two steps is
//! started again ([`restarted`]); what goes down with its state takes the process along ([`indispensable`]), as a shard
//! does: all that was acknowledged is in the store, and the next process has it from there.

use std::{
    ffi::OsString,
    fs,
    panic::{self, AssertUnwindSafe},
    path::Path,
    thread,
    time::Duration,
};

use futures_util::FutureExt;

use super::output;
use crate::limits::TASK_RESTART_MS;

/// Names the folder in which a test says what is to panic: a file for each task, by its name. Debug builds only.
pub const FAULTS_VARIABLE: &str = "FAULTS_FOLDER";
const LOOK_FOR_FAULTS: Duration = Duration::from_millis(10);

/// What runs beside the requests for as long as the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Start, wait for signals, drain.
    Main,
    /// Writes durable changes.
    Committer,
    /// Writes last heartbeats.
    Flusher,
    /// Carries heartbeats to the shards of other workers.
    WorkerQueue,
    /// Takes in threats that have become durable.
    ThreatLog,
    /// Reports what has happened.
    Collector,
    /// Keeps the metrics small.
    Upkeep,
    /// Reads the history of threats.
    ThreatLoader,
    /// Keeps the link to Redis.
    RedisKeeper,
    /// Cuts connections whose time is over.
    Sweeper,
    /// Accepts connections: a thread of actix-server, which nobody else looks after.
    Acceptor,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Main,
        Self::Committer,
        Self::Flusher,
        Self::WorkerQueue,
        Self::ThreatLog,
        Self::Collector,
        Self::Upkeep,
        Self::ThreatLoader,
        Self::RedisKeeper,
        Self::Sweeper,
        Self::Acceptor,
    ];

    /// What it is called where people read.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Committer => "committer",
            Self::Flusher => "flusher",
            Self::WorkerQueue => "worker queue",
            Self::ThreatLog => "threat log",
            Self::Collector => "collector",
            Self::Upkeep => "upkeep",
            Self::ThreatLoader => "threat-loader",
            Self::RedisKeeper => "redis-keeper",
            Self::Sweeper => "sweeper",
            Self::Acceptor => "acceptor",
        }
    }
}

/// Runs a task to its end; if it panics, the process ends.
pub async fn indispensable<T>(task: Task, work: impl Future<Output = T>) -> T {
    match AssertUnwindSafe(with_faults(task, work)).catch_unwind().await {
        Ok(done) => done,
        Err(_) => end(task),
    }
}

fn end(panicked: Task) -> ! {
    output::report(format_args!(
        "The server ended: a background task ({}) fell with a panic; nothing that must be durable and was \
         acknowledged is lost: start again, and report the panic above",
        panicked.name()
    ));
    output::exit(1)
}

/// What actix-server calls the threads that accept connections.
pub const ACCEPTOR_THREAD: &str = "actix-server acceptor";

/// From now on the process ends when a thread that accepts connections panics.
pub fn watch_acceptors() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report(info);
        if thread::current().name() == Some(ACCEPTOR_THREAD) {
            end(Task::Acceptor);
        }
    }));
    if let Some(faults) = faults() {
        let order = Path::new(&faults).join(Task::Acceptor.name());
        // Those of actix-server have no fault of their own; nobody waits for this one.
        let _ = thread::Builder::new().name(ACCEPTOR_THREAD.to_owned()).spawn(move || {
            while fs::remove_file(&order).is_err() {
                thread::sleep(LOOK_FOR_FAULTS);
            }
            panic!("a test wants the thread to fall");
        });
    }
}

/// Runs a task to its end, and starts it again whenever it panics.
pub async fn restarted<T, F: Future<Output = T>>(task: Task, mut start: impl FnMut() -> F) -> T {
    loop {
        if let Ok(done) = AssertUnwindSafe(with_faults(task, start())).catch_unwind().await {
            return done;
        }
        tracing::error!(task = task.name(), "a background task fell with a panic and is started again");
        tokio::time::sleep(Duration::from_millis(TASK_RESTART_MS)).await;
    }
}

/// Where a test says what is to panic.
fn faults() -> Option<OsString> {
    cfg!(debug_assertions).then(|| std::env::var_os(FAULTS_VARIABLE)).flatten()
}

/// Lets a test have the task panic.
async fn with_faults<T>(task: Task, work: impl Future<Output = T>) -> T {
    let Some(faults) = faults() else { return work.await };
    let order = Path::new(&faults).join(task.name());
    let fault = async {
        while fs::remove_file(&order).is_err() {
            tokio::time::sleep(LOOK_FOR_FAULTS).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = fault => panic!("a test wants the task to fall"),
    }
}
