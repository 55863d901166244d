//! Open files: how many the system allows, and for how many connections that leaves room.

use rlimit::Resource;

use crate::limits::{CONNECTIONS_MARGIN, CONNECTIONS_PER_WORKER_MIN, FILES_PER_WORKER, FILES_RESERVED};

/// The system allows so few open files that the server could not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the system allows {allowed} open files, and with server.workers = {workers} at least {needed} are needed; raise the \
     limit (`ulimit -n`, LimitNOFILE= of systemd)"
)]
pub struct TooFewFiles {
    allowed: u64,
    needed: u64,
    workers: usize,
}

/// Raises the limit of open files as far as it goes, and says how many connections each worker may have: `most`, as are
/// configured, or as many as leave the store and the operations listener the files they need.
///
/// # Errors
/// Not even a few.
pub fn connections_per_worker(workers: usize, most: usize) -> Result<usize, TooFewFiles> {
    // The limit a shell sets by default is made for other programs.
    let allowed = rlimit::increase_nofile_limit(u64::MAX).or_else(|error| {
        tracing::warn!(%error, "the limit of open files cannot be raised");
        Resource::NOFILE.get_soft()
    });
    // A system that does not say has none.
    let allowed = allowed.unwrap_or(u64::MAX);
    let room = room_per_worker(allowed, workers)?;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if room < most {
        tracing::warn!(
            configured = most,
            per_worker = room,
            open_files = allowed,
            "the limit of open files leaves room for fewer connections than server.max_connections; raise it \
             (LimitNOFILE= of systemd), or configure fewer"
        );
    }
    Ok(room.min(most))
}

/// How many connections a worker accepts beyond the `most` that it may keep, so that a new one is seen and can take the
/// place of an idle one. Few where there are few.
pub fn margin(most: usize) -> usize {
    (most / 8 + 1).min(CONNECTIONS_MARGIN)
}

fn room_per_worker(allowed: u64, workers: usize) -> Result<u64, TooFewFiles> {
    let per_worker = allowed.saturating_sub(FILES_RESERVED) / workers as u64;
    match per_worker.checked_sub(FILES_PER_WORKER) {
        Some(room) if room >= CONNECTIONS_PER_WORKER_MIN => {
            Ok(room - margin(usize::try_from(room).unwrap_or(usize::MAX)) as u64)
        }
        _ => {
            let needed = FILES_RESERVED + workers as u64 * (FILES_PER_WORKER + CONNECTIONS_PER_WORKER_MIN);
            Err(TooFewFiles { allowed, needed, workers })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_together_leave_the_reserve() {
        for workers in [1, 2, 3, 64] {
            for allowed in (0..3_000).chain([524_288, u64::MAX]) {
                match room_per_worker(allowed, workers) {
                    Ok(room) => assert!(
                        (room + margin(room as usize) as u64 + FILES_PER_WORKER) * workers as u64 + FILES_RESERVED
                            <= allowed,
                        "{room} for each of {workers} with {allowed}"
                    ),
                    Err(TooFewFiles { needed, .. }) => assert!(allowed < needed, "{allowed} are enough: {needed}"),
                }
            }
        }
    }
}
