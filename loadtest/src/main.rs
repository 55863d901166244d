//! `guardbeat-loadtest`: load, baselines and fleet measurements for a Guardbeat server.
//!
//! The map, from the bottom up; each room uses only those above it:
//! - [`stats`], [`units`], [`table`], [`progress`]: figures, and how they and progress are shown.
//! - [`aside`]: work on a thread beside that of the load.
//! - [`wire`]: HTTP/1.1 over a socket, plain or TLS, as cheaply as it can be done.
//! - [`load`]: agents, their registration, and the two ways to drive them: open and closed loop.
//! - [`server`]: servers and Redis, started or given; what they use of the machine, and what they export.
//! - [`scenario`]: what is to be done to a server, and the limits it is held to, from small files.
//! - [`run`]: a scenario carried out; [`report`]: what came of it, as a page.
//! - [`commands`]: one file for each command; [`cli`] reads the arguments and calls them.
//!
//! The load runs on one thread; what only reads, on threads beside it. It shares the machine with the server it measures, and one thread
//! with raw sockets asks less of it than a server gives: 12 µs of processor time per keep-alive beat,
//! 14 to 15 with two threads (two virtual cores, plain HTTP, `run compare --set compare.sides=bare,bare`).

mod aside;
mod cli;
mod commands;
mod load;
mod progress;
mod report;
mod run;
mod scenario;
mod server;
mod stats;
mod table;
mod units;
mod wire;

use std::process::ExitCode;

/// Exit status for what makes no sense, as clap has it for flags.
const USAGE: u8 = 2;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            match error.downcast_ref::<run::Ended>() {
                Some(ended) => ExitCode::from(ended.exit_status()),
                None if error.is::<commands::Usage>() => ExitCode::from(USAGE),
                None => ExitCode::FAILURE,
            }
        }
    }
}
