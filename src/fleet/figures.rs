//! The figures of an agent in half the room.

use super::vitals::{GuardReport, Vitals};

/// A figure that may be missing, in 8 bytes where `Option<f64>` takes 16. Figures are finite (they are checked where they
/// are taken in), so that NaN is free to say that there is none.
#[derive(Clone, Copy, Debug)]
struct Figure(f64);

impl Figure {
    fn get(self) -> Option<f64> {
        (!self.0.is_nan()).then_some(self.0)
    }

    fn update(&mut self, newer: Option<f64>) {
        if let Some(number) = newer {
            self.0 = number;
        }
    }
}

impl Default for Figure {
    fn default() -> Self {
        Self(f64::NAN)
    }
}

/// The last known [`Vitals`] of an agent, as they are kept in memory.
#[derive(Debug, Default)]
pub(super) struct Figures {
    uptime: Figure,
    cpu: Figure,
    memory: Figure,
    report: Option<Box<Report>>,
}

/// What a [`GuardReport`] told.
#[derive(Debug, Default)]
struct Report {
    mode: Option<Box<str>>,
    events_processed: Figure,
    threats_detected: Figure,
    actions_executed: Figure,
    memory_usage_mb: Figure,
}

impl Figures {
    /// Takes over every figure that `newer` carries.
    pub(super) fn update(&mut self, newer: Vitals) {
        self.uptime.update(newer.uptime);
        self.cpu.update(newer.cpu);
        self.memory.update(newer.memory);
        if let Some(newer) = newer.report {
            self.report.get_or_insert_default().update(*newer);
        }
    }

    /// The figures as the store and the API have them.
    pub(super) fn to_vitals(&self) -> Vitals {
        Vitals {
            uptime: self.uptime.get(),
            cpu: self.cpu.get(),
            memory: self.memory.get(),
            report: self.report.as_ref().map(|report| Box::new(report.to_guard_report())),
        }
    }
}

impl Report {
    fn update(&mut self, newer: GuardReport) {
        if newer.mode.is_some() {
            self.mode = newer.mode;
        }
        self.events_processed.update(newer.events_processed);
        self.threats_detected.update(newer.threats_detected);
        self.actions_executed.update(newer.actions_executed);
        self.memory_usage_mb.update(newer.memory_usage_mb);
    }

    fn to_guard_report(&self) -> GuardReport {
        GuardReport {
            mode: self.mode.clone(),
            events_processed: self.events_processed.get(),
            threats_detected: self.threats_detected.get(),
            actions_executed: self.actions_executed.get(),
            memory_usage_mb: self.memory_usage_mb.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn figure() -> impl Strategy<Value = Option<f64>> {
        proptest::option::of(prop_oneof![Just(0.0), 0.0..9_007_199_254_740_991.0])
    }

    fn vitals() -> impl Strategy<Value = Vitals> {
        let report = (proptest::option::of("[a-z]{1,9}"), figure(), figure()).prop_map(|(mode, events, memory)| {
            Box::new(GuardReport {
                mode: mode.map(Into::into),
                events_processed: events,
                memory_usage_mb: memory,
                ..GuardReport::default()
            })
        });
        (figure(), figure(), figure(), proptest::option::of(report)).prop_map(|(uptime, cpu, memory, report)| Vitals {
            uptime,
            cpu,
            memory,
            report,
        })
    }

    proptest! {
        #[test]
        fn figures_are_kept_as_vitals_are(heartbeats in proptest::collection::vec(vitals(), 0..5)) {
            let mut figures = Figures::default();
            let mut expected = Vitals::default();
            for heartbeat in heartbeats {
                figures.update(heartbeat.clone());
                expected.update(heartbeat);
                prop_assert_eq!(figures.to_vitals(), expected.clone());
            }
        }
    }
}
