//! The answer to a batch of heartbeats: how many were accepted, and which were not.

use std::borrow::Cow;

use serde::Deserialize;

use crate::wire::{Reply, Target};

use super::Tally;
use super::bulk::refusal;

pub(super) enum Relayed {
    /// It was taken in; so many of its lines were not, and this was said of the first of them.
    Taken { reply: Reply, rejected: u64, first: Option<String> },
    /// It was refused as a whole, as this text says.
    Refused { reply: Reply, body: Vec<u8> },
    /// It was answered with success, but not as agreed.
    Unclear,
}

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

impl Relayed {
    pub(super) fn read(reply: Reply, body: &[u8]) -> Self {
        if !reply.is_success() {
            return Self::Refused { reply, body: body.to_owned() };
        }
        match serde_json::from_slice::<Answer<'_>>(body) {
            Ok(Answer { data }) => Self::Taken {
                reply,
                rejected: data.rejected.len() as u64,
                first: data.rejected.first().map(|rejected| format!("line {}: {}", rejected.line, rejected.error)),
            },
            Err(_) => Self::Unclear,
        }
    }

    /// Counts it as so many beats; whether all of them were accepted.
    pub(super) fn count(self, tally: &mut Tally, beats: u64, target: &Target) -> bool {
        let all = matches!(self, Self::Taken { rejected: 0, .. });
        match self {
            Self::Taken { reply, rejected, first } => {
                let rejected = rejected.min(beats);
                tally.count_status(reply, beats - rejected, String::new);
                if rejected > 0 {
                    tally.count_errors("rejected", rejected, || {
                        format!("{target} rejected a heartbeat of a batch: {}", first.unwrap_or_default())
                    });
                }
            }
            Self::Refused { reply, body } => tally.count_status(reply, beats, || refusal(target, reply, &body)),
            Self::Unclear => tally.count_errors("batch", beats, || {
                format!("{target} answered a batch without {{\"data\":{{\"rejected\":[…]}}}}")
            }),
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count(status: u16, body: &str) -> Tally {
        let target = Target::expect("http://127.0.0.1:9", None).await.expect("a target");
        let mut tally = Tally::new();
        Relayed::read(Reply { status, retry_after_s: None }, body.as_bytes()).count(&mut tally, 10, &target);
        tally
    }

    #[tokio::test]
    async fn rejected_lines_are_failures_and_the_others_are_not() {
        let tally = count(200, r#"{"ok":true,"data":{"accepted":10,"rejected":[]}}"#).await;
        assert_eq!((tally.successes(), tally.failures()), (10, 0));
        let body = r#"{"ok":true,"data":{"accepted":9,"rejected":[{"line":3,"error":"Agent \"x\" not found"}]}}"#;
        let tally = count(200, body).await;
        assert_eq!((tally.successes(), tally.errors.get("rejected")), (9, Some(&1)));
        assert!(tally.first_failure.expect("said").contains("line 3: Agent \"x\" not found"));
    }

    #[tokio::test]
    async fn a_batch_that_is_refused_counts_with_all_its_beats() {
        let tally = count(503, r#"{"ok":false,"error":"starting"}"#).await;
        assert_eq!((tally.successes(), tally.failures(), tally.statuses.get(&503)), (0, 10, Some(&10)));
        let tally = count(200, "ok").await;
        assert_eq!((tally.successes(), tally.errors.get("batch")), (0, Some(&10)));
    }
}
