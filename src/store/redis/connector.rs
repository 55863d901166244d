//! From a URL to a connection with the primary.

use std::{fmt::Display, path::Path, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates,
    aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{RedisSettings, error_class::ErrorClass};
use crate::config::redis_url::{RedisAddress, RedisUrl, Servers};
use crate::{process::named_file::without_byte_order_mark, store::StoreError};

/// Opens connections; each time anew, so that a name may lead to another server by then.
pub(super) struct Connector {
    url: RedisUrl,
    /// The authority that signed Redis' certificate, in PEM form; without one the system's are trusted.
    authority: Option<Vec<u8>>,
    timeout: Duration,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connector").field(&self.url).finish()
    }
}

impl Connector {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, StoreError> {
        let authority = settings.ca_file.as_deref().map(read_authority).transpose()?;
        Ok(Self { url: settings.url.clone(), authority, timeout: settings.timeout })
    }

    pub(super) fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// A connection with the server that is the primary now, as far as the URL or the sentinels know.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, ErrorClass> {
        match &self.url.servers {
            Servers::Direct(address) => self.open(address, self.login()).await,
            Servers::Sentinel { nodes, service } => {
                let primary = self.ask_sentinels(nodes, service).await?;
                self.open(&primary, self.login()).await
            }
        }
    }

    async fn ask_sentinels(&self, nodes: &[(String, u16)], service: &str) -> Result<RedisAddress, ErrorClass> {
        let mut reasons = Vec::new();
        for (host, port) in nodes {
            let address = RedisAddress::Tcp { host: host.clone(), port: *port };
            match self.ask_sentinel(&address, service).await {
                Ok(Some((host, port))) => return Ok(RedisAddress::Tcp { host, port }),
                Ok(None) => reasons.push(format!("{host}:{port} knows no service {service}")),
                Err(error) => reasons.push(format!("{host}:{port}: {error}")),
            }
        }
        Err(ErrorClass::Passing(format!("no sentinel could name the primary: {}", reasons.join("; "))))
    }

    /// Sentinels have no databases, and no password unless it is given to them; the one in the URL is Redis'.
    async fn ask_sentinel(&self, address: &RedisAddress, service: &str) -> Result<Option<(String, u16)>, ErrorClass> {
        let mut sentinel = self.open(address, RedisConnectionInfo::default()).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("get-master-addr-by-name").arg(service);
        Ok(ask.query_async(&mut sentinel).await?)
    }

    fn login(&self) -> RedisConnectionInfo {
        let mut login = RedisConnectionInfo::default().set_db(self.url.database).set_skip_set_lib_name();
        if let Some(username) = &self.url.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.url.password {
            login = login.set_password(password);
        }
        login
    }

    async fn open(
        &self,
        address: &RedisAddress,
        login: RedisConnectionInfo,
    ) -> Result<MultiplexedConnection, ErrorClass> {
        let address = match address {
            RedisAddress::Unix(path) => ConnectionAddr::Unix(path.clone()),
            RedisAddress::Tcp { host, port } if self.url.tls => {
                ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
            }
            RedisAddress::Tcp { host, port } => ConnectionAddr::Tcp(host.clone(), *port),
        };
        // A peer that has vanished without a word is noticed by the timeout of commands; nothing else is needed for it.
        let tcp = TcpSettings::default().set_nodelay(true);
        let whereto = address.into_connection_info()?.set_tcp_settings(tcp).set_redis_settings(login);
        let client = match &self.authority {
            Some(pem) => {
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) };
                Client::build_with_tls(whereto, certificates)?
            }
            None => Client::open(whereto)?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }
}

fn read_authority(path: &Path) -> Result<Vec<u8>, StoreError> {
    let wrong = |reason: &dyn Display| {
        StoreError::unavailable(format_args!("store.ca_file {} cannot be used: {reason}", path.display()))
    };
    let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
    let pem = without_byte_order_mark(&pem).to_vec();
    match CertificateDer::pem_slice_iter(&pem).next() {
        Some(Ok(_)) => Ok(pem),
        Some(Err(error)) => Err(wrong(&error)),
        None => Err(wrong(&"there is no certificate in PEM form in it")),
    }
}
