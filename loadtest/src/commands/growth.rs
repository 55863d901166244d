//! A fleet that is registered with a server, and what that took.

use std::time::Instant;

use crate::load::{Credentials, Fleet, register};
use crate::progress;
use crate::server::Engine;
use crate::table::Table;
use crate::units;

/// Registers so many agents, at least one, which share the admin token; appends how long it took.
pub(super) async fn grow(engine: &Engine, agents: u64, connections: usize, table: &mut Table) -> anyhow::Result<Fleet> {
    let bar = progress::bar(agents, "registering");
    let begun = Instant::now();
    // Ten million tokens would be a gigabyte here; the server has one for each agent all the same.
    let credentials = Credentials::Admin;
    let fleet = register(&engine.target().await?, engine.token(), agents, connections, credentials, &bar).await;
    let elapsed = begun.elapsed();
    bar.finish_and_clear();
    let fleet = fleet?;
    table.pair("agents", units::count(fleet.len()));
    table.pair("registered in", units::duration(elapsed));
    table.pair("registrations", units::rate(fleet.len() as f64 / elapsed.as_secs_f64()));
    Ok(fleet)
}
