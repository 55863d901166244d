//! How long requests take, one after the other over one connection: a table with a row for each.

use std::time::{Duration, Instant};

use memchr::memmem;

use crate::load::Tally;
use crate::server::Probe;
use crate::table::Table;
use crate::units;

/// How often each request is timed.
const REPEATS: u64 = 100;
/// Slow ones less often: for no longer than this, but at least so many times.
const LONGEST: Duration = Duration::from_secs(10);
const FEWEST: u64 = 20;

pub(super) struct Timings {
    pub(super) table: Table,
    mark: &'static [u8],
}

impl Timings {
    /// None yet. Each of what is counted in the answers, `counted`, has the mark once.
    pub(super) fn of(counted: &str, mark: &'static [u8]) -> Self {
        let counted = format!("{counted} in it");
        Self { table: Table::with_headings(["request", "times", &counted, "p50", "p99", "longest"]), mark }
    }

    pub(super) async fn add(&mut self, probe: &mut Probe, path: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut times = Tally::new().latency_us;
        let mut counted = 0;
        while times.len() < REPEATS && (times.len() < FEWEST || begun.elapsed() < LONGEST) {
            let (time, body) = probe.get(path).await?;
            times.record(u64::try_from(time.as_micros())?)?;
            counted = memmem::find_iter(body, self.mark).count();
        }
        let shown = |share| units::micros(times.value_at_quantile(share));
        let counted = units::count(counted as u64);
        let count = times.len().to_string();
        self.table.row([format!("GET {path}"), count, counted, shown(0.5), shown(0.99), shown(1.0)]);
        Ok(())
    }
}
