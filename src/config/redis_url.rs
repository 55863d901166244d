//! Where a Redis is, and who we are to it.
//!
//! ```text
//! redis://[[USER]:PASSWORD@]HOST[:6379][/DATABASE]                       rediss://… with TLS
//! redis-sentinel://[[USER]:PASSWORD@]HOST[:26379][,HOST…]/SERVICE[/DATABASE]     rediss-sentinel://… with TLS
//! redis+unix:///SOCKET[?db=DATABASE&user=USER&pass=PASSWORD]             or unix:///…
//! ```
//! User, password and the path of a socket may be percent-encoded, and must be where a character has a meaning.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt, net::Ipv6Addr, path::PathBuf, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;
/// What stands where a password is not shown.
const MASK: &str = "***";

/// Where a Redis is, and who we are to it. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(crate) servers: Servers,
    /// Whether everything goes over TLS.
    pub(crate) tls: bool,
    /// Never without a password.
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// 0 to 2,147,483,647.
    pub(crate) database: i64,
}

/// Who knows where the Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Servers {
    /// We do.
    Direct(RedisAddress),
    /// Sentinels do.
    Sentinel {
        /// Host and port of each; at least one. An IPv6 address is without its brackets.
        nodes: Vec<(String, u16)>,
        /// What they call the Redis.
        service: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RedisAddress {
    /// Over the network.
    Tcp {
        /// A name or an IP address; an IPv6 address is without its brackets.
        host: String,
        port: u16,
    },
    /// A socket of this machine; an absolute path.
    Unix(PathBuf),
}

/// What is wrong with the URL of a Redis, and what would be right. It has nothing of the URL in it: that could be part
/// of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// It begins with something else.
    #[error(
        "it must begin with `redis://`, `rediss://` (TLS), `redis-sentinel://`, `rediss-sentinel://` (TLS) or \
         `redis+unix://`"
    )]
    Scheme,
    /// A character that ends the host stands before the `@`.
    #[error("a `/`, `?` or `#` in a user's name or password must be written `%2F`, `%3F` or `%23`")]
    Unescaped,
    /// A percent sign that encodes nothing.
    #[error("a `%` must stand before two hexadecimal digits that encode a character; `%` itself is written `%25`")]
    Escape,
    /// A user or a password alone, without the colon that shows which it is.
    #[error("a colon must stand before the password: `redis://user:password@host`, or `redis://:password@host`")]
    Colon,
    /// Copied from where the password is not shown.
    #[error("`***` stands for a password that is not shown; put the password itself there")]
    Masked,
    /// No host, or none that could be one.
    #[error("its host must be a name, an IPv4 address, or an IPv6 address in brackets: `redis://[::1]:6379`")]
    Host,
    /// More than one host, and no Sentinel.
    #[error("it must have one host; several are Sentinel's: `redis-sentinel://host1:26379,host2:26379/service`")]
    Hosts,
    /// No port at all, or none that could be one.
    #[error("its port must be a number from 1 to 65535: `redis://host:6379`")]
    Port,
    /// No number of a database.
    #[error("its database must be a number from 0 to 2147483647: `redis://host:6379/0`")]
    Database,
    /// A query or a fragment.
    #[error(
        "nothing may follow the database: `redis://host:6379/0`; TLS is `rediss://…`, with store.ca_file if need be"
    )]
    Trailing,
    /// Sentinels, but not whom to ask them for.
    #[error(
        "the service that Sentinel knows must follow the hosts: `redis-sentinel://host:26379/service`, in letters, \
         digits, `.`, `_` and `-`"
    )]
    Service,
    /// No absolute path of a socket.
    #[error(
        "the path of a socket must begin with `/`, and who we are stands behind it: \
         `redis+unix:///run/redis.sock?db=0&user=name&pass=password`"
    )]
    Socket,
    /// Something else than what may stand there.
    #[error(
        "behind a socket only `db`, `pass`, and with it `user`, may stand, each once: \
         `redis+unix:///run/redis.sock?db=0&user=name&pass=password`"
    )]
    Options,
}

impl RedisUrl {
    /// Whether a URL of this scheme is meant for a Redis.
    pub(crate) fn has_scheme(scheme: &str) -> bool {
        matches!(scheme, "redis" | "rediss" | "redis-sentinel" | "rediss-sentinel" | "redis+unix" | "unix")
    }

    fn direct(rest: &str, tls: bool) -> Result<Self, RedisUrlError> {
        let Parts { username, password, hosts, path } = Parts::of(rest)?;
        if hosts.contains(',') {
            return Err(RedisUrlError::Hosts);
        }
        let (host, port) = host_and_port(hosts, PORT)?;
        let servers = Servers::Direct(RedisAddress::Tcp { host, port });
        Ok(Self { servers, tls, username, password, database: database(path)? })
    }

    fn sentinel(rest: &str, tls: bool) -> Result<Self, RedisUrlError> {
        let Parts { username, password, hosts, path } = Parts::of(rest)?;
        let nodes = hosts.split(',').map(|node| host_and_port(node, SENTINEL_PORT)).collect::<Result<_, _>>()?;
        let (service, number) = path.split_once('/').unwrap_or((path, ""));
        // What Sentinel itself allows in a name.
        if service.is_empty() || !service.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Err(RedisUrlError::Service);
        }
        let servers = Servers::Sentinel { nodes, service: service.into() };
        Ok(Self { servers, tls, username, password, database: database(number)? })
    }

    fn unix(rest: &str) -> Result<Self, RedisUrlError> {
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !path.starts_with('/') || path == "/" {
            return Err(RedisUrlError::Socket);
        }
        if rest.contains('#') {
            return Err(RedisUrlError::Unescaped);
        }
        let path = decoded(path)?;
        if path.contains('\0') {
            return Err(RedisUrlError::Socket);
        }
        let (mut number, mut user, mut pass) = (None, None, None);
        for option in query.split('&').filter(|option| !option.is_empty()) {
            let (place, value) = match option.split_once('=') {
                Some(("db", value)) => (&mut number, value),
                Some(("user", value)) => (&mut user, value),
                Some(("pass", value)) => (&mut pass, value),
                Some(_) | None => return Err(RedisUrlError::Options),
            };
            if place.replace(value).is_some() {
                return Err(RedisUrlError::Options);
            }
        }
        let (username, password) = match (user, pass) {
            (Some(_), None) => return Err(RedisUrlError::Options),
            (user, Some(pass)) => credentials(user.unwrap_or_default(), pass)?,
            (None, None) => (None, None),
        };
        let servers = Servers::Direct(RedisAddress::Unix(path.into()));
        Ok(Self { servers, tls: false, username, password, database: database(number.unwrap_or_default())? })
    }
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        match text.split_once("://") {
            Some(("redis", rest)) => Self::direct(rest, false),
            Some(("rediss", rest)) => Self::direct(rest, true),
            Some(("redis-sentinel", rest)) => Self::sentinel(rest, false),
            Some(("rediss-sentinel", rest)) => Self::sentinel(rest, true),
            Some(("redis+unix" | "unix", rest)) => Self::unix(rest),
            Some(_) | None => Err(RedisUrlError::Scheme),
        }
    }
}

/// What the URL of a server on the network consists of.
struct Parts<'a> {
    username: Option<String>,
    password: Option<String>,
    hosts: &'a str,
    /// Without the slash before it.
    path: &'a str,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Result<Self, RedisUrlError> {
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // The host is yet to come: what has ended the authority belongs to the password.
        if path.contains('@') {
            return Err(RedisUrlError::Unescaped);
        }
        if path.contains(['?', '#']) {
            return Err(RedisUrlError::Trailing);
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login.split_once(':').ok_or(RedisUrlError::Colon)?), hosts),
            None => (None, authority),
        };
        let (username, password) = match login {
            Some((user, password)) => credentials(user, password)?,
            None => (None, None),
        };
        Ok(Self { username, password, hosts, path: path.strip_prefix('/').unwrap_or(path) })
    }
}

/// User and password, if there are any.
fn credentials(user: &str, password: &str) -> Result<(Option<String>, Option<String>), RedisUrlError> {
    match (user, password) {
        ("", "") => Ok((None, None)),
        (_, MASK) => Err(RedisUrlError::Masked),
        ("", password) => Ok((None, Some(decoded(password)?))),
        (user, password) => Ok((Some(decoded(user)?), Some(decoded(password)?))),
    }
}

fn host_and_port(text: &str, default: u16) -> Result<(String, u16), RedisUrlError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']').ok_or(RedisUrlError::Host)?;
            ip.parse::<Ipv6Addr>().map_err(|_| RedisUrlError::Host)?;
            (ip, port)
        }
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let usable = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            // A colon in what follows: an IPv6 address without its brackets.
            if !(1..=253).contains(&host.len()) || !host.bytes().all(usable) || port.matches(':').count() > 1 {
                return Err(RedisUrlError::Host);
            }
            (host, port)
        }
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => number(digits).filter(|port| *port != 0).ok_or(RedisUrlError::Port)?,
        None if port.is_empty() => default,
        None => return Err(RedisUrlError::Host),
    };
    Ok((host.into(), port))
}

fn database(text: &str) -> Result<i64, RedisUrlError> {
    match text {
        "" => Ok(0),
        digits => number::<i32>(digits).map(i64::from).ok_or(RedisUrlError::Database),
    }
}

/// A number in digits alone: no sign.
fn number<T: FromStr>(digits: &str) -> Option<T> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn decoded(text: &str) -> Result<String, RedisUrlError> {
    let is_escape = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        return Err(RedisUrlError::Escape);
    }
    percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| RedisUrlError::Escape)
}

/// What does not mean itself wherever it stands in a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_IN_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// As in a URL: an IPv6 address in brackets.
fn joined(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.username.as_ref().map(|user| utf8_percent_encode(user, ENCODED).to_string());
        let database = self.database;
        let scheme = if self.tls { "rediss" } else { "redis" };
        let login = match (&user, &self.password) {
            (user, Some(_)) => format!("{}:{MASK}@", user.as_deref().unwrap_or_default()),
            (_, None) => String::new(),
        };
        match &self.servers {
            Servers::Direct(RedisAddress::Tcp { host, port }) => {
                write!(f, "{scheme}://{login}{}/{database}", joined(host, *port))
            }
            Servers::Sentinel { nodes, service } => {
                let nodes: Vec<_> = nodes.iter().map(|(host, port)| joined(host, *port)).collect();
                write!(f, "{scheme}-sentinel://{login}{}/{service}/{database}", nodes.join(","))
            }
            Servers::Direct(RedisAddress::Unix(path)) => {
                write!(
                    f,
                    "redis+unix://{}?db={database}",
                    utf8_percent_encode(&path.to_string_lossy(), ENCODED_IN_PATH)
                )?;
                if let Some(user) = user {
                    write!(f, "&user={user}")?;
                }
                if self.password.is_some() {
                    write!(f, "&pass={MASK}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}
