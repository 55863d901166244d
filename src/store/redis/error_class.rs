//! What Redis' errors mean to us, in words that say what to do.

use redis::RedisError;

use crate::{limits::REDIS_ERROR_MAX_CHARS, store::StoreError};

/// Why Redis cannot be used.
#[derive(Debug)]
pub(super) enum ErrorClass {
    /// It may be better in a moment.
    Passing(String),
    /// It takes nothing now, and answers all the same.
    Refusing(String),
    /// Redis is reading its own data; it answers when it is done.
    Loading,
    /// It stays so until somebody changes something.
    Lasting(StoreError),
}

impl From<RedisError> for ErrorClass {
    fn from(error: RedisError) -> Self {
        match code(&error) {
            Some("LOADING") => Self::Loading,
            Some("WRONGPASS" | "NOAUTH" | "NOPERM") => Self::Lasting(StoreError::unavailable(explained(&error))),
            Some("OOM" | "MISCONF" | "NOREPLICAS") => Self::Refusing(explained(&error)),
            _ if error.kind() == redis::ErrorKind::AuthenticationFailed => {
                Self::Lasting(StoreError::unavailable(explained(&error)))
            }
            _ => Self::Passing(explained(&error)),
        }
    }
}

impl std::fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Passing(reason) | Self::Refusing(reason) => f.write_str(reason),
            Self::Loading => f.write_str("Redis is loading its data from disk"),
            Self::Lasting(error) => error.fmt(f),
        }
    }
}

/// The error of a command on this key; one of another type than ours is named.
pub(super) fn of_key(key: String, error: RedisError) -> ErrorClass {
    if is_wrong_type(&error) {
        let what = format!(
            "the key {key} in Redis is of another type than Guardbeat's; rename it out of the way, or choose another \
             store.key_prefix"
        );
        return ErrorClass::Lasting(StoreError::Unavailable(what.into()));
    }
    error.into()
}

/// Whether the key has another type than it should.
pub(super) fn is_wrong_type(error: &RedisError) -> bool {
    code(error) == Some("WRONGTYPE")
}

/// Whether Redis refused the whole transaction, so that nothing of it was done.
pub(super) fn is_refusal(error: &RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::ExecAbort)
}

/// Whether the connection is still good for the next command: Redis refused, and will not refuse for ever.
pub(super) fn keeps_connection(error: &RedisError) -> bool {
    is_refusal(error) && matches!(code(error), Some("OOM" | "MISCONF" | "NOREPLICAS"))
}

/// The error's code. That of a transaction is what the first refused command was refused with.
fn code(error: &RedisError) -> Option<&'static str> {
    const CODES: &[&str] = &[
        "LOADING",
        "WRONGPASS",
        "NOAUTH",
        "NOPERM",
        "OOM",
        "READONLY",
        "MISCONF",
        "NOREPLICAS",
        "MASTERDOWN",
        "WRONGTYPE",
        "CROSSSLOT",
        "MOVED",
        "CLUSTERDOWN",
    ];
    if let Some(code) = CODES.iter().find(|code| error.code() == Some(**code)) {
        return Some(code);
    }
    // The reasons of an aborted transaction are only in its text.
    let text = error.to_string();
    CODES.iter().find(|code| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == **code)).copied()
}

/// What a user is told who may not do something.
pub(super) const NO_RIGHTS: &str =
    "the user in store.url may not do what is needed; docs/redis.md lists the commands to allow";

/// The error, and what to do about it.
pub(super) fn explained(error: &RedisError) -> String {
    let advice = match code(error) {
        Some("OOM") => "Redis has used up its maxmemory; raise it, or give the fleet a Redis of its own",
        Some("READONLY") => "this Redis is a read-only replica; store.url must lead to the primary",
        Some("MISCONF") => "Redis cannot write its snapshot; see its log, most often its disk is full",
        Some("NOREPLICAS") => "Redis wants more replicas than are connected (its min-replicas-to-write)",
        Some("MASTERDOWN") => "this Redis is a replica that has lost its primary; store.url must lead to the primary",
        Some("WRONGPASS") => "the user or the password in store.url is wrong",
        Some("NOAUTH") => "Redis wants a password; put it into store.url: redis://user:password@host",
        Some("NOPERM") => NO_RIGHTS,
        Some("CROSSSLOT" | "MOVED" | "CLUSTERDOWN") => "this is a node of a Redis Cluster, which is not supported",
        Some("LOADING") => "Redis is loading its data from disk",
        _ if error.is_timeout() => return "no answer in time (store.timeout_ms)".into(),
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => "the user or the password in store.url is wrong",
        _ => return error.to_string(),
    };
    let text: String = error.to_string().chars().take(REDIS_ERROR_MAX_CHARS).collect();
    format!("{advice} ({text})")
}
