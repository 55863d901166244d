//! The ways to a Redis: TLS, a Unix socket, a numbered database, Sentinel.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::{on, start_refused, wait_until_registered};
use crate::support::{
    SOON, Server,
    redis::{RedisReply, RedisServer},
    wait_until,
};

/// An agent registers, and outlives the daemon.
fn works(server: Server, redis: &RedisServer) {
    let (id, _) = server.client().enrol("host");
    assert!(server.is_ready());
    wait_until_registered(redis, [&id]);
    outlive(server, &[id]);
}

fn outlive(mut server: Server, ids: &[String]) {
    server.kill9();
    let server = server.restart();
    for id in ids {
        server.client().get(&format!("/api/agents/{id}")).data(200);
    }
}

/// An authority, and a certificate that it signed for these names.
struct Certificates(TempDir);

impl Certificates {
    fn of(names: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        fs::write(folder.path().join("redis.pem"), certificate.pem()).unwrap();
        fs::write(folder.path().join("redis-key.pem"), key.serialize_pem()).unwrap();
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn redis(&self) -> RedisServer {
        RedisServer::launch().tls(&self.file("redis.pem"), &self.file("redis-key.pem")).start()
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn over_tls_with_an_authority_of_its_own() {
    let certificates = Certificates::of(&["127.0.0.1", "localhost"]);
    let redis = certificates.redis();
    let ca_file = text(&certificates.file("ca.pem"));
    works(on(redis.url()).env("GUARDBEAT_STORE__CA_FILE", &ca_file).start(), &redis);
}

#[test]
fn a_redis_that_nobody_vouches_for_is_refused() {
    let certificates = Certificates::of(&["127.0.0.1"]);
    let redis = certificates.redis();
    let quickly = ("GUARDBEAT_STORE__CONNECT_TIMEOUT_MS", "500");
    let why = start_refused(&redis.url(), &[quickly]);
    assert!(why.contains("certificate"), "{why}");
    // Signed by another.
    let others = Certificates::of(&["127.0.0.1"]);
    start_refused(&redis.url(), &[quickly, ("GUARDBEAT_STORE__CA_FILE", &text(&others.file("ca.pem")))]);
    // For another.
    let elsewhere = Certificates::of(&["redis.example"]);
    let why = start_refused(
        &elsewhere.redis().url(),
        &[quickly, ("GUARDBEAT_STORE__CA_FILE", &text(&elsewhere.file("ca.pem")))],
    );
    assert!(why.contains("certificate"), "{why}");
    // Without TLS.
    start_refused(&redis.url().replace("rediss:", "redis:"), &[quickly]);
}

#[test]
fn through_a_unix_socket() {
    let redis = RedisServer::launch().line("requirepass s%cret").start();
    let socket = text(&redis.socket());
    works(on(format!("redis+unix://{socket}?pass=s%25cret")).start(), &redis);
    redis.command(&["FLUSHALL"]);
    works(on(format!("unix://{socket}?db=0&user=default&pass=s%25cret")).start(), &redis);
}

#[test]
fn in_a_numbered_database() {
    let redis = RedisServer::start();
    let numbered = on(format!("{}/3", redis.url())).start();
    numbered.client().enrol("host");
    assert!(redis.info("db3").is_some() && redis.info("db0").is_none());
    // The same prefix in another database is another fleet.
    works(on(redis.url()).start(), &redis);
    assert_eq!(numbered.client().get("/api/agents").data(200).as_array().unwrap().len(), 1);
    assert!(numbered.is_ready());
}

#[test]
fn sentinels_say_who_is_primary_and_who_comes_after_it() {
    let primary = RedisServer::start();
    let replica = RedisServer::start();
    replica.replicate(&primary);
    let sentinel = RedisServer::launch()
        .sentinel()
        .line(format!("sentinel monitor fleet 127.0.0.1 {} 1", primary.port()))
        .line("sentinel down-after-milliseconds fleet 500")
        .line("sentinel failover-timeout fleet 5000")
        .start();
    wait_until(SOON, "the sentinel knows the replica", || {
        sentinel.command(&["SENTINEL", "REPLICAS", "fleet"]) != RedisReply::List(vec![])
    });
    // The first of them is not there.
    let url = format!("redis-sentinel://127.0.0.1:1,127.0.0.1:{}/fleet", sentinel.port());
    let server = on(url).start();
    let mut client = server.client();
    let (id, _) = client.enrol("before");

    primary.kill9();
    wait_until(SOON, "the daemon notices", || !server.is_ready());
    wait_until(SOON, "it goes on with the replica", || server.is_ready());
    let (late, _) = client.enrol("after");
    wait_until_registered(&replica, [&id, &late]);
    outlive(server, &[id, late]);
}
