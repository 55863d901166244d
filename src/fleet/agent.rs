//! One registered agent: its record, its last heartbeat, and how it is shown.

use std::net::IpAddr;

use super::{
    agent_id::AgentId,
    heartbeat::{Figures, Heartbeat},
    interner::Interned,
    policy_version::PolicyVersion,
    registration::{MachineKey, Registration, TokenHash},
    shared_strings::{Labels, SharedStrings},
    status::{ActiveTime, Liveness},
    text::Timestamp,
};

/// The state of one agent.
///
/// There are millions of these, so what repeats is a handle into the shard's [`SharedStrings`], and what is rare is boxed.
#[derive(Debug)]
pub struct Agent {
    id: AgentId,
    hostname: Box<str>,
    os: Interned,
    version: Interned,
    labels: Labels,
    ip: IpAddr,
    /// Boxed: 9 bytes less for an agent without, and just what makes it fit (see below).
    machine: Option<Box<MachineKey>>,
    token: TokenHash,
    registered_at: Timestamp,
    last_heartbeat: Timestamp,
    liveness: Liveness,
    figures: Figures,
}

/// With the counts of `Rc` and `RefCell`, and the flags that the engine keeps beside it, an agent's state just fills one of
/// the allocator's size classes: 192 bytes. The next is 224.
const _: () = assert!(size_of::<Agent>() <= 160);

/// What a heartbeat leaves in the store: everything of an agent that heartbeats change.
#[derive(Clone, Debug, PartialEq)]
pub struct LastHeartbeat {
    /// The agent.
    pub id: AgentId,
    /// [`Registration::registered_at`] of the registration it belongs to.
    pub registration: Timestamp,
    /// When the heartbeat was received, for people.
    pub at: Timestamp,
    /// When the heartbeat was received, in active time.
    pub last_active: ActiveTime,
    /// The version the agent last reported, or registered with.
    pub version: Box<str>,
    /// The figures it last reported.
    pub figures: Figures,
    /// The newest version in its scope when it last fetched its policy. Of the agent, whatever the registration.
    pub last_fetched: PolicyVersion,
}

#[cfg(test)]
impl LastHeartbeat {
    /// A heartbeat without figures.
    pub(crate) fn bare(id: u64) -> Self {
        Self {
            id: AgentId::new(id),
            registration: Timestamp::from_millis(1),
            at: Timestamp::from_millis(2),
            last_active: ActiveTime::from_micros(3),
            version: "1".into(),
            figures: Figures::default(),
            last_fetched: PolicyVersion::NONE,
        }
    }
}

impl Agent {
    /// An agent that has just registered.
    pub fn new(registration: Registration, texts: &mut SharedStrings) -> Self {
        let labels = Labels {
            tags: texts.tags.acquire(&registration.tags),
            org: registration.org_id.as_deref().map(|org| texts.org.acquire(org)),
        };
        Self {
            id: registration.id,
            machine: registration.machine.map(Box::new),
            os: texts.os.acquire(&registration.os),
            version: texts.version.acquire(&registration.version),
            labels,
            hostname: registration.hostname,
            ip: registration.ip.to_canonical(),
            token: registration.token,
            registered_at: registration.registered_at,
            last_heartbeat: registration.registered_at,
            liveness: Liveness { last_active: registration.last_active },
            figures: Figures::default(),
        }
    }

    /// Gives the shared strings back. Called once, when the agent leaves the shard or its record is replaced; from then on
    /// nothing of it may be asked that takes [`SharedStrings`].
    pub fn release(&self, texts: &mut SharedStrings) {
        texts.os.release(self.os);
        texts.version.release(self.version);
        texts.tags.release(self.labels.tags);
        if let Some(org) = self.labels.org {
            texts.org.release(org);
        }
    }

    /// Its name.
    pub fn id(&self) -> AgentId {
        self.id
    }

    /// Its operating system.
    pub fn os<'a>(&self, texts: &'a SharedStrings) -> &'a str {
        texts.os.text(self.os)
    }

    /// The version of its Guard.
    pub fn version<'a>(&self, texts: &'a SharedStrings) -> &'a str {
        texts.version.text(self.version)
    }

    /// The figures it last reported.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// The name of its machine.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// When it was last seen, for people: its last heartbeat, or its registration.
    pub fn last_seen(&self) -> Timestamp {
        self.last_heartbeat
    }

    /// What it is filtered by.
    pub fn labels(&self) -> Labels {
        self.labels
    }

    /// Its tenant.
    pub fn org_id<'a>(&self, texts: &'a SharedStrings) -> Option<&'a str> {
        self.labels.org.map(|org| texts.org.text(org))
    }

    /// Its tags.
    pub fn tags<'a>(&self, texts: &'a SharedStrings) -> impl Iterator<Item = &'a str> {
        texts.tags.tags(self.labels.tags)
    }

    /// The key of its machine, if it registered with an identity.
    pub fn machine(&self) -> Option<MachineKey> {
        self.machine.as_deref().copied()
    }

    /// Hash of its own token.
    pub fn token(&self) -> &TokenHash {
        &self.token
    }

    /// When it registered (again).
    pub fn registered_at(&self) -> Timestamp {
        self.registered_at
    }

    /// What decides its status.
    pub fn liveness(&self) -> Liveness {
        self.liveness
    }

    /// Replaces its liveness, when the engine starts again.
    pub fn set_liveness(&mut self, liveness: Liveness) {
        self.liveness = liveness;
    }

    /// Takes over a heartbeat received now.
    pub fn beat(&mut self, heartbeat: Heartbeat, at: Timestamp, now: ActiveTime, texts: &mut SharedStrings) {
        self.last_heartbeat = at;
        self.liveness.last_active = now;
        self.figures.update(heartbeat.figures);
        if let Some(version) = heartbeat.version {
            self.set_version(&version, texts);
        }
    }

    fn set_version(&mut self, version: &str, texts: &mut SharedStrings) {
        if texts.version.text(self.version) != version {
            let newer = texts.version.acquire(version);
            texts.version.release(self.version);
            self.version = newer;
        }
    }

    /// Its registration, as the store should have it now.
    pub fn registration(&self, texts: &SharedStrings) -> Registration {
        Registration {
            id: self.id,
            hostname: self.hostname.clone(),
            os: self.os(texts).into(),
            version: self.version(texts).into(),
            ip: self.ip,
            org_id: self.org_id(texts).map(Into::into),
            tags: self.tags(texts).map(Into::into).collect(),
            machine: self.machine(),
            registered_at: self.registered_at,
            last_active: self.liveness.last_active,
            token: self.token,
        }
    }

    /// What the store must know of its last heartbeat, and of the policies that it has seen.
    pub fn last_heartbeat(&self, last_fetched: PolicyVersion, texts: &SharedStrings) -> LastHeartbeat {
        LastHeartbeat {
            id: self.id,
            registration: self.registered_at,
            at: self.last_heartbeat,
            last_active: self.liveness.last_active,
            version: self.version(texts).into(),
            figures: self.figures.clone(),
            last_fetched,
        }
    }

    /// Takes over what the store knew of its last heartbeat; one of an earlier registration is ignored.
    pub fn restore(&mut self, last: LastHeartbeat, texts: &mut SharedStrings) {
        if last.registration != self.registered_at {
            return;
        }
        self.last_heartbeat = last.at;
        self.liveness.last_active = last.last_active;
        self.figures = last.figures;
        self.set_version(&last.version, texts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{GuardFigures, Text};

    #[test]
    fn an_agent_returns_the_registration_it_was_created_from() {
        let mut texts = SharedStrings::default();
        for tags in [vec![], vec!["production".into(), "web".into()]] {
            let machine = Some(MachineKey::new(None, "m"));
            let registration = Registration { tags, machine, ..Registration::sample() };
            assert_eq!(Agent::new(registration.clone(), &mut texts).registration(&texts), registration);
        }
    }

    #[test]
    fn an_upgrade_reported_by_a_heartbeat_shows_and_is_counted() {
        let mut texts = SharedStrings::default();
        let mut agent = Agent::new(Registration::sample(), &mut texts);
        let beat = Heartbeat { version: Some(Text::new("2.0").unwrap()), ..Heartbeat::default() };
        agent.beat(beat, Timestamp::from_millis(2_000), ActiveTime::from_micros(9), &mut texts);
        assert_eq!(agent.version(&texts), "2.0");
        assert_eq!(texts.version.top(9), (vec![("2.0".into(), 1)], 0));
        agent.release(&mut texts);
        assert_eq!(texts.version.top(9), (vec![], 0));
    }

    #[test]
    fn a_restored_heartbeat_brings_back_all_it_changed_unless_it_is_of_an_earlier_registration() {
        let mut texts = SharedStrings::default();
        let mut agent = Agent::new(Registration::sample(), &mut texts);
        let guard = GuardFigures { mode: Some("learning".into()), ..GuardFigures::default() };
        let figures = Figures { cpu: Some(1.5).into(), guard: Some(Box::new(guard)), ..Figures::default() };
        let beat = Heartbeat { figures, version: Some(Text::new("3").unwrap()) };
        agent.beat(beat, Timestamp::from_millis(2_000), ActiveTime::from_micros(9), &mut texts);
        let last = agent.last_heartbeat(PolicyVersion::new(4), &texts);

        let mut restored = Agent::new(Registration::sample(), &mut texts);
        restored.restore(last.clone(), &mut texts);
        assert_eq!(restored.last_heartbeat(PolicyVersion::new(4), &texts), last);

        let mut newer = Agent::new(
            Registration { registered_at: Timestamp::from_millis(1_001), ..Registration::sample() },
            &mut texts,
        );
        newer.restore(last, &mut texts);
        assert_eq!(newer.figures, Figures::default());
        assert_eq!(newer.liveness().last_active, ActiveTime::from_micros(5));
    }
}
