//! What happens, streamed to subscribers: Server-Sent Events of the fleet's changes, of threats and of policies.
//!
//! ```text
//!  shard 0 ─┐                           ┌─▶ Subscriber ─▶ connection
//!  shard 1 ─┼─▶ EventAggregator ─▶ Coalescer ─▶ Ring ─▶ Subscriber ─▶ connection
//!  threats ─┤       every 200 ms        └─▶ Subscriber ─▶ connection
//! policies ─┘
//! ```
//!
//! What holds:
//! - **Every change is emitted once**, alone or in the count of a mass change (`fleet_changed`); so the counts of the stream
//!   add up to the transitions that the metrics count.
//! - **The order is the same for all readers**, and the changes of one agent are in the order in which they happened. What is
//!   emitted of policies and threats follows the changes of the same tick; a mass change is emitted when it is over, after
//!   what was emitted alone in the meantime.
//! - **Nobody waits for a reader.** All read the same ring, and a reader is no more than a position in it. One that stands
//!   still while the ring passes it by is cut off.
//! - **Nothing waits for an event to be emitted.** A change costs a free lock, and a copy of a hostname for the first hundred of a
//!   kind in a tick, so a million changes at once cost as much memory as a hundred.
//! - **Events are not durable.** They live in memory, and a new run begins with none: who resumes across a restart is told
//!   so (`resumed: false`) and must read the fleet anew.
//!
//! This room must know nothing of HTTP, of actors or of the store. It is given domain values and gives bytes.

mod aggregator;
mod bus;
mod coalescer;
mod event;
mod ring;
mod subscriber;

pub use aggregator::EventAggregator;
pub use bus::{Bus, EventRules, TooManyStreams};
pub use event::{EventKind, StatusChange};
pub use subscriber::Subscriber;
