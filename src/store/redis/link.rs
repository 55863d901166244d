//! The link to Redis: up, or being brought up again.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use redis::aio::MultiplexedConnection;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    error_class::ErrorClass,
    persistence::Persistence,
    rewrite::Rewrite,
    session::{Beginning, Lost, Meta, Session, SessionFactory, Writes},
};
use crate::{
    config::redis_url::RedisUrl,
    fleet::AgentId,
    limits::{GONE_AGENTS_MAX, LEASE_RENEWAL_MS, REDIS_BACKOFF_MAX_MS, REDIS_BACKOFF_MIN_MS},
    store::StoreError,
};

/// Whether Redis can be used.
#[derive(Clone, Debug)]
enum State {
    Up(Arc<Session>),
    Down(Arc<str>),
    /// Never again in this process.
    Over(StoreError),
}

/// How a process begins.
enum Begun {
    Ours(Box<Session>),
    /// Redis has no room even for the lease.
    Refused(Meta, String),
}

/// What all users of a store's connection share.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) factory: Arc<SessionFactory>,
    min_replicas: u32,
    sessions: AtomicU64,
    state: watch::Sender<State>,
    commits: AtomicI64,
    saves: AtomicI64,
    /// What stood in Redis when the fleet was read that could not be owned; none once it is ours.
    unclaimed: Mutex<Option<Meta>>,
    gone: Mutex<VecDeque<AgentId>>,
    /// What Redis has lost and is not being rewritten yet.
    lost: Mutex<Option<Lost>>,
    /// The settings of Redis that were last looked at.
    warned_of: Mutex<Option<Persistence>>,
    pub(super) rewrite: Rewrite,
}

impl Link {
    /// Opens the first session. Waits for a Redis that cannot be reached until `deadline`; for one that is loading its
    /// data, as long as that takes.
    pub(super) async fn open(
        factory: SessionFactory,
        min_replicas: u32,
        deadline: Instant,
    ) -> Result<Arc<Self>, StoreError> {
        let sessions = AtomicU64::new(0);
        let begin = async || match factory.begin(sessions.fetch_add(1, Relaxed), Beginning::First).await {
            Ok(session) => Ok(Begun::Ours(Box::new(session))),
            // It has no memory or no disk, and can be read all the same.
            Err(ErrorClass::Refusing(reason)) => Ok(Begun::Refused(factory.survey().await?, reason)),
            Err(error @ (ErrorClass::Passing(_) | ErrorClass::Loading | ErrorClass::Lasting(_))) => Err(error),
        };
        let begun = wait_for_redis(deadline, factory.connector.url(), begin).await?;
        let (state, unclaimed, writes, persistence) = match begun {
            Begun::Ours(first) => {
                let (writes, persistence) = (first.writes, first.persistence.clone());
                (State::Up(Arc::new(*first)), None, writes, Some(persistence))
            }
            Begun::Refused(seen, reason) => {
                tracing::error!(
                    reason,
                    "Redis takes nothing now: the fleet is read, heartbeats are kept, durable changes refused until it does"
                );
                (State::Down(reason.into()), Some(seen), Writes::default(), None)
            }
        };
        let link = Self {
            factory: Arc::new(factory),
            min_replicas,
            sessions,
            commits: AtomicI64::new(writes.commits),
            saves: AtomicI64::new(writes.saves),
            state: watch::Sender::new(state),
            unclaimed: Mutex::new(unclaimed),
            gone: Mutex::default(),
            lost: Mutex::default(),
            warned_of: Mutex::default(),
            rewrite: Rewrite::default(),
        };
        if let Some(persistence) = persistence {
            link.warn_of(&persistence);
        }
        Ok(Arc::new(link))
    }

    /// Whether the fleet has not been ours yet in this process, because Redis takes nothing; it can be read.
    pub(super) fn is_unclaimed(&self) -> bool {
        self.unclaimed().is_some()
    }

    /// A connection to read through.
    pub(super) async fn reading(&self) -> Result<MultiplexedConnection, StoreError> {
        let session = self.session();
        if session.is_err() && self.is_unclaimed() {
            return self.factory.look().await.map_err(|error| StoreError::unavailable(error.to_string()));
        }
        session.map(|session| session.connection.clone())
    }

    fn unclaimed(&self) -> MutexGuard<'_, Option<Meta>> {
        self.unclaimed.lock()
    }

    /// The session to write through, if the link is up.
    pub(super) fn session(&self) -> Result<Arc<Session>, StoreError> {
        match &*self.state.borrow() {
            State::Up(session) => Ok(session.clone()),
            State::Down(reason) => Err(StoreError::Unavailable(reason.clone())),
            State::Over(error) => Err(error.clone()),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// Redis has confirmed so many writes to this session. Of unknown outcome if that has been given up by now: the server that
    /// answered may not be the one that counts any more.
    pub(super) fn confirmed(&self, session: &Session, writes: Writes) -> Result<(), StoreError> {
        // The state cannot change while it is borrowed: who finds the link down knows of every write that was confirmed.
        match &*self.state.borrow() {
            State::Up(current) if current.number == session.number => {
                self.count(writes);
                Ok(())
            }
            State::Up(_) | State::Down(_) | State::Over(_) => {
                Err(StoreError::UnknownOutcome("the link to Redis was given up before it answered".into()))
            }
        }
    }

    fn count(&self, writes: Writes) {
        self.commits.fetch_max(writes.commits, Relaxed);
        self.saves.fetch_max(writes.saves, Relaxed);
    }

    /// Remembers agents that have been deregistered.
    pub(super) fn remember_gone(&self, agents: impl IntoIterator<Item = AgentId>) {
        let mut gone = self.gone();
        gone.extend(agents);
        let surplus = gone.len().saturating_sub(GONE_AGENTS_MAX);
        gone.drain(..surplus);
    }

    /// Gives the session up; the link is down until there is a new one.
    pub(super) fn fail(&self, session: &Session, reason: &str) {
        self.state.send_if_modified(|state| {
            let is_current = matches!(state, State::Up(current) if current.number == session.number);
            if is_current {
                tracing::error!(reason, "the link to Redis is down; heartbeats are kept, durable changes refused");
                *state = State::Down(reason.into());
            }
            is_current
        });
    }

    /// Ends the link and gives the fleet up.
    pub(super) async fn close(&self) {
        let last = self.state.send_replace(State::Over(StoreError::unavailable("the store has been closed")));
        if let State::Up(session) = last
            && let Err(error) = self.factory.lease(session.connection.clone()).release().await
        {
            tracing::warn!(error = %error, "the lease of the fleet could not be given back; it runs out by itself");
        }
    }

    /// Keeps the link up, until the process ends or the fleet is another's.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let state = self.state.borrow().clone();
            match state {
                State::Up(session) => self.keep_session(&session).await,
                State::Down(_) => self.bring_up().await,
                State::Over(_) => return,
            }
        }
    }

    /// Renews the lease until the session has failed.
    async fn keep_session(&self, session: &Session) {
        let (mut changes, renewal) = (self.state.subscribe(), Duration::from_millis(LEASE_RENEWAL_MS));
        let is_other = |state: &State| !matches!(state, State::Up(current) if current.number == session.number);
        // Ends with an error only if the sender is gone, which is ours.
        while timeout(renewal, changes.wait_for(is_other)).await.is_err() {
            let still_ours = async {
                let mut connection = session.connection.clone();
                self.factory.lease(connection.clone()).renew().await?;
                let run: Option<String> =
                    redis::cmd("HGET").arg(self.factory.keys.meta()).arg("run").query_async(&mut connection).await?;
                self.must_be_ours(run.as_deref())
            };
            match still_ours.await {
                // Redis has no memory or no disk: it may have again, and the connection is good.
                Ok(()) | Err(ErrorClass::Refusing(_)) => {}
                Err(error @ (ErrorClass::Passing(_) | ErrorClass::Loading | ErrorClass::Lasting(_))) => {
                    self.fail(session, &error.to_string());
                }
            }
        }
    }

    /// Whether the run that Redis names is this one. It names none when it has been emptied.
    pub(super) fn must_be_ours(&self, run: Option<&str>) -> Result<(), ErrorClass> {
        match run {
            Some(run) if run == self.factory.owner.run => Ok(()),
            Some(_) => {
                Err(ErrorClass::Passing("another process has written to the fleet, or Redis has older data".into()))
            }
            None => Err(ErrorClass::Passing("Redis has been emptied".into())),
        }
    }

    async fn bring_up(&self) {
        let (since, mut backoff) = (Instant::now(), Backoff::default());
        loop {
            sleep(backoff.jittered()).await;
            let gone: Vec<_> = self.gone().iter().copied().collect();
            let confirmed = Writes { commits: self.commits.load(Relaxed), saves: self.saves.load(Relaxed) };
            // A new number each time: what an attempt that failed has left on its way is stopped by the next.
            let number = self.sessions.fetch_add(1, Relaxed);
            let seen = self.unclaimed().clone();
            let beginning = match &seen {
                Some(seen) => Beginning::Late { seen },
                None => Beginning::Again { confirmed, gone: &gone, lost: &self.lost },
            };
            let reason = match self.factory.begin(number, beginning).await {
                Ok(session) => {
                    *self.unclaimed() = None;
                    return self.is_up_again(session, since.elapsed());
                }
                Err(ErrorClass::Lasting(error @ (StoreError::Locked(_) | StoreError::Format(_)))) => {
                    tracing::error!(%error, "this process has lost the fleet; it must be started again");
                    self.state.send_replace(State::Over(error));
                    return;
                }
                Err(
                    error @ (ErrorClass::Passing(_)
                    | ErrorClass::Refusing(_)
                    | ErrorClass::Loading
                    | ErrorClass::Lasting(
                        StoreError::Unavailable(_)
                        | StoreError::UnknownOutcome(_)
                        | StoreError::Damaged(_)
                        | StoreError::Overloaded,
                    )),
                ) => error.to_string(),
            };
            // Closed meanwhile.
            let State::Down(known) = self.state.borrow().clone() else { return };
            if *known != *reason {
                tracing::warn!(reason, "the link to Redis is still down");
                self.state.send_replace(State::Down(reason.into()));
            }
            backoff.grow();
        }
    }

    fn is_up_again(&self, session: Session, outage: Duration) {
        tracing::info!(outage_ms = outage.as_millis() as u64, "the link to Redis is up again");
        self.warn_of(&session.persistence);
        self.count(session.writes);
        let lost = self.lost.lock().take();
        match lost {
            Some(Lost::Everything) => tracing::error!(
                "Redis has lost registrations that it had confirmed: it has been emptied, or is back with older data. The \
                 whole fleet is written back from memory"
            ),
            Some(Lost::Heartbeats) => {
                tracing::warn!(
                    "Redis has lost last heartbeats that it had confirmed; they are written back from memory"
                );
            }
            None => {}
        }
        if let Some(lost) = lost {
            self.rewrite.begin(lost == Lost::Everything);
        }
        self.state.send_if_modified(|state| {
            let is_down = matches!(state, State::Down(_));
            if is_down {
                *state = State::Up(Arc::new(session));
            }
            is_down
        });
    }

    /// Warns of what may go wrong with these settings, unless they are those of the last time.
    fn warn_of(&self, persistence: &Persistence) {
        let mut warned_of = self.warned_of.lock();
        if warned_of.as_ref() != Some(persistence) {
            persistence.warnings(self.min_replicas).iter().for_each(|warning| tracing::warn!("{warning}"));
            *warned_of = Some(persistence.clone());
        }
    }

    fn gone(&self) -> MutexGuard<'_, VecDeque<AgentId>> {
        self.gone.lock()
    }
}

/// Tries until Redis can be used, or until `deadline`; while Redis loads its data, as long as that takes.
pub(super) async fn wait_for_redis<T>(
    deadline: Instant,
    url: &RedisUrl,
    attempt: impl AsyncFn() -> Result<T, ErrorClass>,
) -> Result<T, StoreError> {
    let (mut backoff, mut is_reported) = (Backoff::default(), false);
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(ErrorClass::Lasting(error)) => return Err(error),
            Err(ErrorClass::Passing(reason) | ErrorClass::Refusing(reason))
                if Instant::now() + backoff.wait >= deadline =>
            {
                return Err(StoreError::unavailable(format_args!("{url} cannot be used: {reason}")));
            }
            Err(error @ (ErrorClass::Passing(_) | ErrorClass::Refusing(_) | ErrorClass::Loading)) => {
                if !is_reported {
                    tracing::warn!(%url, reason = %error, "waiting for Redis");
                }
            }
        }
        is_reported = true;
        sleep(backoff.jittered()).await;
        backoff.grow();
    }
}

/// How long to wait before Redis is tried again: longer each time.
struct Backoff {
    wait: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { wait: Duration::from_millis(REDIS_BACKOFF_MIN_MS) }
    }
}

impl Backoff {
    /// Between half of the wait and all of it, so that many processes do not come at once.
    fn jittered(&self) -> Duration {
        let random = getrandom::u32().expect("the operating system has random numbers");
        self.wait / 2 + (self.wait / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    fn grow(&mut self) {
        self.wait = (2 * self.wait).min(Duration::from_millis(REDIS_BACKOFF_MAX_MS));
    }
}
