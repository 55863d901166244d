//! Query strings: names and values, each name once.

use actix_web::web;

use super::envelope::ApiError;
use crate::fleet::OrgId;

/// The parameters of a query string, in their order. Those that are not `known` are passed over, like unknown fields; of
/// those that are, only the `repeatable` may be given more than once.
pub(super) fn parameters(query: &str, known: &[&str], repeatable: &[&str]) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|_| ApiError::BadRequest("The query string cannot be read".into()))?;
    let mut wanted = pairs.into_inner();
    wanted.retain(|(name, _)| known.contains(&&**name) || repeatable.contains(&&**name));
    for (place, (name, _)) in wanted.iter().enumerate() {
        if known.contains(&&**name) && wanted[..place].iter().any(|(earlier, _)| earlier == name) {
            return Err(ApiError::BadRequest(format!("{name} is given twice")));
        }
    }
    Ok(wanted)
}

/// The name of a tenant.
pub(super) fn org_id(value: &str) -> Result<Box<str>, ApiError> {
    Ok(OrgId::new("org_id", value)?.into_inner())
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
        assert_eq!(names("tag=a&x=1&x=2&limit=5&tag=b%20c"), ["tag=a", "limit=5", "tag=b c"]);
        assert!(names("").is_empty());
        assert_eq!(read("limit=5&limit=5").unwrap_err().to_string(), "limit is given twice");
    }
}
