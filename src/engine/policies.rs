//! Publishing policies, and what each agent has yet to fetch.
//!
//! Every shard has a policy index of its own, so that a heartbeat learns what is pending without leaving its thread. A new policy
//! goes to all of them before it is answered, so the next heartbeat of any agent counts it.

use std::{ops::ControlFlow, rc::Rc, sync::Arc};

use actix::{Context, Handler, MessageResult};
use futures_util::future::{join_all, try_join_all};

use super::{
    agent::AgentCell,
    handle::{EngineError, EngineHandle},
    messages::{Announce, CountOnline, Credential, FetchPolicy},
    registration::joined,
    shard::{Shard, ShardActor},
    token,
};
use crate::{
    fleet::{Agent, AgentFilter, AgentId, PolicyVersion, SharedStrings, Status},
    limits::LIST_PASS_MAX,
    policy::{Policy, PolicyDraft, PolicyId, PolicyScope, ScopePolicies},
    store::PublishError,
};

/// A policy that is durable, and that every shard knows of.
#[derive(Debug)]
pub struct Published {
    pub policy: Arc<Policy>,
    /// Agents in its scope that are online.
    pub broadcasted_to: u64,
}

impl EngineHandle {
    /// Publishes a policy. Durable, and known to every shard, when it returns.
    pub async fn publish(&self, draft: PolicyDraft) -> Result<Published, EngineError> {
        let engine = self.clone();
        // On a task of its own: when the client goes away in the middle, what is in the store must still be announced.
        joined(actix_rt::spawn(async move { engine.publish_now(draft).await })).await
    }

    async fn publish_now(&self, draft: PolicyDraft) -> Result<Published, EngineError> {
        let id = PolicyId::new(token::random_u64());
        // What is sent is in the mailboxes, so every shard takes publications in in the order of their versions.
        let announce = |policies: &Arc<ScopePolicies>| {
            let shards = 0..self.fleet.shards.len();
            shards.map(|shard| self.send_to_shard(shard, Announce(policies.clone()))).collect::<Result<Vec<_>, _>>()
        };
        let (policies, sent) = self.durability().policies.publish(draft, id, self.clock().wall(), announce).await?;
        try_join_all(sent?).await.map_err(|_| EngineError::Unresponsive)?;
        let policy = policies.newest().clone();
        let (id, version) = (policy.id.to_string(), policy.version.to_string());
        self.changes().policy_created(&id, &version, policy.rules.len());
        let broadcasted_to = self.online_in(&policy.scope).await?;
        Ok(Published { policy, broadcasted_to })
    }

    /// Agents that are online, of the whole fleet or of one tenant.
    async fn online_in(&self, scope: &PolicyScope) -> Result<u64, EngineError> {
        let PolicyScope::Tenant(org) = scope else { return Ok(self.counts().online) };
        let filter = AgentFilter { status: Some(Status::Online), org_id: Some(org.clone()), tags: Vec::new() };
        let filter = Arc::new(filter);
        let count = async |shard| {
            let (mut online, mut after) = (0, None);
            loop {
                let (more, resume_after) =
                    self.ask_shard_at(shard, CountOnline { filter: filter.clone(), after }).await?;
                online += more;
                after = resume_after;
                if after.is_none() {
                    return Ok(online);
                }
            }
        };
        join_all((0..self.fleet.shards.len()).map(count)).await.into_iter().sum()
    }

    /// The policy in force for the agent. If `is_fetch` nothing that there is now is pending for it any more.
    pub async fn policy_of(
        &self,
        id: AgentId,
        credential: Credential,
        is_fetch: bool,
    ) -> Result<Option<Arc<Policy>>, EngineError> {
        let policy = self.ask(id, || FetchPolicy { credential, is_fetch }).await??;
        if is_fetch {
            self.fleet.metrics.policy_fetches.increment(1);
        }
        Ok(policy)
    }

    /// The newest policy of all, or the newest of those that concern a tenant: its own and the global ones.
    pub fn active_policy(&self, org_id: Option<&str>) -> Option<Arc<Policy>> {
        self.durability().policies.ask(|policy_index| policy_index.active(org_id).cloned())
    }

    /// The policy in force for agents whose tenant has none of its own.
    pub fn global_policy(&self) -> Option<Arc<Policy>> {
        self.durability().policies.ask(|policy_index| policy_index.in_force(None).cloned())
    }

    /// The newest version of all; none as long as there are no policies.
    pub fn policy_version(&self) -> Option<PolicyVersion> {
        self.active_policy(None).map(|policy| policy.version)
    }
}

impl From<PublishError> for EngineError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Full(full) => Self::PoliciesFull(full),
            PublishError::Store(error) => Self::Store(error),
        }
    }
}

impl Shard {
    /// How many policies in the agent's scope are newer than those it has seen.
    pub(super) fn pending_policies(&self, cell: &AgentCell) -> u32 {
        let (policy_index, seen) = (self.policies.borrow(), cell.last_fetched.get());
        // Nearly always.
        if seen >= policy_index.newest() {
            return 0;
        }
        policy_index.pending(cell.agent.borrow().org_id(&self.texts.borrow()), seen)
    }

    /// Takes over what the agent has seen. A version that is newer than all there is comes from policies that were lost, and
    /// would hide those to come; it is written back lowered, or the next start could take it for true.
    pub(super) fn restore_last_fetched(&self, cell: &Rc<AgentCell>, seen: PolicyVersion) {
        let newest = self.policies.borrow().newest();
        cell.last_fetched.set(seen.min(newest));
        if seen > newest {
            self.mark_dirty(cell);
        }
    }

    pub(super) fn policy_version(&self, agent: &Agent, texts: &SharedStrings) -> Option<PolicyVersion> {
        self.policies.borrow().in_force(agent.org_id(texts)).map(|policy| policy.version)
    }

    /// The policy in force for the agent. If `is_fetch` the agent has seen all there is now; that is no sign of life.
    pub(super) fn policy_of(&self, cell: &Rc<AgentCell>, is_fetch: bool) -> Option<Arc<Policy>> {
        let (policy_index, texts, agent) = (self.policies.borrow(), self.texts.borrow(), cell.agent.borrow());
        let org_id = agent.org_id(&texts);
        let newest = policy_index.newest_for(org_id);
        if is_fetch && cell.last_fetched.get() < newest {
            cell.last_fetched.set(newest);
            self.mark_dirty(cell);
        }
        policy_index.in_force(org_id).cloned()
    }
}

impl Handler<Announce> for ShardActor {
    type Result = ();

    fn handle(&mut self, Announce(policies): Announce, _: &mut Context<Self>) {
        self.shard().policies.borrow_mut().put(policies);
    }
}

impl Handler<CountOnline> for ShardActor {
    type Result = MessageResult<CountOnline>;

    fn handle(&mut self, CountOnline { filter, after }: CountOnline, _: &mut Context<Self>) -> Self::Result {
        let shard = self.shard();
        let Some(compiled) = filter.compile(&shard.texts.borrow()) else { return MessageResult((0, None)) };
        let mut online = 0;
        let resume_after = shard.agents.borrow().walk(after, LIST_PASS_MAX, &compiled, |_, _| {
            online += 1;
            ControlFlow::Continue(())
        });
        MessageResult((online, resume_after))
    }
}
