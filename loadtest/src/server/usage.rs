//! What a process uses of the machine.

use std::time::Duration;

use anyhow::Context;
use procfs::process::{LimitValue, Process};

/// Processor time of a process and all its threads, user and system.
pub(crate) fn cpu_time_of(pid: u32) -> anyhow::Result<Duration> {
    let stat = process(pid)?.stat()?;
    Ok(Duration::from_secs_f64((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64))
}

/// As [`cpu_time_of`], of this process.
pub(crate) fn own_cpu_time() -> anyhow::Result<Duration> {
    cpu_time_of(std::process::id())
}

pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let kib = process(pid)?.status()?.vmrss.with_context(|| format!("/proc/{pid}/status has no VmRSS"))?;
    Ok(kib * 1024)
}

/// How many files a process may open at most, if it raises its limit as far as it may; `None` if there is no limit.
pub(crate) fn open_files_limit(pid: u32) -> anyhow::Result<Option<u64>> {
    Ok(match process(pid)?.limits()?.max_open_files.hard_limit {
        LimitValue::Value(files) => Some(files),
        LimitValue::Unlimited => None,
    })
}

fn process(pid: u32) -> anyhow::Result<Process> {
    Process::new(i32::try_from(pid)?).with_context(|| format!("no process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        assert!(own_cpu_time().is_ok());
        assert!(resident_bytes(std::process::id()).expect("readable") > 0);
    }
}
