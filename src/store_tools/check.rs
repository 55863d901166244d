//! Looking into a store.

use std::{fmt, time::Duration};

use indicatif::HumanCount;

use super::{
    StoreLocation, ToolError,
    progress::{Progress, Screen},
    reading::{Stopped, read},
    tally::Tally,
    threats,
};
use crate::{
    fleet::{ActiveTime, Timestamp},
    threats::ThreatKey,
};

/// What is in a store. Shown as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Where it is.
    pub location: String,
    /// Version of its layout.
    pub format: &'static str,
    pub agents: u64,
    /// Agents of which there is a heartbeat since they registered.
    pub last_heartbeats: u64,
    /// Scopes that have policies: the whole fleet, and tenants.
    pub scopes: u64,
    pub threats: u64,
    /// Agents of which there is a heartbeat, but no registration.
    pub orphans: u64,
    /// Records that cannot be read; each has been reported.
    pub corrupt: u64,
    /// What was found lost, damaged or amiss; each has been reported.
    pub damage: u64,
    /// When the newest heartbeat was received.
    pub newest: Option<Timestamp>,
    /// Active time as it was saved last.
    pub clock: Option<ActiveTime>,
}

/// Reads the whole store.
///
/// # Errors
/// It is not there, in use, or cannot be reached.
pub async fn check(location: &StoreLocation, screen: &Screen) -> Result<CheckReport, ToolError> {
    let store = location.open_to_read().await?;
    let progress = Progress::counting(screen, "reading");
    let mut tally = Tally::default();
    let loaded = read(&*store, async |chunk| {
        tally.count(&chunk);
        progress.reached(tally.content().agents, tally.content().last_heartbeats);
        Ok::<_, ToolError>(())
    })
    .await
    .map_err(|stopped| match stopped {
        Stopped::Store(error) => location.failed(error),
        Stopped::Reader(error) => error,
    })?;
    let mut unreadable = 0;
    let threats = threats::read(&*store, location, async |entries| {
        // Where one may be discarded meanwhile, it would look like one that is lost.
        if !location.may_be_in_use() {
            let keys: Vec<_> = entries.into_iter().map(|entry| ThreatKey { org: entry.org, id: entry.id }).collect();
            let read = store.threats(keys).await.map_err(|error| location.failed(error))?;
            unreadable += read.iter().filter(|threat| threat.is_none()).count() as u64;
        }
        Ok(())
    })
    .await?;
    Ok(CheckReport {
        location: location.to_string(),
        format: store.format(),
        agents: tally.content().agents,
        last_heartbeats: tally.content().last_heartbeats,
        scopes: tally.content().scopes,
        threats: threats.threats,
        orphans: loaded.orphans + tally.orphans(),
        corrupt: loaded.corrupt + threats.corrupt + unreadable,
        damage: store.damage().len() as u64,
        newest: tally.newest(),
        clock: store.clock().await.map_err(|error| location.failed(error))?,
    })
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &dyn fmt::Display, note: &str| writeln!(f, "{name:<16} {value}{note}");
        line("store", &self.location, "")?;
        line("format", &self.format, "")?;
        line("agents", &HumanCount(self.agents), "")?;
        line("last heartbeats", &HumanCount(self.last_heartbeats), "")?;
        line(
            "never heard",
            &HumanCount(self.agents - self.last_heartbeats),
            " (agents without a heartbeat since they registered)",
        )?;
        line("policies", &HumanCount(self.scopes), " (in force: the global one, and those of tenants)")?;
        line("threats", &HumanCount(self.threats), "")?;
        line(
            "orphans",
            &HumanCount(self.orphans),
            " (agents with a heartbeat but no registration; servers pass them over)",
        )?;
        line("corrupt records", &HumanCount(self.corrupt), "")?;
        match self.newest {
            Some(newest) => line("last saved", &newest, " (the newest heartbeat)")?,
            None => line("last saved", &"never", " (no heartbeat)")?,
        }
        match self.clock {
            Some(clock) => {
                line("clock", &Span(clock.since(ActiveTime::default())), " (time in which servers could hear)")
            }
            None => line("clock", &"not saved yet", ""),
        }
    }
}

/// A span for people: `3 d 4 h 5 min 6 s`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let parts =
            [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
        let first = parts.iter().position(|(number, _)| *number > 0).unwrap_or(parts.len() - 1);
        let parts: Vec<_> = parts[first..].iter().map(|(number, unit)| format!("{number} {unit}")).collect();
        f.write_str(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_table() {
        let report = CheckReport {
            location: "embedded:/data/store".into(),
            format: "3",
            agents: 10_000,
            last_heartbeats: 9_998,
            scopes: 3,
            threats: 12_345,
            orphans: 1,
            corrupt: 0,
            damage: 0,
            newest: Some(Timestamp::from_millis(1_772_885_100_000)),
            clock: Some(ActiveTime::from_micros(93_784_000_000)),
        };
        let expected = "\
store            embedded:/data/store
format           3
agents           10,000
last heartbeats  9,998
never heard      2 (agents without a heartbeat since they registered)
policies         3 (in force: the global one, and those of tenants)
threats          12,345
orphans          1 (agents with a heartbeat but no registration; servers pass them over)
corrupt records  0
last saved       2026-03-07T12:05:00.000Z (the newest heartbeat)
clock            1 d 2 h 3 min 4 s (time in which servers could hear)
";
        assert_eq!(report.to_string(), expected);
        let new = CheckReport { newest: None, clock: None, ..report }.to_string();
        assert!(new.ends_with("last saved       never (no heartbeat)\nclock            not saved yet\n"), "{new}");
    }

    #[test]
    fn a_span_begins_with_its_largest_unit() {
        let shown = |seconds| Span(Duration::from_secs(seconds)).to_string();
        assert_eq!((shown(0), shown(59), shown(3_600)), ("0 s".into(), "59 s".into(), "1 h 0 min 0 s".into()));
    }
}
