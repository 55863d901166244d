//! What Prometheus sees of the engine: gauges, set from the shards' own counters when somebody asks. No scan, whatever the
//! size of the fleet.

use metrics::gauge;

use super::{
    EngineHandle,
    messages::ShardLabels,
    shard::label_counts::{OTHER, most_frequent},
};
use crate::fleet::Status;

impl EngineHandle {
    /// Sets the gauges of the fleet and its store, given the label counts of each shard; to be called within
    /// [`crate::metrics::Metrics::render`]. Of label values, which clients choose, only the most frequent are shown.
    pub fn set_gauges(&self, shards: &[ShardLabels]) {
        let (fleet, clock, durability) = (self.counts(), self.clock(), self.durability());
        for status in Status::ALL {
            gauge!("guardbeat_agents", "status" => status.name()).set(fleet.with(status) as f64);
        }
        gauge!("guardbeat_store_dirty_agents").set(fleet.dirty as f64);
        gauge!("guardbeat_policy_version").set(self.policy_version().map_or(0.0, |newest| newest.get().into()));
        gauge!("guardbeat_store_up").set(if durability.is_up() { 1.0 } else { 0.0 });
        gauge!("guardbeat_store_flush_age_seconds").set(durability.progress.behind(clock.active_time()).as_secs_f64());
        gauge!("guardbeat_paused_seconds_total").set(clock.lost().as_secs_f64());
        let (threats, bytes) = self.threats_kept();
        gauge!("guardbeat_threats").set(threats as f64);
        gauge!("guardbeat_threats_bytes").set(bytes as f64);
        gauge!("guardbeat_threats_loaded").set(if self.threats_are_loaded() { 1.0 } else { 0.0 });
        for (name, label, of) in LABELS {
            let (mut values, other) = most_frequent(shards.iter().map(of));
            values.push((OTHER, other));
            self.metrics().set_by(name, label, &values);
        }
    }
}

type LabelOf = fn(&ShardLabels) -> &super::LabelCounts;
const LABELS: [(&str, &str, LabelOf); 3] = [
    ("guardbeat_agents_by_os", "os", |shard| &shard.os),
    ("guardbeat_agents_by_version", "version", |shard| &shard.version),
    ("guardbeat_agents_by_org", "org", |shard| &shard.org),
];

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        clock::Clock,
        fleet::ActiveTime,
        limits::LABEL_VALUES_MAX,
        metrics::Metrics,
        store::{Durability, MemoryStore},
    };

    fn label_counts(os: &[(&str, u64)], rest: u64) -> ShardLabels {
        ShardLabels {
            os: (os.iter().map(|(os, agents)| ((*os).into(), *agents)).collect(), rest),
            ..ShardLabels::default()
        }
    }

    /// What an engine without agents shows.
    fn render(metrics: Metrics, reports: &[&[ShardLabels]]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let clock = Clock::new(1, ActiveTime::default(), Duration::from_secs(1));
            let durability = Durability::start(Arc::<MemoryStore>::default(), 1, ActiveTime::default());
            let engine = EngineHandle::new(1, 1, durability, clock, Arc::new(metrics));
            let render = |shards| engine.metrics().render(Duration::ZERO, || engine.set_gauges(shards));
            reports.iter().copied().map(render).collect::<Vec<_>>().pop().unwrap()
        })
    }

    /// The lines that begin so after these reports, one after the other.
    fn lines(reports: &[&[ShardLabels]], start: &str) -> Vec<String> {
        let text = render(Metrics::new(), reports);
        let mut lines: Vec<_> = text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn label_values_are_summed_over_shards_and_bounded() {
        let many: Vec<_> = (0..30).map(|n| (format!("os-{n:02}"), 100 - n)).collect();
        let many: Vec<_> = many.iter().map(|(os, agents)| (os.as_str(), *agents)).collect();
        let shown = lines(&[&[label_counts(&many, 7), label_counts(&[("os-29", 1_000)], 0)]], "guardbeat_agents_by_os");
        assert_eq!(shown.len(), LABEL_VALUES_MAX + 1);
        assert!(shown.contains(&r#"guardbeat_agents_by_os{os="os-29"} 1071"#.to_owned()), "{shown:?}");
        let rest: u64 = (19..29).map(|n| 100 - n).sum::<u64>() + 7;
        assert!(shown.contains(&format!(r#"guardbeat_agents_by_os{{os="other"}} {rest}"#)), "{shown:?}");
    }

    #[test]
    fn a_value_that_left_the_most_frequent_is_no_longer_counted() {
        let (linux, darwin) = (label_counts(&[("linux", 3)], 0), label_counts(&[("darwin", 3)], 0));
        let shown = lines(&[&[linux], &[darwin]], r#"guardbeat_agents_by_os{os="linux"}"#);
        assert_eq!(shown, [r#"guardbeat_agents_by_os{os="linux"} 0"#]);
    }

    #[test]
    fn every_metric_of_ours_is_described() {
        let text = render(Metrics::new(), &[&[]]);
        let names =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split(' ').next());
        for name in names.filter(|name| name.starts_with("guardbeat")) {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has a help text");
        }
    }
}
