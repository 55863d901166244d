//! How many connections this machine allows. Decisions are pure; what they rest on is read at the end.

use std::fs;

use anyhow::Context;

use crate::server::{Host, open_files_limit};
use crate::units;

/// Files of this client beside the connections of agents: those that register them, probes, logs.
const CLIENT_FILES: u64 = 200;
/// Files of a server beside them, and what it holds back: for its store and other listeners, and for each worker.
const SERVER_FILES: u64 = 200;
const WORKER_FILES: u64 = 128;
/// Ports that others may use meanwhile.
const PORTS: u64 = 1_000;
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const REUSE: &str = "/proc/sys/net/ipv4/tcp_tw_reuse";

/// What allows so many connections and no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bound {
    connections: u64,
    why: String,
}

impl Bound {
    fn of_files(of: &str, limit: Option<u64>, others: u64) -> Option<Self> {
        let limit = limit?;
        let why = format!(
            "the limit of open files of {of} is {}, of which {} are needed for others (`ulimit -Hn`)",
            units::count(limit),
            units::count(others)
        );
        Some(Self { connections: limit.saturating_sub(others), why })
    }

    /// `times` is how many connections there are for each agent until the system gives a port away again.
    fn of_ports(range: &str, times: u64) -> Option<Self> {
        let mut ends = range.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else { return None };
        let connections = (last + 1).saturating_sub(first + PORTS) / times;
        Some(Self {
            connections,
            why: format!("a connection has a port of its own on this side, of {first} to {last}"),
        })
    }
}

/// As many of these agents as all bounds allow, and why they are fewer, if they are.
pub(super) fn fit(agents: u64, bounds: &[Bound]) -> (u64, Option<String>) {
    match bounds.iter().min_by_key(|bound| bound.connections) {
        Some(bound) if bound.connections < agents => {
            let told = format!(
                "{} agents instead of {}: {}",
                units::count(bound.connections),
                units::count(agents),
                bound.why
            );
            (bound.connections, Some(told))
        }
        Some(_) | None => (agents, None),
    }
}

/// What bounds the connections to these servers, by their names; with `reconnect` all are opened a second time.
pub(super) fn bounds(sides: &[(&str, &Host)], reconnect: bool) -> anyhow::Result<Vec<Bound>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut bounds = Vec::new();
    bounds.extend(Bound::of_files("this client", open_files_limit(std::process::id())?, CLIENT_FILES));
    for (name, host) in sides {
        let others = SERVER_FILES + WORKER_FILES * cores;
        let limit = host.open_files_limit().with_context(|| format!("{name}: its limit of open files"))?;
        bounds.extend(Bound::of_files(&format!("the side `{name}`"), limit, others));
    }
    // Ports of closed connections: 0 keeps them for a minute, 2 gives them away on loopback.
    let reuse = fs::read_to_string(REUSE).unwrap_or_default();
    let times = if reconnect && reuse.trim() == "0" { 2 } else { 1 };
    bounds.extend(fs::read_to_string(PORT_RANGE).ok().and_then(|range| Bound::of_ports(&range, times)));
    Ok(bounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_as_many_as_the_narrowest_bound_allows() {
        let client = Bound::of_files("this client", Some(20_000), 200).expect("a bound");
        let server = Bound::of_files("the side `bare`", Some(1_024), 456).expect("a bound");
        assert_eq!(Bound::of_files("this client", None, 200), None);
        assert_eq!(fit(15_000, std::slice::from_ref(&client)), (15_000, None));
        assert_eq!(fit(5, &[]), (5, None));
        let (agents, why) = fit(15_000, &[client, server]);
        assert_eq!(agents, 568);
        let why = why.expect("fewer than were asked for");
        assert!(why.starts_with("568 agents instead of 15,000: the limit of open files of the side `bare` is 1,024"));
    }

    #[test]
    fn ports_are_as_many_as_the_range_has() {
        let ports = |range, times| Bound::of_ports(range, times).map(|bound| bound.connections);
        assert_eq!(ports("32768\t60999\n", 1), Some(27_232));
        assert_eq!(ports("32768\t60999\n", 2), Some(13_616));
        assert_eq!(ports("10 20", 1), Some(0));
        assert_eq!(ports("", 1), None);
    }
}
