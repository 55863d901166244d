//! The composition root: builds the parts, starts them, and brings them to an end.

pub mod admin_token;
pub mod banner;
mod drain;
pub mod error;
pub mod listener;
pub mod loading;
pub mod preflight;
pub mod tls;

use std::{
    io::{self, IsTerminal},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_http::Response;
use actix_server::{Server, ServerHandle};
use actix_service::{IntoServiceFactory, Service as _, ServiceFactoryExt};
use actix_web::{App, middleware::Condition, web};
use futures_util::TryFutureExt as _;

use self::{
    admin_token::AdminToken,
    error::{Failed, ServeError},
    listener::listen,
    loading::damaged,
    preflight::Preflight,
    tls::{ExpiryWatch, Tickets, Tls},
};
use crate::{
    api::{
        Admission, ApiState, AuthRules, Direct, FastPath, Listener, RequestLog, complete, lifecycle::Lifecycle,
        refuse_unparsed, route, route_operations,
    },
    clock::Clock,
    config::{Config, LivenessConfig, ThreatsConfig},
    engine::{EngineHandle, LivenessRules, ShardActor, start_threat_log},
    events::{Bus, EventRules},
    fleet::{ActiveTime, Thresholds},
    front::{self, Cut, FrontMetrics, FrontParts, FrontRules},
    limits::{OPERATIONS_CONNECTIONS_MAX, RESTART_SPREAD_DIVISOR, RESTART_SPREAD_MAX_MS, SHARD_CHECK_MS, UPKEEP_MS},
    metrics::Metrics,
    process::{
        descriptors::connections_per_worker,
        output, private_file,
        signals::Signals,
        supervision::{Task, restarted},
    },
    store::{Durability, FlushRules, Loaded, WriteBehind, open},
    threats::Retention,
};

/// Runs the server until a signal stops it.
pub async fn serve(mut config: Config) -> Result<(), Failed> {
    // Before anything is opened. Whoever accepts connections keeps to this one value.
    config.server.max_connections = connections_per_worker(config.server.workers, config.server.max_connections)
        .map_err(|error| Failed::ToStart(error.into()))?;
    let mut signals = Signals::listen().map_err(|error| Failed::ToStart(error.into()))?;
    let found = Preflight::check(&config);
    for warning in &found.warnings {
        tracing::warn!("{warning}");
    }
    found.errors().map_err(|errors| Failed::ToStart(errors.into()))?;
    // A Redis may be waited for.
    let parts = tokio::select! {
        built = Parts::build(config) => built.map_err(Failed::ToStart)?,
        () = signals.next() => return Ok(()),
    };
    let running = parts.start().map_err(Failed::ToStart)?;
    tokio::select! {
        ended = running.run() => return ended,
        () = signals.next() => {}
    }
    tokio::select! {
        ended = running.drain() => ended.map_err(Failed::InService),
        () = signals.next() => {
            tracing::warn!("told to stop a second time: ending at once");
            output::exit(130);
        }
    }
}

/// Everything, built and not yet started.
struct Parts {
    config: Config,
    api: TcpListener,
    operations: TcpListener,
    tls: Option<Tls>,
    engine: EngineHandle,
    admin_token: AdminToken,
    rules: LivenessRules,
    flush: FlushRules,
}

impl Parts {
    async fn build(config: Config) -> Result<Self, ServeError> {
        let data_dir = &config.server.data_dir;
        if config.needs_data_dir() {
            let failed = |error| ServeError::DataDir { path: data_dir.clone(), error };
            private_file::create_folder(data_dir).map_err(failed)?;
        }
        let listen = |key, address| listen(address).map_err(|error| ServeError::Listen { address, key, error });
        let api = listen("server.listen", config.server.listen)?;
        let operations = listen("metrics.listen", config.metrics.listen)?;
        let admin_token = AdminToken::find(&config.auth, data_dir)?;

        let store = open::open(&config.store, data_dir).await?;
        let base = store.clock().await?.unwrap_or_default();
        let rules = liveness_rules(&config.liveness);
        let clock = Clock::new(config.server.workers, base, Duration::from_millis(config.liveness.grace_ms));
        let tls = Tls::new(&config.tls, data_dir, config.server.listen.ip(), clock.wall())?;
        let engine = EngineHandle::new(
            config.server.workers,
            config.limits.max_agents,
            Durability::start(store, config.server.workers, base),
            clock,
            Arc::new(Metrics::new()),
        );
        if let Some(tls) = &tls {
            engine.metrics().certificate_expires(tls.expires);
        }
        let flush = FlushRules {
            interval: Duration::from_millis(config.store.flush_interval_ms),
            clock_from: clock_from(base, &rules),
            shard: 0,
            shards: config.server.workers,
        };
        Ok(Self { config, api, operations, tls, engine, admin_token, rules, flush })
    }

    fn start(self) -> Result<Running, ServeError> {
        self.engine.attach_threat_log(start_threat_log(self.engine.threat_log_parts(retention(&self.config.threats)))?);
        let lifecycle = Arc::new(Lifecycle::default());
        let rules = EventRules { backlog: self.config.events.backlog, max_streams: self.config.events.max_streams };
        let events = Bus::new(rules, self.engine.changes().clone(), self.engine.metrics().clone());
        let proxies = self.config.server.trusted_proxies.clone();
        let request_log = RequestLog::new(
            self.engine.metrics().clone(),
            self.engine.clock().clone(),
            proxies,
            self.config.server.forwarded_header,
        );
        let state = web::Data::new(ApiState {
            engine: self.engine.clone(),
            events: events.clone(),
            auth: AuthRules {
                admin_token: self.admin_token.hash,
                open_enrollment: self.config.auth.open_enrollment.clone(),
            },
            trusted_proxies: self.config.server.trusted_proxies.clone(),
            request_log: request_log.clone(),
            forwarded_header: self.config.server.forwarded_header,
            lifecycle: lifecycle.clone(),
            started: self.engine.clock().monotonic(),
        });
        let addresses = (self.api.local_addr()?, self.operations.local_addr()?);
        let front = FrontMetrics::new(self.engine.metrics().counters(
            "guardbeat_connections_cut_total",
            "reason",
            Cut::ALL.map(Cut::name),
        ));
        let operations = self.operations_server(state.clone(), lifecycle.clone(), &front)?;
        let api = self.api_server(state, lifecycle.clone(), &front)?;
        let running = Running {
            api: api.handle(),
            operations: operations.handle(),
            addresses,
            lifecycle,
            front,
            events: events.clone(),
            engine: self.engine,
            config: self.config,
            tls: self.tls,
            admin_token: self.admin_token,
        };
        actix_rt::spawn(api);
        actix_rt::spawn(operations);
        let (metrics, clock) = (running.engine.metrics().clone(), running.engine.clock().clone());
        let tls = running.tls.as_ref().map(|tls| (ExpiryWatch::new(tls.expires), tls.tickets.clone()));
        let upkeep_clock = clock.clone();
        actix_rt::spawn(restarted(Task::Upkeep, move || {
            upkeep(metrics.clone(), request_log.clone(), upkeep_clock.clone(), tls.clone())
        }));
        actix_rt::spawn(restarted(Task::Collector, move || events.clone().collect(clock.clone())));
        Ok(running)
    }

    /// The main listener. Its worker threads are the homes of the shards.
    fn api_server(
        &self,
        state: web::Data<ApiState>,
        lifecycle: Arc<Lifecycle>,
        front: &FrontMetrics,
    ) -> Result<Server, ServeError> {
        let server = &self.config.server;
        let admission = Admission {
            lifecycle,
            request_log: state.request_log.clone(),
            listener: Listener::Api,
            max_in_flight: self.config.limits.max_in_flight,
            tls: self.tls.is_some(),
            always_open: &["/health", "/metrics"],
        };
        let origins = server.cors_allowed_origins.clone();
        let shards =
            ShardStarter { next: Arc::default(), engine: self.engine.clone(), rules: self.rules, flush: self.flush };
        let parts = self.front_parts(&state.request_log, front, self.tls.is_some());
        let make = move || {
            // Called once on each worker thread.
            shards.start_next();
            let app = App::new()
                .app_data(state.clone())
                .default_service(web::to(route))
                .wrap(Condition::new(!origins.is_empty(), cors(&origins)))
                .wrap_fn(|request, app| app.call(request).map_ok(complete));
            let in_flight = admission.lifecycle.add_worker();
            let direct = Direct::new(state.clone(), admission.clone(), in_flight.clone());
            (admission.clone().around(FastPath::before(app.into_factory(), state.clone()), in_flight), Some(direct))
        };
        let rules = FrontRules {
            max_connections: server.max_connections,
            keep_alive: Duration::from_millis(server.keep_alive_ms),
            tls: self.tls.as_ref().map(|tls| tls.server.clone().into()),
        };
        let builder = Server::build().workers(server.workers).shutdown_timeout(1).disable_signals();
        Ok(front::serve(builder, self.api.try_clone()?, rules, parts, make)?)
    }

    /// The listener for those who run the server: a worker of its own, so that it answers whatever the others do.
    fn operations_server(
        &self,
        state: web::Data<ApiState>,
        lifecycle: Arc<Lifecycle>,
        front: &FrontMetrics,
    ) -> Result<Server, ServeError> {
        let admission = Admission {
            lifecycle,
            request_log: state.request_log.clone(),
            listener: Listener::Operations,
            max_in_flight: self.config.limits.max_in_flight,
            tls: false,
            always_open: &["/metrics", "/livez", "/readyz"],
        };
        let parts = self.front_parts(&state.request_log, front, false);
        let make = move || {
            let app = App::new().app_data(state.clone()).default_service(web::to(route_operations));
            let in_flight = admission.lifecycle.add_worker();
            (admission.clone().around(app.into_factory().map(Response::from), in_flight), None::<Direct>)
        };
        let rules = FrontRules {
            max_connections: OPERATIONS_CONNECTIONS_MAX,
            keep_alive: Duration::from_millis(self.config.server.keep_alive_ms),
            tls: None,
        };
        let builder = Server::build().workers(1).shutdown_timeout(0).disable_signals();
        Ok(front::serve(builder, self.operations.try_clone()?, rules, parts, make)?)
    }

    fn front_parts(&self, log: &RequestLog, metrics: &FrontMetrics, tls: bool) -> FrontParts {
        let refuse = refuse_unparsed(log.clone(), tls);
        FrontParts { clock: self.engine.clock().clone(), metrics: metrics.clone(), refuse }
    }
}

/// Starts the shards, each on the worker thread that calls.
#[derive(Clone)]
struct ShardStarter {
    next: Arc<AtomicUsize>,
    engine: EngineHandle,
    rules: LivenessRules,
    flush: FlushRules,
}

impl ShardStarter {
    fn start_next(&self) {
        let index = self.next.fetch_add(1, Relaxed);
        // More often than there are shards only if a worker makes its services anew: it has its shard already.
        if index < self.flush.shards {
            let shard = self.engine.new_shard(index, self.rules);
            let rules = FlushRules { shard: index, ..self.flush };
            let write_behind = WriteBehind::new(
                shard.clone(),
                self.engine.durability().clone(),
                self.engine.clock().clone(),
                self.engine.metrics().clone(),
                rules,
            );
            self.engine.attach(index, ShardActor::start(shard, write_behind));
        }
    }
}

/// The server at work.
struct Running {
    api: ServerHandle,
    operations: ServerHandle,
    addresses: (SocketAddr, SocketAddr),
    lifecycle: Arc<Lifecycle>,
    front: FrontMetrics,
    events: Bus,
    engine: EngineHandle,
    config: Config,
    tls: Option<Tls>,
    admin_token: AdminToken,
}

impl Running {
    /// Loads the fleet and is in service until a shard panics.
    async fn run(&self) -> Result<(), Failed> {
        let mut threats = self.load_fleet().await.map_err(Failed::ToStart)?;
        while self.engine.is_intact() {
            tokio::select! {
                damage = &mut threats => return Err(Failed::InService(damaged(damage))),
                () = tokio::time::sleep(Duration::from_millis(SHARD_CHECK_MS)) => {}
            }
        }
        Err(Failed::InService(ServeError::ShardPanicked))
    }

    fn banner(&self, loaded: Loaded) -> banner::Banner<'_> {
        banner::Banner {
            api: self.addresses.0,
            operations: self.addresses.1,
            data_dir: self.config.needs_data_dir().then_some(self.config.server.data_dir.as_path()),
            store: &self.config.store.url,
            agents: loaded.agents,
            tls: self.tls.is_some(),
            ca_file: self.tls.as_ref().and_then(|tls| tls.ca_file.as_deref()),
            token_file: self.admin_token.file.as_deref(),
            // Elsewhere it would be kept with what is logged.
            new_token: self.admin_token.fresh.as_deref().filter(|_| io::stdout().is_terminal()),
        }
    }
}

fn retention(config: &ThreatsConfig) -> Retention {
    Retention { max_age_ms: config.retention_days * 86_400_000, max_bytes: config.max_bytes_per_tenant }
}

async fn upkeep(
    metrics: Arc<Metrics>,
    request_log: RequestLog,
    clock: Clock,
    mut tls: Option<(ExpiryWatch, Arc<Tickets>)>,
) {
    loop {
        if let Some(days_left) = tls.as_mut().and_then(|(expiry, _)| expiry.days_left(clock.wall())) {
            tracing::warn!(
                days_left,
                "the certificate that clients are shown, or one that signs it, is about to expire or has expired: clients \
                 refuse it then"
            );
        }
        tokio::time::sleep(Duration::from_millis(UPKEEP_MS)).await;
        metrics.upkeep();
        request_log.upkeep();
        if let Some((_, tickets)) = &tls {
            tickets.rotate();
        }
    }
}

/// How silence is judged under this configuration.
pub(crate) fn liveness_rules(config: &LivenessConfig) -> LivenessRules {
    let stale_after_ms = config.timeout_ms + config.grace_ms;
    LivenessRules {
        thresholds: Thresholds {
            stale_after: Duration::from_millis(stale_after_ms),
            offline_after: Duration::from_millis(config.offline_after_ms),
        },
        restart_grace: Duration::from_millis(config.restart_grace_ms),
        restart_spread: Duration::from_millis((stale_after_ms / RESTART_SPREAD_DIVISOR).min(RESTART_SPREAD_MAX_MS)),
    }
}

/// When a run that began at `base` has outlived its restart grace: see [`WriteBehind`].
pub(crate) fn clock_from(base: ActiveTime, rules: &LivenessRules) -> ActiveTime {
    base.after(rules.restart_grace + rules.restart_spread)
}

fn cors(origins: &[String]) -> actix_cors::Cors {
    let cors = actix_cors::Cors::default()
        .allowed_methods(["GET", "POST", "DELETE"])
        .allowed_headers(["authorization", "content-type", "if-none-match", "last-event-id", "x-request-id"])
        .expose_headers(["x-request-id", "retry-after", "etag"])
        .max_age(3_600);
    origins.iter().fold(cors, |cors, origin| match origin.as_str() {
        "*" => cors.allow_any_origin(),
        origin => cors.allowed_origin(origin),
    })
}
