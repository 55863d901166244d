//! What was found of a side's idle connections, and how it is told. Pure.

use crate::load::Tally;
use crate::scenario::Figures;
use crate::server::Cost;
use crate::table::Table;
use crate::units;
use crate::wire::Opened;

const MEBIBYTE: f64 = 1024.0 * 1024.0;
/// What is extrapolated to.
const MANY: f64 = 1e6;

/// Resident memory of the server, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Memory {
    pub(super) agents: u64,
    /// Of them, those that were connected at first.
    pub(super) half: u64,
    /// All registered, none connected.
    pub(super) without: u64,
    pub(super) with_half: u64,
    pub(super) with_all: u64,
    /// The same at first: the first third of the time for which all were looked at. `with_all` is of the last.
    pub(super) with_all_at_first: u64,
}

impl Memory {
    fn each(connections: u64, before: u64, after: u64) -> f64 {
        (after as f64 - before as f64) / connections as f64
    }

    pub(super) fn per_connection(&self) -> f64 {
        Self::each(self.agents, self.without, self.with_all)
    }

    /// Of the first half.
    pub(super) fn of_half(&self) -> f64 {
        Self::each(self.half, self.without, self.with_half)
    }

    /// Of each that came to the first half: where the cost is linear, as much as of these.
    pub(super) fn slope(&self) -> f64 {
        Self::each(self.agents - self.half, self.with_half, self.with_all)
    }

    pub(super) fn growth(&self) -> f64 {
        self.with_all as f64 / self.with_all_at_first as f64
    }

    /// Of a million connections, without what their agents take.
    pub(super) fn million_mib(&self) -> f64 {
        self.slope() * MANY / MEBIBYTE
    }
}

/// The middle of what was seen in the first third of the time, and in the last; the samples are in order, and some.
pub(super) fn thirds(samples: &[u64]) -> (u64, u64) {
    let third = samples.len().div_ceil(3);
    let median = |samples: &[u64]| {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or(0)
    };
    (median(&samples[..third]), median(&samples[samples.len() - third..]))
}

/// All connections, opened once more.
pub(super) struct Again {
    pub(super) opened: Opened,
    /// Processor time of the server for each, with a beat on it.
    pub(super) cost: Cost,
    /// Resident memory afterwards.
    pub(super) resident: u64,
}

pub(super) struct Found {
    pub(super) name: &'static str,
    pub(super) memory: Memory,
    /// Of a beat, with all connections.
    pub(super) cost: Cost,
    /// Of a connection that is opened, with its first beat.
    pub(super) opening: Cost,
    pub(super) opened: Opened,
    /// Those that were opened although they should have been there.
    pub(super) reopened: u64,
    /// Beats on half the connections and on all, and what failed in between.
    pub(super) tally: Tally,
    pub(super) again: Option<Again>,
}

impl Found {
    pub(super) fn figures(&self) -> Figures {
        let memory = &self.memory;
        let mut figures = Figures::from([
            ("connection_bytes", memory.per_connection()),
            ("slope_bytes", memory.slope()),
            ("million_mib", memory.million_mib()),
            ("rss_growth", memory.growth()),
            ("rss_mib", memory.with_all as f64 / MEBIBYTE),
            ("reopened", self.reopened as f64),
        ]);
        figures.extend(self.cost.server_us.map(|us| ("cpu_us", us)));
        figures
            .extend(self.again.as_ref().and_then(|again| again.opened.resumed_share()).map(|share| ("resumed", share)));
        figures
    }

    fn cells(&self) -> Vec<(&'static str, String)> {
        let memory = &self.memory;
        let bytes = |bytes: f64| format!("{bytes:.0} bytes");
        let us = |us: Option<f64>| us.map_or_else(|| "–".to_owned(), |us| format!("{us:.1} µs"));
        let share =
            |opened: Opened| opened.resumed_share().map_or_else(|| "–".to_owned(), |share| format!("{share:.3}"));
        let latency = |quantile| units::micros(self.tally.latency_us.value_at_quantile(quantile));
        let again = |show: &dyn Fn(&Again) -> String| self.again.as_ref().map_or_else(|| "–".to_owned(), show);
        vec![
            ("agents, each with a connection", units::count(memory.agents)),
            ("RSS, all registered, none connected", units::mebibytes(memory.without)),
            ("RSS with half of them connected", units::mebibytes(memory.with_half)),
            ("RSS with all connected", units::mebibytes(memory.with_all)),
            ("RSS per connection", bytes(memory.per_connection())),
            ("… of the first half", bytes(memory.of_half())),
            ("… from half to all", bytes(memory.slope())),
            ("1,000,000 connections, extrapolated", format!("{:.0} MiB", memory.million_mib())),
            ("RSS, last third of the time to the first", format!("{:+.2} %", (memory.growth() - 1.0) * 100.0)),
            ("processor time per beat", us(self.cost.server_us)),
            ("… of this client", us(Some(self.cost.client_us))),
            ("processor time per connection, with a beat", us(self.opening.server_us)),
            ("beats that count", units::count(self.tally.due)),
            ("not answered 2xx", units::count(self.tally.failures() + self.tally.lost())),
            ("connections not kept", units::count(self.reopened)),
            ("latency, median", latency(0.5)),
            ("latency, 99th percentile", latency(0.99)),
            ("latency, highest", latency(1.0)),
            ("TLS handshakes", units::count(self.opened.handshakes())),
            ("… share resumed", share(self.opened)),
            ("all connected again: TLS handshakes", again(&|again| units::count(again.opened.handshakes()))),
            ("… share resumed", again(&|again| share(again.opened))),
            ("… processor time per connection, with a beat", again(&|again| us(again.cost.server_us))),
            ("… RSS", again(&|again| units::mebibytes(again.resident))),
        ]
    }
}

/// A column for each side.
pub(super) fn table(sides: &[Found]) -> Table {
    let mut table = Table::with_headings(["what"].into_iter().chain(sides.iter().map(|side| side.name)));
    let columns: Vec<_> = sides.iter().map(Found::cells).collect();
    for (row, (what, _)) in columns.first().into_iter().flatten().enumerate() {
        let cells = columns.iter().map(|column| column[row].1.clone());
        table.row(std::iter::once((*what).to_owned()).chain(cells));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Memory = Memory {
        agents: 1_000,
        half: 400,
        without: 50_000_000,
        with_half: 51_000_000,
        with_all: 52_200_000,
        with_all_at_first: 52_000_000,
    };

    #[test]
    fn memory_is_shared_out_over_the_connections_that_came() {
        assert!((MEMORY.per_connection() - 2_200.0).abs() < 1e-9);
        assert!((MEMORY.of_half() - 2_500.0).abs() < 1e-9);
        assert!((MEMORY.slope() - 2_000.0).abs() < 1e-9);
        assert!((MEMORY.million_mib() - 2e9 / 1_048_576.0).abs() < 1e-6);
        assert!((MEMORY.growth() - 1.003_846).abs() < 1e-6);
        let less = Memory { with_all: 49_000_000, ..MEMORY };
        assert!(less.per_connection() < 0.0, "memory that was given back is not hidden");
    }

    #[test]
    fn the_first_third_and_the_last_are_told_by_their_middle() {
        assert_eq!(thirds(&[1, 9, 2, 5, 5, 5, 7, 8, 100]), (2, 8));
        assert_eq!(thirds(&[3, 4]), (3, 4));
        assert_eq!(thirds(&[3]), (3, 3));
    }

    fn found(name: &'static str, opened: Opened, again: Option<Again>) -> Found {
        let cost = Cost { server_us: Some(12.0), client_us: 9.0, redis: None };
        Found { name, memory: MEMORY, cost, opening: cost, opened, reopened: 1, tally: Tally::new(), again }
    }

    #[test]
    fn every_side_has_all_rows_and_says_where_there_was_nothing() {
        let cost = Cost { server_us: None, client_us: 9.0, redis: None };
        let again = Again { opened: Opened::of(1_000, 50, 950), cost, resident: 53_000_000 };
        let sides =
            [found("embedded", Opened::of(1_000, 1_000, 0), Some(again)), found("bare", Opened::default(), None)];
        let table = table(&sides);
        assert_eq!(table.headings, ["what", "embedded", "bare"]);
        let row = |what: &str| table.rows.iter().rfind(|row| row[0] == what).map(|row| row[1..].to_vec());
        assert_eq!(row("… share resumed"), Some(vec!["0.950".to_owned(), "–".to_owned()]));
        assert_eq!(row("… from half to all"), Some(vec!["2000 bytes".to_owned(); 2]));
        assert_eq!(row("TLS handshakes"), Some(vec!["1,000".to_owned(), "0".to_owned()]));
        assert_eq!(sides[0].figures().get("resumed"), Some(&0.95));
        assert_eq!((sides[1].figures().get("resumed"), sides[1].figures().get("reopened")), (None, Some(&1.0)));
    }
}
