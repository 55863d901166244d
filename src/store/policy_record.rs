//! How the policies of a scope are written: a JSON array, versioned, the same in every backend.
//!
//! Format version, the versions of all policies of the scope (of many the latest), and of the newest one its id, name,
//! description (or null), when it was published (ms since 1970), and its rules as the API shows them.
//!
//! ```json
//! [1,[2,5],"90f1c2ab34de5678","baseline",null,1772884800000,[{"type":"block_ip","config":{"ip":"203.0.113.66"},"enabled":true}]]
//! ```

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::record::RecordError;
use crate::{
    fleet::{PolicyVersion, Timestamp},
    policy::{Policy, PolicyId, PolicyScope, Rule, ScopePolicies},
};

/// Version of the format.
const FORMAT: u8 = 1;

/// Written as an array, like every tuple struct.
#[derive(Serialize, Deserialize)]
struct PoliciesRecord<'a>(u8, Vec<u32>, Cow<'a, str>, Cow<'a, str>, Option<Cow<'a, str>>, i64, Cow<'a, [Rule]>);

/// Encodes the policies of a scope, all but the scope: that is their key.
pub fn encode_policies(policies: &ScopePolicies) -> Vec<u8> {
    let newest = policies.newest();
    let record = PoliciesRecord(
        FORMAT,
        policies.versions().iter().map(|version| version.get()).collect(),
        Cow::Owned(format!("{:016x}", newest.id.get())),
        Cow::Borrowed(&newest.name),
        newest.description.as_deref().map(Cow::Borrowed),
        newest.created_at.as_millis(),
        Cow::Borrowed(&newest.rules),
    );
    serde_json::to_vec(&record).expect("a record has only string keys")
}

/// Decodes the policies of the scope that is named so.
pub fn decode_policies(scope: &[u8], bytes: &[u8]) -> Result<ScopePolicies, RecordError> {
    let scope: PolicyScope =
        std::str::from_utf8(scope).ok().and_then(|name| name.parse().ok()).ok_or(RecordError::Key)?;
    let PoliciesRecord(format, versions, id, name, description, created_at, rules) = serde_json::from_slice(bytes)?;
    if format != FORMAT {
        return Err(RecordError::Version(format));
    }
    let newest = Policy {
        id: PolicyId::new(u64::from_str_radix(&id, 16).map_err(|_| RecordError::Hash)?),
        version: versions.last().copied().map_or(PolicyVersion::NONE, PolicyVersion::new),
        scope,
        name: name.into(),
        description: description.map(Into::into),
        rules: rules.into_owned().into(),
        created_at: Timestamp::from_millis(created_at),
    };
    let versions = versions.into_iter().map(PolicyVersion::new).collect();
    ScopePolicies::restored(newest, versions).ok_or(RecordError::Order)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::samples::{policies, policy};

    #[test]
    fn policies_survive_their_encoding() {
        for (org, versions) in [(None, &[1][..]), (Some("acme"), &[2, 3, 9]), (Some("组织 *"), &[7, 8])] {
            let policies = policies(org, versions);
            let scope = policies.scope().to_string();
            assert_eq!(decode_policies(scope.as_bytes(), &encode_policies(&policies)).unwrap(), policies);
        }
    }

    #[test]
    fn policies_are_written_as_documented() {
        let policies = ScopePolicies::after(Some(&policies(None, &[2])), policy(5, None));
        assert_eq!(
            String::from_utf8(encode_policies(&policies)).unwrap(),
            r#"[1,[2,5],"0000000000000005","policy 5",null,5,[{"type":"block_ip","config":{"ip":"203.0.113.66"},"enabled":true}]]"#
        );
    }

    #[test]
    fn what_is_no_record_is_told_apart() {
        let good = encode_policies(&policies(None, &[5]));
        let error = |scope: &[u8], bytes: &[u8]| decode_policies(scope, bytes).unwrap_err().to_string();
        assert!(error(b"*", &good[1..]).contains("not a record"));
        assert_eq!(error(b"acme", &good), "its key is none of ours");
        assert_eq!(error(b"\xff", &good), "its key is none of ours");
        assert_eq!(error(b"*", br#"[2,[1],"1","n",null,1,[]]"#), "format version 2 is unknown");
        assert_eq!(error(b"*", br#"[1,[],"1","n",null,1,[]]"#), "its versions are not in order");
        assert_eq!(error(b"*", br#"[1,[2,1],"1","n",null,1,[]]"#), "its versions are not in order");
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(scope: Vec<u8>, bytes: Vec<u8>) {
            let _ = decode_policies(&scope, &bytes);
            let _ = decode_policies(b"*", &bytes);
        }
    }
}
