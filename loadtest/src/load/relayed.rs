//! The answer to a batch of heartbeats: how many were accepted, and which were not.

use std::borrow::Cow;

use serde::Deserialize;

use crate::wire::{Reply, Target};

use super::Tally;
use super::bulk::refusal;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    rejected: Vec<Rejected<'a>>,
}

#[derive(Deserialize)]
struct Rejected<'a> {
    line: u64,
    #[serde(borrow)]
    error: Cow<'a, str>,
}

/// Counts what became of so many beats; whether all of them were accepted.
pub(super) fn count(tally: &mut Tally, reply: Reply, body: &[u8], beats: u64, target: &Target) -> bool {
    if !reply.is_success() {
        tally.count_status(reply, beats, || refusal(target, reply, body));
        return false;
    }
    let Ok(Answer { data: Data { rejected } }) = serde_json::from_slice(body) else {
        let unclear = || format!("{target} answered a batch without {{\"data\":{{\"rejected\":[…]}}}}");
        tally.count_errors("batch", beats, unclear);
        return false;
    };
    let lines = beats.min(rejected.len() as u64);
    tally.count_status(reply, beats - lines, String::new);
    if let Some(Rejected { line, error }) = rejected.first() {
        let rejection = || format!("{target} rejected a heartbeat of a batch: line {line}: {error}");
        tally.count_errors("rejected", lines, rejection);
    }
    rejected.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn counted(status: u16, body: &str) -> Tally {
        let target = Target::expect("http://127.0.0.1:9", None).await.expect("a target");
        let mut tally = Tally::new();
        count(&mut tally, Reply { status, retry_after_s: None }, body.as_bytes(), 10, &target);
        tally
    }

    #[tokio::test]
    async fn rejected_lines_are_failures_and_the_others_are_not() {
        let tally = counted(200, r#"{"ok":true,"data":{"accepted":10,"rejected":[]}}"#).await;
        assert_eq!((tally.successes(), tally.failures()), (10, 0));
        let body = r#"{"ok":true,"data":{"accepted":9,"rejected":[{"line":3,"error":"Agent \"x\" not found"}]}}"#;
        let tally = counted(200, body).await;
        assert_eq!((tally.successes(), tally.errors.get("rejected")), (9, Some(&1)));
        assert!(tally.first_failure.expect("said").contains("line 3: Agent \"x\" not found"));
    }

    #[tokio::test]
    async fn a_batch_that_is_refused_counts_with_all_its_beats() {
        let tally = counted(503, r#"{"ok":false,"error":"starting"}"#).await;
        assert_eq!((tally.successes(), tally.failures(), tally.statuses.get(&503)), (0, 10, Some(&10)));
        let tally = counted(200, "ok").await;
        assert_eq!((tally.successes(), tally.errors.get("batch")), (0, Some(&10)));
    }
}
