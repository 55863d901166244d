//! Whether the user of the URL may do all that the server does.

use redis::{Value, aio::MultiplexedConnection};

use super::{
    error_class::{ErrorClass, NO_RIGHTS},
    keys::Keys,
};
use crate::{fleet::AgentId, store::StoreError};

/// Makes sure of the rights that nothing needs before the first report, the first deregistration, the first corrupt record.
///
/// A transaction checks them when a command is queued. This one ends with a command that is wrong in itself, so that Redis
/// does nothing of it.
pub(super) async fn must_suffice(connection: &mut MultiplexedConnection, keys: &Keys) -> Result<(), ErrorClass> {
    let partition = AgentId::new(0).partition();
    let (agents, threats, tenants) = (keys.agents(partition), keys.threats(""), keys.threat_tenants());
    let commands: [&[&str]; 15] = [
        &["HSET", &agents, "f", "v"],
        &["HDEL", &agents, "f"],
        &["HGETALL", &agents],
        &["HINCRBY", &keys.meta(), "commits", "1"],
        &["XADD", &threats, "*", "f", "v"],
        &["XRANGE", &threats, "-", "+"],
        &["XDEL", &threats, "0-1"],
        &["XTRIM", &threats, "MINID", "0"],
        &["SADD", &tenants, "m"],
        &["SMEMBERS", &tenants],
        &["RENAME", &tenants, &format!("{tenants}:corrupt")],
        // A script needs the rights of its commands too.
        &["EVAL", "return 0", "1", &keys.lease()],
        &["SET", &keys.lease(), "v"],
        &["PEXPIRE", &keys.lease(), "1"],
        &["DEL", &keys.lease()],
    ];
    let mut transaction = redis::pipe();
    transaction.cmd("MULTI");
    for command in commands {
        let (name, arguments) = command.split_first().expect("a command has a name");
        transaction.cmd(name).arg(arguments);
    }
    // Without a key: all is off.
    transaction.cmd("GET").cmd("EXEC");
    let answers = connection.send_packed_commands(&transaction, 0, transaction.len()).await?;
    let refused = answers.iter().find_map(|answer| match answer {
        Value::ServerError(error) if error.code() == "NOPERM" => Some(error.details().unwrap_or_default().to_owned()),
        _ => None,
    });
    match refused {
        Some(details) => Err(ErrorClass::Lasting(StoreError::unavailable(format_args!("{NO_RIGHTS} ({details})")))),
        None => Ok(()),
    }
}
