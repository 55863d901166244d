//! The Prometheus text format, read as far as the server writes it:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Scrape {
    samples: Vec<Sample>,
}

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    /// As they are written, from the brace on.
    labels: String,
    value: f64,
}

impl Scrape {
    /// Reads a page of metrics. Lines that are no samples are passed over.
    pub(crate) fn parse(text: &str) -> Self {
        Self { samples: text.lines().filter_map(Sample::parse).collect() }
    }

    /// The sum of all samples of this name that carry all of these labels; `None` without any.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.samples.iter().filter(|sample| sample.name == name && sample.has(labels)).peekable();
        found.peek()?;
        Some(found.map(|sample| sample.value).sum())
    }

    /// The processor time of the process that says this.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        self.sum("process_cpu_seconds_total", &[]).map(Duration::from_secs_f64)
    }

    /// The buckets of a histogram, over all its other labels.
    pub(crate) fn buckets(&self, name: &str) -> Buckets {
        let name = format!("{name}_bucket");
        let mut bounds: Vec<(f64, u64)> = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.name == name) {
            let Some(bound) = sample.label("le").and_then(number) else {
                continue;
            };
            let count = sample.value as u64;
            match bounds.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, total)) => *total += count,
                None => bounds.push((bound, count)),
            }
        }
        bounds.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Buckets(bounds)
    }
}

/// Cumulative counts by upper bound, in the unit of the metric.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Buckets(Vec<(f64, u64)>);

impl Buckets {
    pub(crate) fn count(&self) -> u64 {
        self.0.last().map_or(0, |(_, count)| *count)
    }

    /// What came since an earlier scrape of the same histogram.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| {
            let known = earlier.0.iter().find(|(known, _)| *known == bound);
            known.map_or(0, |(_, count)| *count)
        };
        Self(self.0.iter().map(|(bound, count)| (*bound, count.saturating_sub(before(*bound)))).collect())
    }

    /// The upper bound of the bucket in which this quantile lies: the true value is at most that.
    /// `None` without observations.
    pub(crate) fn quantile_at_most(&self, quantile: f64) -> Option<f64> {
        let rank = (quantile * self.count() as f64).ceil().max(1.0) as u64;
        self.0.iter().find(|(_, count)| *count >= rank).map(|(bound, _)| *bound)
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let name_end = line.find(['{', ' ', '\t'])?;
        let (name, rest) = line.split_at(name_end);
        // Values have neither braces nor spaces in them; those of labels may.
        let (labels, rest) = rest.rsplit_once('}').unwrap_or(("", rest));
        let value = number(rest.split_ascii_whitespace().next()?)?;
        (!name.starts_with('#')).then(|| Self { name: name.to_owned(), labels: labels.to_owned(), value })
    }

    /// The value of a label, as it is written.
    fn label(&self, name: &str) -> Option<&str> {
        let begin = |before: char| self.labels.find(&format!("{before}{name}=\"")).map(|at| at + name.len() + 3);
        let value = &self.labels[begin('{').or_else(|| begin(','))?..];
        Some(&value[..value.find('"')?])
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == Some(value))
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        other => other.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"
# HELP guardbeat_agents Agents by status.
# TYPE guardbeat_agents gauge
guardbeat_agents{status="online"} 990
guardbeat_agents{status="stale"} 1e1
guardbeat_up 1 1395066363000
guardbeat_info{version="a {b} c, d",os="linux"} 1
lag_seconds_bucket{le="0.1"} 98
lag_seconds_bucket{le="0.05"} 50
lag_seconds_bucket{le="+Inf"} 100
lag_seconds_sum 5.5
lag_seconds_count 100
nonsense
broken{x="y
"#;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let scrape = Scrape::parse(PAGE);
        assert_eq!(scrape.sum("guardbeat_agents", &[("status", "stale")]), Some(10.0));
        assert_eq!(scrape.sum("guardbeat_agents", &[]), Some(1000.0));
        assert_eq!(scrape.sum("guardbeat_agents", &[("status", "lost")]), None);
        assert_eq!(scrape.sum("guardbeat_up", &[]), Some(1.0));
        assert_eq!(scrape.sum("guardbeat_info", &[("os", "linux"), ("version", "a {b} c, d")]), Some(1.0));
    }

    #[test]
    fn a_quantile_is_the_upper_bound_of_its_bucket() {
        let buckets = Scrape::parse(PAGE).buckets("lag_seconds");
        for (quantile, bound) in [(0.0, 0.05), (0.5, 0.05), (0.51, 0.1), (0.98, 0.1), (0.99, f64::INFINITY)] {
            assert_eq!(buckets.quantile_at_most(quantile), Some(bound), "{quantile}");
        }
        assert_eq!(Buckets::default().quantile_at_most(0.5), None);
    }

    #[test]
    fn buckets_add_up_over_other_labels() {
        let page = "h_bucket{shard=\"0\",le=\"1\"} 2\nh_bucket{shard=\"1\",le=\"1\"} 3\n\
                    h_bucket{shard=\"0\",le=\"+Inf\"} 4\nh_bucket{shard=\"1\",le=\"+Inf\"} 4\n";
        let buckets = Scrape::parse(page).buckets("h");
        assert_eq!(buckets.count(), 8);
        assert_eq!(buckets.quantile_at_most(0.5), Some(1.0));
    }

    #[test]
    fn only_what_came_since_counts() {
        let earlier = Scrape::parse("h_bucket{le=\"1\"} 10\nh_bucket{le=\"+Inf\"} 10\n").buckets("h");
        let later = Scrape::parse("h_bucket{le=\"1\"} 11\nh_bucket{le=\"+Inf\"} 15\n").buckets("h");
        let new = later.since(&earlier);
        assert_eq!(new.count(), 5);
        assert_eq!(new.quantile_at_most(0.2), Some(1.0));
        assert_eq!(new.quantile_at_most(0.5), Some(f64::INFINITY));
        assert_eq!(earlier.since(&earlier).quantile_at_most(0.5), None);
    }
}
