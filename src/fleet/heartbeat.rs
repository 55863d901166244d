//! The figures of a heartbeat, and what is kept of them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::registration::Version;

/// One heartbeat, validated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// The figures it carries; one that is missing keeps its last value.
    pub figures: Figures,
    /// The Guard's version, if it reported one.
    pub version: Option<Version>,
}

/// A number that may be missing, in 8 bytes where `Option<f64>` takes 16. What is reported is finite (it is checked where it
/// is taken in), so that NaN is free to stand for none.
#[derive(Clone, Copy, Debug)]
pub struct Figure(f64);

impl Figure {
    pub const MISSING: Self = Self(f64::NAN);

    pub fn get(self) -> Option<f64> {
        (!self.0.is_nan()).then_some(self.0)
    }

    fn update(&mut self, newer: Self) {
        if !newer.0.is_nan() {
            *self = newer;
        }
    }
}

impl Default for Figure {
    fn default() -> Self {
        Self::MISSING
    }
}

impl From<Option<f64>> for Figure {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::MISSING, Self)
    }
}

impl PartialEq for Figure {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(out)
    }
}

impl<'de> Deserialize<'de> for Figure {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Option::<f64>::deserialize(from).map(Self::from)
    }
}

/// The last known figures of an agent, or those that one heartbeat carries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Seconds since the Guard started.
    pub uptime: Figure,
    /// Processor use of the machine, 0 to 100 percent.
    pub cpu: Figure,
    /// Memory use of the machine, 0 to 100 percent.
    pub memory: Figure,
    /// What only the published Guard client sends. Boxed: most fleets' agents have none.
    pub guard: Option<Box<GuardFigures>>,
}

/// The figures that the published Guard client adds to its heartbeats.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GuardFigures {
    /// Its mode of operation, in its own words.
    pub mode: Option<Box<str>>,
    /// Security events it has looked at since it started.
    pub events_processed: Figure,
    /// Threats it has found since it started.
    pub threats_detected: Figure,
    /// Responses it has carried out since it started.
    pub actions_executed: Figure,
    /// Its own memory use, in megabytes.
    pub memory_usage_mb: Figure,
}

impl Serialize for GuardFigures {
    /// As a list, in the order of the fields, which is also read.
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let Self { mode, events_processed, threats_detected, actions_executed, memory_usage_mb } = self;
        (mode, events_processed, threats_detected, actions_executed, memory_usage_mb).serialize(out)
    }
}

impl Figures {
    /// Takes over every figure that `newer` carries.
    pub fn update(&mut self, newer: Self) {
        let Self { uptime, cpu, memory, guard } = newer;
        self.uptime.update(uptime);
        self.cpu.update(cpu);
        self.memory.update(memory);
        if let Some(newer) = guard {
            self.guard.get_or_insert_default().update(*newer);
        }
    }
}

impl GuardFigures {
    fn update(&mut self, newer: Self) {
        let Self { mode, events_processed, threats_detected, actions_executed, memory_usage_mb } = newer;
        if mode.is_some() {
            self.mode = mode;
        }
        self.events_processed.update(events_processed);
        self.threats_detected.update(threats_detected);
        self.actions_executed.update(actions_executed);
        self.memory_usage_mb.update(memory_usage_mb);
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;
    use proptest::{option, prelude::*};

    pub fn figure() -> impl Strategy<Value = Figure> {
        option::of(0.0..1e15_f64).prop_map(Figure::from)
    }

    /// With every field that there is.
    pub fn guard_figures() -> impl Strategy<Value = GuardFigures> {
        (option::of(".{1,9}"), figure(), figure(), figure(), figure()).prop_map(|(mode, a, b, c, d)| GuardFigures {
            mode: mode.map(String::into_boxed_str),
            events_processed: a,
            threats_detected: b,
            actions_executed: c,
            memory_usage_mb: d,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Plain = (Option<f64>, Option<f64>, Option<f64>, Option<(Option<String>, Option<f64>, Option<f64>)>);

    fn figure() -> impl Strategy<Value = Option<f64>> {
        proptest::option::of(prop_oneof![Just(0.0), 0.0..9_007_199_254_740_991.0])
    }

    fn plain() -> impl Strategy<Value = Plain> {
        let guard = proptest::option::of((proptest::option::of("[a-z]{1,9}"), figure(), figure()));
        (figure(), figure(), figure(), guard)
    }

    fn figures((uptime, cpu, memory, guard): Plain) -> Figures {
        let guard = guard.map(|(mode, events, memory)| GuardFigures {
            mode: mode.map(Into::into),
            events_processed: events.into(),
            memory_usage_mb: memory.into(),
            ..GuardFigures::default()
        });
        Figures { uptime: uptime.into(), cpu: cpu.into(), memory: memory.into(), guard: guard.map(Box::new) }
    }

    #[test]
    fn figures_of_the_guard_are_a_list() {
        let guard = GuardFigures { mode: Some("a".into()), ..GuardFigures::default() };
        assert_eq!(serde_json::to_string(&guard).unwrap(), r#"["a",null,null,null,null]"#);
    }

    proptest! {
        #[test]
        fn a_figure_left_out_keeps_its_last_value(heartbeats in proptest::collection::vec(plain(), 0..5)) {
            let mut kept = Figures::default();
            let mut expected: Plain = (None, None, None, None);
            for heartbeat in heartbeats {
                kept.update(figures(heartbeat.clone()));
                let (uptime, cpu, memory, guard) = heartbeat;
                let (last_uptime, last_cpu, last_memory, last_guard) = expected;
                let guard = match (guard, last_guard) {
                    (Some((mode, events, memory)), Some((last_mode, last_events, last_memory))) => {
                        Some((mode.or(last_mode), events.or(last_events), memory.or(last_memory)))
                    }
                    (newer, last) => newer.or(last),
                };
                expected = (uptime.or(last_uptime), cpu.or(last_cpu), memory.or(last_memory), guard);
                prop_assert_eq!(&kept, &figures(expected.clone()));
            }
        }
    }
}
