//! What the run was done on.

use procfs::{CpuInfo, Current, Meminfo};
use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Processors that this process may use.
    pub(crate) cores: usize,
    pub(crate) processor: Option<String>,
    pub(crate) memory_mib: Option<u64>,
    pub(crate) kernel: Option<String>,
}

impl Machine {
    pub(super) fn this() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: CpuInfo::current().ok().and_then(|info| info.model_name(0).map(str::to_owned)),
            memory_mib: Meminfo::current().ok().map(|memory| memory.mem_total / (1024 * 1024)),
            kernel: Some(release.trim().to_owned()).filter(|release| !release.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_processors_and_memory() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_mib.is_some_and(|memory| memory > 0));
    }
}
