//! The context an agent's actor runs in: a mailbox and one timer, nothing else.
//!
//! actix's own `Context` keeps inline vectors for futures that an actor may spawn, and a timer in it is a boxed future;
//! with a million agents that is hundreds of megabytes for something an agent never uses. The mailbox, the address and
//! the rules are actix's: one message at a time, in the order of arrival; a panic ends the actor and closes its
//! mailbox. One rule is not: an actor lives until it stops, even while nobody holds its address, since the routing table
//! keeps only weak ones ([`crate::engine::delivery::routing::Routing`]).

use std::{
    pin::Pin,
    task::{self, Poll},
};

use actix::{
    Actor, ActorContext, ActorState, Addr, AsyncContext, Handler, Message, SpawnHandle, WeakAddr,
    dev::{Envelope, Mailbox, ToEnvelope},
    fut::ActorFuture,
};
use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use super::AgentActor;

/// What an [`AgentActor`] can do besides handling its messages: set its timer, and stop.
#[derive(Debug)]
pub struct AgentContext {
    address: WeakAddr<AgentActor>,
    state: ActorState,
    /// Set by the actor, taken by the runner after each poll.
    wake_at: Option<Instant>,
}

impl AgentContext {
    /// Starts `actor` on the current thread, with what is in its mailbox by now.
    pub fn start(actor: AgentActor, mailbox: Mailbox<AgentActor>) {
        let context = Self { address: mailbox.address().downgrade(), state: ActorState::Started, wake_at: None };
        actix_rt::spawn(Runner { actor, context, mailbox, timer: None });
    }

    /// Sets the one timer: [`AgentActor::timer`] is called at `instant`, or as soon as possible after it. An earlier
    /// setting is replaced.
    pub fn wake_at(&mut self, instant: Instant) {
        self.wake_at = Some(instant);
    }
}

impl ActorContext for AgentContext {
    fn stop(&mut self) {
        self.state = ActorState::Stopped;
    }

    fn terminate(&mut self) {
        self.state = ActorState::Stopped;
    }

    fn state(&self) -> ActorState {
        self.state
    }
}

impl AsyncContext<AgentActor> for AgentContext {
    fn address(&self) -> Addr<AgentActor> {
        self.address.upgrade().expect("the mailbox lives as long as the context")
    }

    /// Not supported: whatever an agent would wait for is waited for by who asked.
    fn spawn<F>(&mut self, _: F) -> SpawnHandle
    where
        F: ActorFuture<AgentActor, Output = ()> + 'static,
    {
        unreachable!("an agent's context runs no futures but its timer")
    }

    /// Not supported, like [`AgentContext::spawn`].
    fn wait<F>(&mut self, _: F)
    where
        F: ActorFuture<AgentActor, Output = ()> + 'static,
    {
        unreachable!("an agent's context runs no futures but its timer")
    }

    fn waiting(&self) -> bool {
        self.state == ActorState::Stopped
    }

    fn cancel_future(&mut self, _: SpawnHandle) -> bool {
        false
    }
}

impl<M> ToEnvelope<AgentActor, M> for AgentContext
where
    AgentActor: Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, answer: Option<oneshot::Sender<M::Result>>) -> Envelope<AgentActor> {
        Envelope::new(message, answer)
    }
}

pin_project! {
    /// The task of one agent.
    struct Runner {
        actor: AgentActor,
        context: AgentContext,
        mailbox: Mailbox<AgentActor>,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl Future for Runner {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.context.state == ActorState::Started {
            this.context.state = ActorState::Running;
            this.actor.started(this.context);
        }
        this.mailbox.poll(this.actor, this.context, cx);
        loop {
            if this.context.state == ActorState::Stopped {
                return Poll::Ready(());
            }
            if let Some(instant) = this.context.wake_at.take() {
                match this.timer.as_mut().as_pin_mut() {
                    Some(timer) => timer.reset(instant),
                    None => this.timer.set(Some(sleep_until(instant))),
                }
            }
            match this.timer.as_mut().as_pin_mut().map(|timer| timer.poll(cx)) {
                Some(Poll::Ready(())) => {
                    this.timer.set(None);
                    this.actor.timer(this.context);
                }
                Some(Poll::Pending) | None => return Poll::Pending,
            }
        }
    }
}
