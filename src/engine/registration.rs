//! Joining the fleet and leaving it: durable first, then known to the shard, then answered.

use std::net::IpAddr;

use actix::dev::Mailbox;

use super::{
    capacity::Permit,
    handle::{EngineError, EngineHandle, Registered},
    messages::{BeginChange, Credential, EndChange, Identify, MarkUnknown, RemoveAgent, Reregister},
    shard::AddAgent,
    token::{self, Token},
};
use crate::{
    fleet::{Address, AgentId, MachineKey, Registration, RegistrationRequest, Text, Timestamp},
    limits::MACHINE_LOCKS,
    store::{Change, StoreError},
};

impl EngineHandle {
    /// Registers a new agent, or one whose machine is known again. Durable when it returns.
    ///
    /// `by_token`: whether the request carried a token that may register; without one it never takes over a
    /// machine. `from` is the address to note when the request names none.
    pub async fn register(
        &self,
        request: RegistrationRequest,
        from: IpAddr,
        by_token: bool,
    ) -> Result<Registered, EngineError> {
        let engine = self.clone();
        // On a task of its own: when the client goes away in the middle, what is in the store must still get its actor.
        joined(actix_rt::spawn(async move { engine.register_now(request, from, by_token).await })).await
    }

    async fn register_now(
        &self,
        request: RegistrationRequest,
        from: IpAddr,
        by_token: bool,
    ) -> Result<Registered, EngineError> {
        let fleet = &*self.fleet;
        let machine = request.machine_id.as_deref().map(|id| MachineKey::new(request.org_id.as_deref(), id));
        // One registration of a machine at a time, so that two at once become one agent.
        let _one_at_a_time = match machine {
            Some(machine) => Some(self.lock(machine).await),
            None => None,
        };
        let known = machine.and_then(|machine| fleet.machines.pin().get(&machine).copied());
        if known.is_some() && !by_token {
            return Err(EngineError::MachineTaken);
        }
        let place = match known {
            Some(_) => None,
            None => Some(fleet.capacity.take().map_err(EngineError::FleetFull)?),
        };
        let id = known.unwrap_or_else(|| self.unused_id());
        let (token, hash) = Token::generate(id);
        let registration = Registration {
            id,
            hostname: request.hostname.into_inner(),
            os: request.os.into_inner(),
            version: request.version.into_inner(),
            ip: request.ip.map_or(from, Address::ip),
            org_id: request.org_id.map(Text::into_inner),
            tags: request.tags.into_iter().map(Text::into_inner).collect(),
            machine,
            registered_at: self.registration_time(known).await?,
            last_active: fleet.clock.active_time(),
            token: hash,
        };
        let record = Box::new(registration.clone());
        let mut earlier_hostname = None;
        if known.is_some() {
            self.change(id, Change::Reregister(record)).await?;
            earlier_hostname = self.ask(id, || Reregister(registration.clone())).await?;
        } else {
            if let Err(error) = self.durability().committer.commit(Change::Register(record)).await {
                if let StoreError::UnknownOutcome(_) = error {
                    self.ask_shard(id, MarkUnknown(id)).await?;
                }
                return Err(error.into());
            }
            // Its mailbox takes messages from now on; the shard need not be waited for. Whatever is asked of the shard
            // after the answer is in its mailbox behind this.
            let mailbox = Mailbox::default();
            fleet.routing.insert(id, mailbox.address());
            self.shard_of(id)?.do_send(AddAgent(registration.clone(), mailbox));
        }
        if let Some(machine) = machine {
            fleet.machines.pin().insert(machine, id);
        }
        place.into_iter().for_each(Permit::keep);
        fleet.metrics.registrations.increment(1);
        if earlier_hostname.is_some() {
            fleet.metrics.machine_id_conflicts.increment(1);
        }
        Ok(Registered { registration, token, is_new: known.is_none(), earlier_hostname })
    }

    /// Removes the agent from the fleet. Durable when it returns.
    pub async fn deregister(&self, id: AgentId, credential: Credential) -> Result<(), EngineError> {
        let engine = self.clone();
        joined(actix_rt::spawn(async move { engine.remove(id, credential).await })).await
    }

    async fn remove(&self, id: AgentId, credential: Credential) -> Result<(), EngineError> {
        let fleet = &*self.fleet;
        let machine = self.ask(id, || Identify { credential }).await??.machine;
        let _one_at_a_time = match machine {
            Some(machine) => Some(self.lock(machine).await),
            None => None,
        };
        // Its token may have changed while another registration of its machine was waited for.
        self.ask(id, || BeginChange { credential }).await??;
        self.change(id, Change::Deregister(id)).await?;
        // Of two deregistrations at once, one finds the agent gone.
        if !self.ask_shard(id, RemoveAgent(id)).await? {
            return Err(EngineError::NotFound);
        }
        if let Some(machine) = machine {
            // Unless the machine is another agent by now.
            let _ = fleet.machines.pin().remove_if(&machine, |_, agent| *agent == id);
        }
        fleet.capacity.give_back();
        fleet.metrics.deregistrations.increment(1);
        Ok(())
    }

    /// Makes a change of an agent durable whose change has begun, and ends the change if that fails.
    async fn change(&self, id: AgentId, change: Change) -> Result<(), EngineError> {
        let outcome = self.durability().committer.commit(change).await;
        if let Err(error) = &outcome {
            let outcome_unknown = matches!(error, StoreError::UnknownOutcome(_));
            self.ask(id, || EndChange { outcome_unknown }).await?;
        }
        Ok(outcome?)
    }

    async fn lock(&self, machine: MachineKey) -> tokio::sync::MutexGuard<'_, ()> {
        self.fleet.machine_locks[machine.index(MACHINE_LOCKS)].lock().await
    }

    /// Now; but never the time of the agent's earlier registration, since it distinguishes the two. Begins the change of a
    /// known agent.
    async fn registration_time(&self, known: Option<AgentId>) -> Result<Timestamp, EngineError> {
        let now = self.fleet.clock.wall();
        let Some(id) = known else {
            return Ok(now);
        };
        let earlier = self.ask(id, || BeginChange { credential: Credential::Admin }).await??.registered_at;
        Ok(if now == earlier { Timestamp::from_millis(now.as_millis() + 1) } else { now })
    }

    fn unused_id(&self) -> AgentId {
        loop {
            let id = AgentId::new(token::random_u64());
            if !self.fleet.routing.contains(id) {
                return id;
            }
        }
    }
}

/// The outcome of a task that was made to outlive its requester.
pub(super) async fn joined<T>(task: tokio::task::JoinHandle<Result<T, EngineError>>) -> Result<T, EngineError> {
    task.await.unwrap_or(Err(EngineError::Unresponsive))
}
