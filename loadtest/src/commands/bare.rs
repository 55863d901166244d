//! `bare`: what a heartbeat costs when nothing is behind it.
//!
//! A plain actix-web `App` that reads the same request and answers the same bytes as the engine, but
//! keeps nothing, checks no token and asks no actor. It takes the cheapest way that is still plain
//! actix-web: the body as bytes and then serde, which is less than the `Json` extractor does.

use std::borrow::Cow;
use std::hint::black_box;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

/// As much as the engine takes.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// The agents of the baseline are numbered.
static REGISTERED: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Certificate chain (PEM), for TLS
    #[arg(long, requires = "tls_key", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, requires = "tls_cert", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Worker threads [default: one per core, as actix-web does]
    #[arg(long)]
    workers: Option<usize>,
    /// Open connections of each of them
    #[arg(long, default_value_t = 25_000, value_name = "NUMBER")]
    max_connections: usize,
    /// An idle connection is closed after this, as by the engine
    #[arg(long, default_value_t = 75_000, value_name = "MILLISECONDS")]
    keep_alive_ms: u64,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    actix_web::rt::System::new().block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let mut server = HttpServer::new(|| {
        App::new()
            .route("/api/agents/{id}/heartbeat", web::post().to(heartbeat))
            .app_data(web::PayloadConfig::new(MAX_BATCH_BYTES))
            .route("/api/agents/register", web::post().to(register))
            .route("/api/agents/{id}", web::delete().to(deregister))
            .route("/api/heartbeats", web::post().to(heartbeats))
            .route("/health", web::get().to(health))
    })
    .max_connections(args.max_connections)
    .keep_alive(Duration::from_millis(args.keep_alive_ms));
    if let Some(workers) = args.workers {
        server = server.workers(workers);
    }
    let (server, scheme) = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            let tls = server_config(certificate, key)?;
            (server.bind_rustls_0_23(args.listen, tls), "https")
        }
        _ => (server.bind(args.listen), "http"),
    };
    let server = server.with_context(|| format!("cannot listen on {}", args.listen))?;
    for address in server.addrs() {
        println!("listening on {scheme}://{address}");
    }
    server.run().await.context("the server failed")
}

fn server_config(certificate: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("--tls-cert {}: not a PEM certificate", certificate.display()))?;
    let key_der = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("--tls-key {}: not a PEM private key", key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .context("the certificate and the key do not go together")
}

/// The fields of a heartbeat. One more or less would not be seen in what is measured.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields are parsed, which is what is measured, and then dropped")]
struct Heartbeat<'a> {
    /// In a line of a batch: whose it is.
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    uptime: Option<f64>,
    cpu: Option<f64>,
    memory: Option<f64>,
    version: Option<String>,
    mode: Option<String>,
    events_processed: Option<u64>,
    threats_detected: Option<u64>,
    actions_executed: Option<u64>,
    #[serde(rename = "memoryUsageMB")]
    memory_usage_mb: Option<f64>,
}

async fn heartbeat(id: web::Path<String>, body: web::Bytes) -> HttpResponse {
    let Ok(heartbeat) = serde_json::from_slice::<Heartbeat<'_>>(&body) else {
        return answer(StatusCode::BAD_REQUEST, r#"{"ok":false,"error":"Invalid JSON"}"#.to_owned());
    };
    // Without this the compiler might see that nobody reads the fields.
    black_box(&heartbeat);
    let mut json = String::with_capacity(144);
    json.push_str(r#"{"ok":true,"data":{"id":""#);
    json.push_str(&id);
    json.push_str(r#"","status":"online","lastHeartbeat":"2026-03-07T12:05:00.000Z","pendingPolicies":0}}"#);
    answer(StatusCode::OK, json)
}

async fn heartbeats(body: web::Bytes) -> HttpResponse {
    let mut accepted = 0;
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(line) = serde_json::from_slice::<Heartbeat<'_>>(line) else {
            return answer(StatusCode::BAD_REQUEST, r#"{"ok":false,"error":"Invalid JSON"}"#.to_owned());
        };
        black_box(&line);
        accepted += 1;
    }
    answer(StatusCode::OK, format!(r#"{{"ok":true,"data":{{"accepted":{accepted},"rejected":[]}}}}"#))
}

async fn deregister() -> HttpResponse {
    answer(StatusCode::OK, r#"{"ok":true}"#.to_owned())
}

async fn register() -> HttpResponse {
    let number = REGISTERED.fetch_add(1, Ordering::Relaxed);
    // As long as a token of the server's, so that requests are of the same size.
    answer(
        StatusCode::CREATED,
        format!(
            r#"{{"ok":true,"data":{{"id":"agent-{number:016x}","hostname":"web-server-{number}","os":"linux","version":"1.2.0","ip":"127.0.0.1","tags":[],"status":"online","registeredAt":"2026-03-07T12:00:00.000Z"}},"agentId":"agent-{number:016x}","token":"{number:043}"}}"#
        ),
    )
}

async fn health() -> HttpResponse {
    answer(StatusCode::OK, r#"{"ok":true,"data":{"status":"healthy"}}"#.to_owned())
}

fn answer(status: StatusCode, json: String) -> HttpResponse {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .insert_header((REQUEST_ID, HeaderValue::from_static("3f0c9a52-7d1e-4b86-9c35-2ea8d6f41b07")))
        .insert_header((X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
        .insert_header((X_FRAME_OPTIONS, HeaderValue::from_static("DENY")))
        .insert_header((REFERRER_POLICY, HeaderValue::from_static("no-referrer")))
        .body(json)
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;

    use super::*;

    async fn beat(body: &'static str) -> (StatusCode, String) {
        let id = web::Path::from("agent-00f3a1b2c3d4e5f6".to_owned());
        let response = heartbeat(id, web::Bytes::from_static(body.as_bytes())).await;
        let status = response.status();
        let bytes = to_bytes(response.into_body()).await.expect("a body");
        (status, String::from_utf8(bytes.to_vec()).expect("UTF-8"))
    }

    #[tokio::test]
    async fn the_baseline_answers_what_the_contract_says() {
        let (status, body) = beat(r#"{"uptime":86400,"cpu":12.5,"memory":48.2}"#).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            body,
            r#"{"ok":true,"data":{"id":"agent-00f3a1b2c3d4e5f6","status":"online","lastHeartbeat":"2026-03-07T12:05:00.000Z","pendingPolicies":0}}"#
        );
    }

    #[tokio::test]
    async fn the_baseline_takes_batches_and_parses_each_line() {
        let send = async |body: &'static str| heartbeats(web::Bytes::from_static(body.as_bytes())).await;
        let response = send("{\"id\":\"agent-1\",\"cpu\":1}\n{\"id\":\"agent-2\"}\n").await;
        let body = to_bytes(response.into_body()).await.expect("a body");
        assert_eq!(body.as_ref(), br#"{"ok":true,"data":{"accepted":2,"rejected":[]}}"#);
        assert_eq!(send("{\"id\":\"agent-1\"}\n{\"cpu\":").await.status(), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn the_baseline_does_parse_the_body() {
        assert_eq!(beat(r#"{"uptime":"#).await.0, StatusCode::BAD_REQUEST);
        assert_eq!(beat(r#"{"memoryUsageMB":"x"}"#).await.0, StatusCode::BAD_REQUEST);
    }
}
