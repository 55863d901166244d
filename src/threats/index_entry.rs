//! A threat as the history keeps it.

use super::{Severity, ThreatId};
use crate::limits::THREAT_BYTES_MAX;

/// A threat in 24 bytes; numbers stand for its agent, its kind and its address.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexEntry {
    pub(super) id: ThreatId,
    pub(super) agent: u32,
    pub(super) kind: u32,
    /// [`NO_IP`] if it is not known.
    ip: u32,
    /// Its size and its severity.
    weight: u32,
}

/// Stands for no address: there are fewer entries than this.
const NO_IP: u32 = u32::MAX;
/// The bits of a weight that hold the severity.
const SEVERITY_BITS: u32 = 2;

const _: () = {
    assert!(size_of::<IndexEntry>() == 24);
    assert!(Severity::ALL.len() <= 1 << SEVERITY_BITS);
    assert!(THREAT_BYTES_MAX <= u32::MAX >> SEVERITY_BITS);
};

impl IndexEntry {
    pub(super) fn new(id: ThreatId, agent: u32, kind: u32, ip: Option<u32>, severity: Severity, bytes: u32) -> Self {
        let weight = bytes.min(THREAT_BYTES_MAX) << SEVERITY_BITS | severity.index() as u32;
        Self { id, agent, kind, ip: ip.unwrap_or(NO_IP), weight }
    }

    pub(super) fn ip(&self) -> Option<u32> {
        (self.ip != NO_IP).then_some(self.ip)
    }

    pub(super) fn severity(&self) -> Severity {
        Severity::ALL[(self.weight & ((1 << SEVERITY_BITS) - 1)) as usize]
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.weight >> SEVERITY_BITS).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_severity_share_a_word_and_come_out_as_they_went_in() {
        for severity in Severity::ALL {
            for bytes in [0, 1, 512, THREAT_BYTES_MAX] {
                let entry = IndexEntry::new(ThreatId::new(1), 2, 3, None, severity, bytes);
                assert_eq!((entry.severity(), entry.bytes(), entry.ip()), (severity, bytes.into(), None));
            }
        }
        let entry = IndexEntry::new(ThreatId::new(1), 2, 3, Some(4), Severity::Low, u32::MAX);
        assert_eq!((entry.bytes(), entry.ip()), (THREAT_BYTES_MAX.into(), Some(4)));
    }
}
