//! What the threat log is asked: searches and figures, as of now.

use actix::{Context, Handler, MessageResult};

use super::ThreatLog;
use crate::{
    engine::threats::messages::{CountRecent, CountThreats, FindThreats, Summarise, ThreatFilter},
    limits::{SUMMARY_TOP, THREAT_SCAN_MAX},
    threats::{Filter, ThreatScope},
};

impl Handler<FindThreats> for ThreatLog {
    type Result = MessageResult<FindThreats>;

    fn handle(&mut self, find: FindThreats, _: &mut Context<Self>) -> Self::Result {
        self.state.up_to_date();
        let ThreatFilter { org, since_ms, severity, kind, agent } = &find.filter;
        let filter = Filter {
            scope: scope(org),
            since_ms: *since_ms,
            severity: *severity,
            kind: kind.as_deref(),
            agent: *agent,
        };
        MessageResult(self.state.history.borrow().query(&filter, find.before, find.most, THREAT_SCAN_MAX))
    }
}

impl Handler<Summarise> for ThreatLog {
    type Result = MessageResult<Summarise>;

    fn handle(&mut self, Summarise { org, period }: Summarise, _: &mut Context<Self>) -> Self::Result {
        self.state.up_to_date();
        MessageResult(self.state.history.borrow_mut().summary(scope(&org), period, SUMMARY_TOP))
    }
}

impl Handler<CountRecent> for ThreatLog {
    type Result = MessageResult<CountRecent>;

    fn handle(&mut self, CountRecent(agent): CountRecent, _: &mut Context<Self>) -> Self::Result {
        self.state.up_to_date();
        MessageResult(self.state.history.borrow().recent(agent))
    }
}

impl Handler<CountThreats> for ThreatLog {
    type Result = MessageResult<CountThreats>;

    fn handle(&mut self, CountThreats(period): CountThreats, _: &mut Context<Self>) -> Self::Result {
        self.state.up_to_date();
        MessageResult(self.state.history.borrow().totals(period))
    }
}

fn scope(org: &Option<Box<str>>) -> ThreatScope<'_> {
    org.as_deref().map_or(ThreatScope::Fleet, |org| ThreatScope::Tenant(Some(org)))
}
