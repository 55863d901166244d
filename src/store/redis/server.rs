//! What a Redis reports of itself and of its clients.

use std::collections::HashMap;

use redis::{RedisResult, aio::MultiplexedConnection};

use super::error_class::ErrorClass;
use crate::store::StoreError;

/// The answer of `INFO`.
#[derive(Debug)]
pub(super) struct ServerInfo {
    facts: HashMap<String, String>,
}

impl ServerInfo {
    pub(super) async fn of(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        let text: String = redis::cmd("INFO").query_async(connection).await?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let facts = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self { facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Whether it started so lately that clients of before may not have come back yet.
    pub(super) fn has_just_started(&self) -> bool {
        self.number("uptime_in_seconds").is_some_and(|uptime| uptime < 10)
    }

    /// Whether a fleet can be kept here, now.
    pub(super) fn must_be_usable(&self) -> Result<(), ErrorClass> {
        let lasting = |reason: &str| Err(ErrorClass::Lasting(StoreError::Unavailable(reason.into())));
        if self.get("loading") == Some("1") {
            return Err(ErrorClass::Loading);
        }
        if self.get("cluster_enabled") == Some("1") {
            return lasting(
                "this is a node of a Redis Cluster, which is not supported; use a single Redis, with replicas if need be",
            );
        }
        let version = self.get("redis_version").unwrap_or_default();
        let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
        if (numbers.next(), numbers.next()) < (Some(6), Some(2)) {
            return lasting(&format!("Redis {version} is too old; 6.2 or later is needed"));
        }
        match self.get("role") {
            Some("slave") => Err(ErrorClass::Passing(
                "this Redis is a read-only replica; store.url must lead to the primary".to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

/// A client of Redis with a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamedClient {
    pub(super) id: u64,
    pub(super) name: String,
}

/// The clients whose names begin with `prefix`, in the database `database`.
pub(super) async fn clients(
    connection: &mut MultiplexedConnection,
    prefix: &str,
    database: i64,
) -> RedisResult<Vec<NamedClient>> {
    let text: String = redis::cmd("CLIENT").arg("LIST").query_async(connection).await?;
    Ok(parse_clients(&text, prefix, database))
}

fn parse_clients(text: &str, prefix: &str, database: i64) -> Vec<NamedClient> {
    let client = |line: &str| {
        let facts: HashMap<&str, &str> = line.split(' ').filter_map(|fact| fact.split_once('=')).collect();
        let name = facts.get("name").filter(|name| name.starts_with(prefix))?;
        facts.get("db").filter(|db| db.parse() == Ok(database))?;
        Some(NamedClient { id: facts.get("id")?.parse().ok()?, name: (*name).to_owned() })
    };
    text.lines().filter_map(client).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usable(lines: &[&str]) -> Result<(), String> {
        let text = format!("# Server\r\nredis_version:7.0.15\r\n{}\r\n", lines.join("\r\n"));
        ServerInfo::parse(&text).must_be_usable().map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_primary_of_a_known_version_that_has_loaded_is_usable() {
        assert_eq!(usable(&["role:master", "loading:0", "cluster_enabled:0"]), Ok(()));
        assert!(usable(&["role:slave"]).unwrap_err().contains("replica"));
        assert!(usable(&["role:master", "loading:1"]).unwrap_err().contains("loading"));
        assert!(usable(&["role:master", "cluster_enabled:1"]).unwrap_err().contains("Cluster"));
        assert!(usable(&["redis_version:6.0.16"]).unwrap_err().contains("too old"));
        assert_eq!(usable(&["redis_version:6.2.0", "role:master"]), Ok(()));
        assert_eq!(usable(&["redis_version:10.0.0", "role:master"]), Ok(()));
    }

    #[test]
    fn our_clients_are_found_by_name_and_database() {
        let text = "id=3 addr=127.0.0.1:1 name=guardbeat/a:/x/1 db=0 cmd=get\nid=4 name=guardbeat/a:/x/2 db=1\n\
                    id=5 name=other db=0\nid=6 name= db=0\n";
        let found = parse_clients(text, "guardbeat/a:/", 0);
        assert_eq!(found, [NamedClient { id: 3, name: "guardbeat/a:/x/1".into() }]);
    }
}
