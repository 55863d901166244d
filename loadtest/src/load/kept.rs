//! A fleet of which each agent keeps a connection of its own and hardly uses it: the opposite of a relay.
//!
//! One dispatcher, as in the open loop, and a short task for each beat: a connection that is idle is its socket and its
//! buffers here, and no task, no timer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::wire::Target;

use super::connection::Connection;
use super::sleeper::Sleeper;
use super::{Fleet, Operation, Schedule, SharedTally, Tally, Transport};

/// Beats due within this time leave together: see the open loop.
const SHORTEST_NAP: Duration = Duration::from_micros(250);
const LONGEST_NAP: Duration = Duration::from_millis(50);

pub(crate) struct Kept {
    target: Arc<Target>,
    fleet: Arc<Fleet>,
    interval: Duration,
    transport: Transport,
    /// One for each agent. Beats of an agent that come due while another is answered wait for it, in order.
    connections: Vec<Arc<Mutex<Connection>>>,
}

impl Kept {
    /// Of a fleet in which every agent beats once an interval; nobody does yet. What the transport says of connections
    /// has no meaning here.
    pub(crate) fn of(target: &Arc<Target>, fleet: &Arc<Fleet>, interval: Duration, transport: Transport) -> Self {
        Self { target: target.clone(), fleet: fleet.clone(), interval, transport, connections: Vec::new() }
    }

    /// From now on so many agents beat, at most the fleet. The connection of each is opened for its first beat.
    pub(crate) fn grow_to(&mut self, agents: usize) {
        let connection = || {
            let connection = Connection::new(&self.target, Operation::Beat, self.transport, SharedTally::new());
            Arc::new(Mutex::new(connection))
        };
        self.connections.resize_with(agents, connection);
    }

    /// Closes all connections; each is opened again for the next beat of its agent.
    pub(crate) async fn disconnect(&self) {
        for connection in &self.connections {
            connection.lock().await.disconnect();
        }
    }

    /// Beats for so long, and until all of that is answered, or too late. At least one agent must be there.
    pub(crate) async fn beat(&self, duration: Duration) -> anyhow::Result<Tally> {
        let schedule = Schedule::every(self.connections.len() as u64, self.interval);
        let (tally, begun) = (SharedTally::new(), Instant::now());
        // A beat due at the very end belongs to the time after it.
        let last_moment = duration.saturating_sub(Duration::from_nanos(1));
        let (mut sleeper, mut beats, mut released) = (Sleeper::new()?, JoinSet::new(), 0);
        loop {
            let now = begun.elapsed();
            let due = schedule.released(now.min(last_moment));
            tally.lock().count_due(due - released);
            for number in released..due {
                beats.spawn(self.one(number, begun + schedule.due(number), tally.clone()));
            }
            released = due;
            while beats.try_join_next().is_some() {}
            if now >= duration {
                break;
            }
            let until_next = schedule.due(released).min(duration).saturating_sub(now);
            sleeper.sleep(until_next.clamp(SHORTEST_NAP, LONGEST_NAP)).await?;
        }
        // Each answer has its own limit.
        while beats.join_next().await.is_some() {}
        let mut tally = tally.lock();
        tally.elapsed = begun.elapsed();
        Ok(tally.take())
    }

    fn one(&self, number: u64, due: Instant, tally: SharedTally) -> impl Future<Output = ()> + use<> {
        let connection = self.connections[(number % self.connections.len() as u64) as usize].clone();
        let (fleet, agent) = (self.fleet.clone(), number % self.connections.len() as u64);
        async move {
            let mut connection = connection.lock_owned().await;
            connection.count_in(tally);
            connection.send(number, fleet.agent_of(agent), due, true).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::AgentId;
    use crate::wire::fake;

    /// Agents that beat ten times a second, of a server that answers so many requests on each connection.
    async fn agents(answers: usize) -> (Kept, Arc<Target>) {
        let url = fake::serve(answers, |_, _| std::future::ready(fake::reply(200, ""))).await;
        let target = Target::expect(&url, None).await.expect("a target");
        let fleet = Arc::new(Fleet::with_shared_token((0..20).map(AgentId::of).collect(), "t"));
        let kept = Kept::of(&target, &fleet, Duration::from_millis(100), Transport::kept(1));
        (kept, target)
    }

    async fn beat(kept: &Kept, ms: u64) -> Tally {
        kept.beat(Duration::from_millis(ms)).await.expect("a run")
    }

    #[tokio::test]
    async fn every_agent_beats_in_each_interval_over_a_connection_of_its_own() {
        let (mut kept, target) = agents(usize::MAX).await;
        for count in [10, 20] {
            kept.grow_to(count);
            let tally = beat(&kept, 300).await;
            let beats = 3 * count as u64;
            assert_eq!((tally.due, tally.successes(), tally.latency_us.len()), (beats, beats, beats));
            assert_eq!(target.opened().connections, count as u64, "those that were there are kept");
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_given_up_is_opened_for_the_next_beat() {
        let (mut kept, target) = agents(usize::MAX).await;
        kept.grow_to(5);
        beat(&kept, 100).await;
        kept.disconnect().await;
        assert_eq!(beat(&kept, 100).await.successes(), 5);
        assert_eq!(target.opened().connections, 10);
    }

    #[tokio::test]
    async fn connections_that_the_server_does_not_keep_are_seen() {
        let (mut kept, target) = agents(1).await;
        kept.grow_to(5);
        assert_eq!(beat(&kept, 300).await.successes(), 15);
        assert_eq!(target.opened().connections, 15);
    }
}
