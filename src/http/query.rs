//! Query strings: names and values, each name once, and none that the endpoint does not know.

use actix_web::{HttpRequest, web};
use chrono::{DateTime, FixedOffset};

use super::{ApiState, auth::Caller, envelope::ApiError};
use crate::fleet::{OrgId, UnknownNames};

/// The parameters of a query string, in their order. All must be `known` or `repeatable`; only the latter may be given more
/// than once.
pub(super) fn parameters(
    query: &str,
    known: &[&'static str],
    repeatable: &[&'static str],
) -> Result<Vec<(String, String)>, ApiError> {
    if query.is_empty() {
        return Ok(Vec::new());
    }
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|_| ApiError::BadRequest("The query string cannot be read".into()))?;
    let wanted = pairs.into_inner();
    let names = wanted.iter().map(|(name, _)| &**name);
    if let Some(unknown) = UnknownNames::among("query parameter", names, known.iter().chain(repeatable).copied()) {
        return Err(unknown.into());
    }
    for (place, (name, _)) in wanted.iter().enumerate() {
        if known.contains(&&**name) && wanted[..place].iter().any(|(earlier, _)| earlier == name) {
            return Err(ApiError::BadRequest(format!("{name} is given twice")));
        }
    }
    Ok(wanted)
}

/// Refuses a query string of an endpoint that takes none; whoever has no valid token is refused for that first.
pub(super) async fn none_of(caller: Caller, request: &HttpRequest, state: &ApiState) -> Result<(), ApiError> {
    match none(request.query_string()) {
        Ok(()) => Ok(()),
        Err(unknown) => Err(caller.check(state).await.err().unwrap_or(unknown)),
    }
}

/// The same where the token has been checked, or none is needed.
pub(super) fn none(query: &str) -> Result<(), ApiError> {
    parameters(query, &[], &[]).map(drop)
}

/// The name of a tenant.
pub(super) fn org_id(value: &str) -> Result<Box<str>, ApiError> {
    Ok(OrgId::new("org_id", value)?.into_inner())
}

/// A moment with its offset from UTC. In a query string a plus sign stands for a space, and few who write `+01:00` think of
/// that; no time has a space there.
pub(super) fn time(name: &str, value: &str) -> Result<DateTime<FixedOffset>, ApiError> {
    let written = match value.len().checked_sub("+01:00".len()).filter(|sign| value.as_bytes()[*sign] == b' ') {
        Some(sign) => format!("{}+{}", &value[..sign], &value[sign + 1..]),
        None => value.to_owned(),
    };
    DateTime::parse_from_rfc3339(&written).map_err(|_| {
        ApiError::BadRequest(format!(
            "{name} must be a time such as 2026-03-07T12:05:00Z or 2026-03-07T13:05:00%2B01:00 (%2B is a plus sign)"
        ))
    })
}

/// A parameter has a value that it cannot have.
pub(super) fn invalid(rule: &str) -> ApiError {
    ApiError::BadRequest(rule.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_given_once_unless_it_may_be_repeated() {
        let read = |query| parameters(query, &["limit"], &["tag"]);
        let names =
            |query| read(query).unwrap().into_iter().map(|(name, value)| name + "=" + &value).collect::<Vec<_>>();
        assert_eq!(names("tag=a&limit=5&tag=b%20c"), ["tag=a", "limit=5", "tag=b c"]);
        assert!(names("").is_empty());
        assert!(names("&").is_empty());
        assert_eq!(read("limit=5&limit=5").unwrap_err().to_string(), "limit is given twice");
    }

    #[test]
    fn a_parameter_that_is_not_known_is_named_and_its_value_is_not() {
        let error = |query| parameters(query, &["status", "limit"], &["tag"]).unwrap_err().to_string();
        let known = "; known here: status, limit, tag";
        assert_eq!(error("stauts=secret"), format!("Unknown query parameter: stauts (did you mean status?){known}"));
        assert_eq!(error("hostname=secret&limit=1&x"), format!("Unknown query parameters: hostname, x{known}"));
        assert_eq!(error("Tag=a"), format!("Unknown query parameter: Tag (did you mean tag?){known}"));
        assert_eq!(error("=a"), format!("Unknown query parameter: \"\"{known}"));
        assert_eq!(none("token=secret").unwrap_err().to_string(), "Unknown query parameter: token");
        assert!(none("").is_ok());
    }

    #[test]
    fn the_plus_sign_of_an_offset_may_be_written_as_it_is() {
        let millis = |value| time("since", value).map(|time| time.timestamp_millis()).ok();
        let right = millis("2026-03-07T12:05:00Z");
        assert!(right.is_some());
        for same in ["2026-03-07T13:05:00 01:00", "2026-03-07T13:05:00+01:00", "2026-03-07T11:05:00.000-01:00"] {
            assert_eq!(millis(same), right, "{same}");
        }
        for wrong in
            ["", " ", "2026-03-07", "2026-03-07T13:05:00 0100", "é2026", "2026-03-07T13:05:00  01:00", "é01:00"]
        {
            let error = time("since", wrong).unwrap_err().to_string();
            assert!(error.starts_with("since must be a time") && error.contains("%2B"), "{error}");
        }
    }
}
