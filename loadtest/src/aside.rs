//! Work on a thread of its own: what reads much would keep those waiting who beat on this one.

use std::future::Future;

use anyhow::{Context, bail};
use tokio::sync::oneshot;

/// Runs what `begin` gives on a thread of its own, with a runtime of its own. Dropped, it ends it.
pub(crate) async fn aside<Work, Done>(begin: impl FnOnce() -> Work + Send + 'static) -> anyhow::Result<Done>
where
    Work: Future<Output = anyhow::Result<Done>>,
    Done: Send + 'static,
{
    let (wanted, unwanted) = oneshot::channel::<()>();
    let working = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("cannot start a runtime")?.block_on(async {
            tokio::select! {
                done = begin() => done,
                _ = unwanted => bail!("nobody wants this any more"),
            }
        })
    });
    let done = working.await;
    drop(wanted);
    done.context("the thread beside panicked")?
}
