//! Every bound of the product in one place, with the relations between them asserted at compile time.
//!
//! A bound that an operator may change is a setting in [`crate::config`]; what stands here is either fixed by the
//! HTTP contract, or protects the process and has no useful second value. The files go by the rooms whose bounds they have;
//! whoever uses one names it `crate::limits::X`.

mod api;
mod config;
mod domain;
mod engine;
mod front;
mod server;
mod store;

pub use self::{api::*, config::*, domain::*, engine::*, front::*, server::*, store::*};

// What holds between the files.
const _: () = {
    assert!(PAGE_MAX <= LIST_SCAN_MAX);
    assert!(POLICY_BODY_MAX_BYTES <= POLICIES_MAX_BYTES);
    // One registration must fit its body many times over, or a valid one could be refused as too large:
    // four bytes a character, six when escaped.
    let longest = HOSTNAME_MAX_CHARS + OS_MAX_CHARS + VERSION_MAX_CHARS + ORG_ID_MAX_CHARS + MACHINE_ID_MAX_CHARS;
    assert!(12 * (longest + TAGS_MAX * TAG_MAX_CHARS) <= BODY_MAX_BYTES);
    // A registration fits what is written to try the store.
    assert!(4 * (longest + TAGS_MAX * TAG_MAX_CHARS) <= STORE_PROBE_BYTES);
};
