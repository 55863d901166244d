//! Restarts of a server on its data, in order and from `kill -9`, and how soon it is ready again.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::progress;
use crate::server::{Engine, Probe, ServerProcess, resident_bytes};
use crate::table::Table;
use crate::units;

use super::subject::END_LIMIT;

/// Restarts of this server.
pub(super) struct Restarts<'a> {
    /// How it is started.
    pub(super) engine: &'a Engine,
    /// How often each way.
    pub(super) rounds: u32,
    /// What else is told of each, as headings.
    pub(super) more: &'a [&'static str],
}

impl Restarts<'_> {
    /// Restarts it; `look` tells what else there is to be told when it is ready, a cell for each heading.
    pub(super) async fn run(
        self,
        mut process: ServerProcess,
        mut look: impl AsyncFnMut(&mut ServerProcess) -> anyhow::Result<Vec<String>>,
    ) -> anyhow::Result<(ServerProcess, Table)> {
        let headings = ["restart", "ended in", "ready in", "agents"].iter().chain(self.more).chain(&["RSS"]);
        let mut table = Table::with_headings(headings.copied());
        for _ in 0..self.rounds {
            let ended = process.terminate(END_LIMIT).await?;
            process = self.restart(&mut table, "after SIGTERM", Some(ended), &mut look).await?;
            process.kill()?;
            process = self.restart(&mut table, "after kill -9", None, &mut look).await?;
        }
        Ok((process, table))
    }

    async fn restart(
        &self,
        table: &mut Table,
        occasion: &str,
        ended: Option<Duration>,
        look: &mut impl AsyncFnMut(&mut ServerProcess) -> anyhow::Result<Vec<String>>,
    ) -> anyhow::Result<ServerProcess> {
        let spinner = progress::spinner("restarting");
        let (mut process, ready) = self.engine.start().await?;
        let more = look(&mut process).await;
        spinner.finish_and_clear();
        let mut row = vec![
            occasion.to_owned(),
            ended.map_or_else(|| "at once".to_owned(), units::duration),
            units::duration(ready),
            units::count(agents_of(self.engine).await?),
        ];
        row.extend(more?);
        row.push(units::mebibytes(resident_bytes(process.pid())?));
        table.row(row);
        Ok(process)
    }
}

/// How many agents the server says that it has.
async fn agents_of(engine: &Engine) -> anyhow::Result<u64> {
    let mut probe = Probe::open(engine.target().await?);
    let total = probe.json("/health").await?["data"]["agents"]["total"].as_u64();
    let total = total.context("GET /health counts no agents")?;
    ensure!(total > 0, "the fleet was not restored: GET /health counts no agents");
    Ok(total)
}
