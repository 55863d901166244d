//! A whole fleet, chunk by chunk.

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::{
    limits::TOOL_CHUNKS_AHEAD,
    store::{Chunk, Loaded, StoreError, StoreReader},
};

/// What stopped a reading.
#[derive(Debug)]
pub(super) enum Stopped<E> {
    /// The store, which could not be read.
    Store(StoreError),
    /// Whoever worked on the chunks.
    Reader(E),
}

/// Reads the fleet and hands each chunk to `work`, which may end the reading with an error.
pub(super) async fn read<E>(
    store: &dyn StoreReader,
    work: impl AsyncFnMut(Chunk) -> Result<(), E>,
) -> Result<Loaded, Stopped<E>> {
    feed(|out| store.load(out), work).await
}

/// Hands what `load` sends to `work`, which may end the loading with an error.
pub(super) async fn feed<'a, T, L, E>(
    load: impl FnOnce(mpsc::Sender<T>) -> BoxFuture<'a, Result<L, StoreError>>,
    mut work: impl AsyncFnMut(T) -> Result<(), E>,
) -> Result<L, Stopped<E>> {
    let (out, mut chunks) = mpsc::channel(TOOL_CHUNKS_AHEAD);
    // It owns the receiver: when it ends early, so does the store.
    let work = async move {
        while let Some(chunk) = chunks.recv().await {
            work(chunk).await?;
        }
        Ok(())
    };
    let (loaded, worked) = tokio::join!(load(out), work);
    worked.map_err(Stopped::Reader)?;
    loaded.map_err(Stopped::Store)
}
