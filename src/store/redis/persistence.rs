//! What this Redis does to keep what it acknowledges, and where that is not enough.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;

use super::server::ServerInfo;

/// The settings of a Redis that decide what it may lose. None: unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Persistence {
    append_only: Option<bool>,
    append_fsync: Option<String>,
    pauses_for_rewrites: bool,
    max_memory: Option<u64>,
    max_memory_policy: Option<String>,
    replicas: u64,
}

impl Persistence {
    /// Asks for them. A Redis that keeps its configuration to itself still tells some of them otherwise.
    pub(super) async fn of(connection: &mut MultiplexedConnection, info: &ServerInfo) -> Self {
        let mut get = redis::cmd("CONFIG");
        get.arg("GET").arg("*appendfsync*");
        // Managed services refuse CONFIG; that is no reason not to use them.
        let settings: HashMap<String, String> = get.query_async(connection).await.unwrap_or_default();
        Self {
            append_only: info.get("aof_enabled").map(|enabled| enabled == "1"),
            append_fsync: settings.get("appendfsync").cloned(),
            pauses_for_rewrites: settings.get("no-appendfsync-on-rewrite").is_some_and(|value| value == "yes"),
            max_memory: info.number("maxmemory"),
            max_memory_policy: info.get("maxmemory_policy").map(str::to_owned),
            replicas: info.number("connected_slaves").unwrap_or_default(),
        }
    }

    /// What may go wrong with these settings, and what would be better.
    pub(super) fn warnings(&self, min_replicas: u32) -> Vec<String> {
        let mut warnings = Vec::new();
        match (self.append_only, self.append_fsync.as_deref()) {
            (Some(false), _) => warnings.push(
                "Redis keeps no log of writes (appendonly no): if it crashes, everything since its last snapshot is gone \
                 from it. Set appendonly yes"
                    .to_owned(),
            ),
            (Some(true), Some("no")) => warnings.push(
                "Redis leaves it to the system when its log is written (appendfsync no): a power cut may cost it half a \
                 minute of acknowledged registrations. Set appendfsync everysec or always"
                    .to_owned(),
            ),
            (Some(true), Some("everysec")) => warnings.push(
                "Redis writes its log once a second (appendfsync everysec): if it and Guardbeat crash together, up to two \
                 seconds of acknowledged registrations may be lost. Set appendfsync always to exclude that"
                    .to_owned(),
            ),
            (Some(true), Some(_)) if self.pauses_for_rewrites => warnings.push(
                "Redis does not wait for the disk while it rewrites its log (no-appendfsync-on-rewrite yes): if it and \
                 Guardbeat crash together then, acknowledged registrations may be lost. Set no-appendfsync-on-rewrite no"
                    .to_owned(),
            ),
            (Some(true), Some(_)) => {}
            (Some(true), None) => warnings.push(
                "Redis does not tell when its log is written (CONFIG GET appendfsync is refused); docs/redis.md says what \
                 each setting means"
                    .to_owned(),
            ),
            (None, _) => warnings.push("Redis does not tell whether it keeps a log of writes (appendonly)".to_owned()),
        }
        if let (Some(limit @ 1..), Some(policy)) = (self.max_memory, &self.max_memory_policy)
            && policy != "noeviction"
        {
            let what = if policy.starts_with("volatile-") {
                "the lease of the fleet, which keeps a second server out, could vanish"
            } else {
                "parts of the fleet could vanish"
            };
            warnings.push(format!(
                "Redis throws keys away when its memory of {limit} bytes is full (maxmemory-policy {policy}): {what}. Set \
                 maxmemory-policy noeviction"
            ));
        }
        if self.replicas < u64::from(min_replicas) {
            warnings.push(format!(
                "Redis has {} of the {min_replicas} replicas that store.min_replicas asks for: registrations and \
                 deregistrations are refused until it has them",
                self.replicas
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe() -> Persistence {
        Persistence {
            append_only: Some(true),
            append_fsync: Some("always".into()),
            pauses_for_rewrites: false,
            max_memory: Some(1),
            max_memory_policy: Some("noeviction".into()),
            replicas: 1,
        }
    }

    #[test]
    fn safe_settings_are_not_warned_of() {
        assert_eq!(safe().warnings(1), Vec::<String>::new());
        // Without a limit nothing is thrown away.
        let unlimited = Persistence { max_memory: Some(0), max_memory_policy: Some("allkeys-lru".into()), ..safe() };
        assert_eq!(unlimited.warnings(0), Vec::<String>::new());
    }

    #[test]
    fn each_unsafe_setting_is_named_with_what_would_be_better() {
        let warned = |persistence: Persistence, replicas, words: [&str; 2]| {
            let warnings = persistence.warnings(replicas);
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(words.iter().all(|word| warnings[0].contains(word)), "{warnings:?}");
        };
        warned(Persistence { append_only: Some(false), ..safe() }, 0, ["appendonly no", "appendonly yes"]);
        let fsync = |value: &str| Persistence { append_fsync: Some(value.into()), ..safe() };
        warned(fsync("no"), 0, ["appendfsync no", "everysec or always"]);
        warned(fsync("everysec"), 0, ["two seconds", "appendfsync always"]);
        warned(Persistence { append_fsync: None, ..safe() }, 0, ["refused", "docs/redis.md"]);
        let pausing = Persistence { pauses_for_rewrites: true, ..safe() };
        warned(pausing, 0, ["no-appendfsync-on-rewrite yes", "no-appendfsync-on-rewrite no"]);
        let evicting = Persistence { max_memory_policy: Some("allkeys-lru".into()), ..safe() };
        warned(evicting, 0, ["allkeys-lru", "noeviction"]);
        // Nothing of ours has an expiry but the lease.
        let evicting_leases = Persistence { max_memory_policy: Some("volatile-ttl".into()), ..safe() };
        warned(evicting_leases, 0, ["volatile-ttl", "lease"]);
        warned(safe(), 2, ["1 of the 2 replicas", "store.min_replicas"]);
    }
}
