//! What a process uses of the machine, from `/proc`.

use std::time::Duration;

use anyhow::Context;

/// Processor time of a process and all its threads, user and system.
pub(crate) fn cpu_time_of(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("{path} is not as expected"))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// As [`cpu_time_of`], of this process.
pub(crate) fn own_cpu_time() -> anyhow::Result<Duration> {
    cpu_time_of(std::process::id())
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = vm_rss_kib(&status).with_context(|| format!("{path} has no VmRSS"))?;
    Ok(kib * 1024)
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)). The second field is the program's name in
/// parentheses and may itself contain spaces and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn vm_rss_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_behind_any_program_name() {
        let stat = "77 (a (b) c) S 1 77 77 0 -1 4194304 100 0 0 0 250 30 0 0 20 0 4 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(280));
        assert_eq!(cpu_ticks("77 (cut off"), None);
    }

    #[test]
    fn resident_memory_is_read_in_kibibytes() {
        assert_eq!(vm_rss_kib("Name:\tx\nVmRSS:\t   1234 kB\nThreads:\t1\n"), Some(1234));
        assert_eq!(vm_rss_kib("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        assert!(own_cpu_time().is_ok());
        assert!(resident_bytes(std::process::id()).expect("readable") > 0);
    }
}
