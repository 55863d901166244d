//! What the run was done on.

use serde::Serialize;

/// The machine of this client, and of the server if it was started here.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Processors that this process may use.
    pub(crate) cores: usize,
    /// What they call themselves.
    pub(crate) processor: Option<String>,
    /// Memory in all.
    pub(crate) memory_mib: Option<u64>,
    /// Release of the kernel.
    pub(crate) kernel: Option<String>,
}

impl Machine {
    /// This one, as far as it tells.
    pub(super) fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: field(&read("/proc/cpuinfo"), "model name"),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal").and_then(|value| {
                let kib: u64 = value.strip_suffix("kB")?.trim().parse().ok()?;
                Some(kib / 1024)
            }),
            kernel: Some(read("/proc/sys/kernel/osrelease").trim().to_owned()).filter(|release| !release.is_empty()),
        }
    }
}

/// The value of the first `name: value`.
fn field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_names() {
        let text = "MemTotal:       24 kB\nmodel name\t: Some CPU: fast\n";
        assert_eq!(field(text, "MemTotal").as_deref(), Some("24 kB"));
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU: fast"));
        assert_eq!(field(text, "flags"), None);
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_mib.is_some_and(|memory| memory > 0));
    }
}
