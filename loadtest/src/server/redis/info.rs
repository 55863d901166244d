//! What a Redis says of itself: `INFO`, <https://redis.io/docs/latest/commands/info/>.

use std::time::Duration;

use anyhow::Context;

/// What a Redis has used and done since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Info {
    /// `used_memory`: what its allocator has handed out.
    pub(crate) memory_bytes: u64,
    /// User and system time of the process and its threads, and of the children that rewrite its
    /// append-only file.
    cpu: Duration,
    /// Commands carried out, those inside of transactions among them.
    commands: u64,
    /// Transactions carried out (`EXEC`).
    transactions: u64,
}

/// What a number of requests to a server meant to its Redis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Expense {
    /// Processor time for each, in microseconds.
    pub(crate) cpu_us: f64,
    /// Commands for a thousand.
    pub(crate) commands_per_1000: f64,
    /// Transactions for a thousand; their commands are counted above.
    pub(crate) transactions_per_1000: f64,
}

impl Info {
    /// Reads the answer to `INFO all`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_ascii_end)
        };
        let number = |name: &str| -> anyhow::Result<u64> {
            let value = field(name).with_context(|| format!("INFO of Redis has no {name}"))?;
            value.parse().with_context(|| format!("INFO of Redis has {name}:{value}, which is no number"))
        };
        let seconds = |name: &str| field(name).and_then(|value| value.parse::<f64>().ok());
        let mut cpu_s = 0.0;
        for name in ["used_cpu_user", "used_cpu_sys", "used_cpu_user_children", "used_cpu_sys_children"] {
            cpu_s += seconds(name).with_context(|| format!("INFO of Redis has no {name} in seconds"))?;
        }
        // A command that was never sent has no line.
        let transactions = match field("cmdstat_exec") {
            Some(statistics) => calls(statistics).context("INFO of Redis has no calls in cmdstat_exec")?,
            None => 0,
        };
        Ok(Self {
            memory_bytes: number("used_memory")?,
            cpu: Duration::from_secs_f64(cpu_s),
            commands: number("total_commands_processed")?,
            transactions,
        })
    }

    /// What happened since an earlier moment, shared out over so many requests; at least one.
    pub(crate) fn since(&self, earlier: &Self, requests: u64) -> Expense {
        let per_1000 = |now: u64, then: u64| now.saturating_sub(then) as f64 * 1e3 / requests as f64;
        Expense {
            cpu_us: self.cpu.saturating_sub(earlier.cpu).as_secs_f64() * 1e6 / requests as f64,
            commands_per_1000: per_1000(self.commands, earlier.commands),
            transactions_per_1000: per_1000(self.transactions, earlier.transactions),
        }
    }
}

/// `calls=3,usec=12,…`
fn calls(statistics: &str) -> Option<u64> {
    statistics.split(',').find_map(|part| part.strip_prefix("calls="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(cpu: &str, commands: u64, commandstats: &str) -> Info {
        let text = format!(
            "# Memory\r\nused_memory:916608\r\nused_memory_human:895.12K\r\n\r\n# Stats\r\n\
             total_commands_processed:{commands}\r\n\r\n# CPU\r\nused_cpu_sys:0.25\r\nused_cpu_user:{cpu}\r\n\
             used_cpu_sys_children:0.5\r\nused_cpu_user_children:0.25\r\nused_cpu_user_main_thread:9.0\r\n{commandstats}"
        );
        Info::parse(&text).expect("well-formed")
    }

    #[test]
    fn an_info_is_read_by_the_names_of_its_fields() {
        let read = info("1.0", 12, "# Commandstats\r\ncmdstat_exec:calls=7,usec=90,usec_per_call=12.86\r\n");
        let expected = Info { memory_bytes: 916_608, cpu: Duration::from_secs(2), commands: 12, transactions: 7 };
        assert_eq!(read, expected);
        assert_eq!(info("1.0", 12, "").transactions, 0);
    }

    #[test]
    fn what_happened_is_shared_out_over_the_requests() {
        let (before, after) = (info("1.0", 100, ""), info("1.5", 400, "cmdstat_exec:calls=30\r\n"));
        let expense = after.since(&before, 10_000);
        assert_eq!(expense, Expense { cpu_us: 50.0, commands_per_1000: 30.0, transactions_per_1000: 3.0 });
    }

    #[test]
    fn an_answer_without_the_figures_is_an_error_that_names_them() {
        let error = Info::parse("used_memory:1\r\n").expect_err("no processor time");
        assert!(error.to_string().contains("used_cpu_user"), "{error}");
    }
}
