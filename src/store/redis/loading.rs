//! The fleet out of Redis: the policies, then partition by partition, on as many connections as there are processors.
//!
//! One connection would leave it to one thread to take Redis' answers apart, and the shards would wait for it. So each
//! reader has a thread with a connection of its own, on which it only reads. What a load writes, to put Redis in order,
//! goes over the session's connection, like every write.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc;

use super::{
    error_class::explained,
    partition::{Content, fetch},
    policies,
    session::SessionFactory,
};
use crate::{
    limits::REDIS_PARTITIONS_AHEAD,
    store::{
        Chunk, Loaded, StoreError,
        loading::{WorkQueue, readers},
    },
};

/// Whose fleet is loaded.
#[derive(Debug)]
pub(super) enum Load<'a> {
    /// Ours, to be put in order through the session's connection: corrupt records are moved aside, and heartbeats of agents
    /// that are not in the fleet removed.
    Own(&'a MultiplexedConnection),
    /// Anybody's, only to be looked at.
    Look,
}

/// Hands the whole fleet to `out`.
pub(super) async fn load(
    factory: &Arc<SessionFactory>,
    out: mpsc::Sender<Chunk>,
    load: Load<'_>,
) -> Result<Loaded, StoreError> {
    let policies = load_policies(factory, &out, &load).await?;
    let queue = Arc::new(WorkQueue::of(1));
    let (done, contents) = mpsc::channel(readers());
    let read = (0..readers()).map(|number| {
        let reader = Reader {
            number,
            factory: factory.clone(),
            is_ours: matches!(load, Load::Own(_)),
            queue: queue.clone(),
            done: done.clone(),
        };
        tokio::task::spawn_blocking(move || reader.run())
    });
    let read = join_all(read);
    drop(done);
    let (read, loaded) = tokio::join!(read, collect(factory, contents, out, load));
    for outcome in read {
        outcome.unwrap_or_else(|panic| Err(StoreError::unavailable(panic)))?;
    }
    Ok([policies, loaded].into_iter().sum())
}

/// Hands the policies of all scopes to `out`.
async fn load_policies(
    factory: &SessionFactory,
    out: &mpsc::Sender<Chunk>,
    load: &Load<'_>,
) -> Result<Loaded, StoreError> {
    let connection = match load {
        Load::Own(connection) => (*connection).clone(),
        Load::Look => factory.look().await.map_err(|error| unreadable(&error.to_string()))?,
    };
    let version = policies::fetch_version(connection.clone(), &factory.keys).await;
    let policy_version = version.map_err(|error| unreadable(&explained(&error)))?;
    let content = policies::fetch(connection.clone(), &factory.keys).await;
    let content = content.map_err(|error| unreadable(&explained(&error)))?;
    content.report(&factory.keys);
    if let Load::Own(_) = load
        && let Err(error) = content.set_aside(connection, &factory.keys).await
    {
        tracing::warn!(error = explained(&error), "corrupt policies could not be set aside; they stay where they are");
    }
    let mut loaded = Loaded { corrupt: content.corrupt(), policy_version, ..Loaded::default() };
    for chunk in content.chunks {
        loaded.count(&chunk);
        if out.send(chunk).await.is_err() {
            break;
        }
    }
    Ok(loaded)
}

/// Hands over what the readers have read. It owns both ends: when nobody wants more, the readers find it out.
async fn collect(
    factory: &SessionFactory,
    mut contents: mpsc::Receiver<Content>,
    out: mpsc::Sender<Chunk>,
    load: Load<'_>,
) -> Loaded {
    let mut loaded = Loaded::default();
    while let Some(content) = contents.recv().await {
        loaded.corrupt += content.left_out.corrupt();
        loaded.orphans += content.left_out.orphans();
        content.left_out.report(&factory.keys);
        if let Load::Own(connection) = load
            && let Err(error) = content.left_out.set_aside(connection.clone(), &factory.keys).await
        {
            tracing::warn!(
                error = explained(&error),
                "corrupt records could not be set aside; they stay where they are"
            );
        }
        for chunk in content.chunks {
            loaded.count(&chunk);
            if !chunk.is_empty() && out.send(chunk).await.is_err() {
                return loaded;
            }
        }
    }
    loaded
}

/// One of the threads.
struct Reader {
    number: usize,
    factory: Arc<SessionFactory>,
    is_ours: bool,
    queue: Arc<WorkQueue>,
    done: mpsc::Sender<Content>,
}

impl Reader {
    fn run(self) -> Result<(), StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = runtime.map_err(StoreError::unavailable).and_then(|runtime| runtime.block_on(self.read()));
        // Whoever fails ends it for all.
        outcome.inspect_err(|_| self.queue.end())
    }

    async fn read(&self) -> Result<(), StoreError> {
        let connection = match self.is_ours {
            true => self.factory.assist(self.number).await,
            false => self.factory.look().await,
        };
        let connection = connection.map_err(|error| unreadable(&error.to_string()))?;
        let partitions = std::iter::from_fn(|| self.queue.take()).flatten();
        let fetched = stream::iter(partitions)
            .map(async |partition| fetch(connection.clone(), &self.factory.keys, partition).await);
        let mut fetched = std::pin::pin!(fetched.buffer_unordered(REDIS_PARTITIONS_AHEAD));
        while let Some(raw) = fetched.try_next().await.map_err(|error| unreadable(&explained(&error)))? {
            if self.done.send(raw.decode()).await.is_err() {
                self.queue.end();
            }
        }
        Ok(())
    }
}

fn unreadable(reason: &str) -> StoreError {
    StoreError::unavailable(format_args!("the fleet could not be read from Redis: {reason}"))
}
