//! Query strings: read into the type that has the endpoint's parameters. Each name once, unless its field is a list, and none
//! that is not a field.

use actix_web::web;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    ApiError,
    fields::{UnknownNames, fields_of},
    json::message,
};

pub(super) fn read<Q: DeserializeOwned>(query: &str) -> Result<Q, ApiError> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|_| ApiError::BadRequest("The query string cannot be read".into()))?;
    // A parameter that is given several times is a list.
    let mut given = Map::new();
    for (name, value) in pairs.into_inner() {
        match given.get_mut(&name) {
            None => _ = given.insert(name, value.into()),
            Some(Value::Array(values)) => values.push(value.into()),
            Some(first) => *first = Value::Array(vec![first.take(), value.into()]),
        }
    }
    if let Some(unknown) = UnknownNames::among("query parameter", given.keys().map(String::as_str), fields_of::<Q>()) {
        return Err(unknown.into());
    }
    serde_path_to_error::deserialize(&Value::Object(given.clone())).map_err(|error| {
        let name = error.path().to_string();
        let is_twice = given.get(&name).is_some_and(Value::is_array);
        let what = if is_twice { "is given twice".to_owned() } else { message(error.inner()) };
        ApiError::BadRequest(format!("{name} {what}"))
    })
}

/// The values of a parameter that may be given several times.
pub(super) fn several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Box<str>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Once(Box<str>),
        Often(Vec<Box<str>>),
    }
    Ok(match Given::deserialize(from)? {
        Given::Once(value) => vec![value],
        Given::Often(values) => values,
    })
}

/// Refuses a query string of an endpoint that takes none.
pub(super) fn none(query: &str) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Nothing {}
    if query.is_empty() { Ok(()) } else { read(query).map(|Nothing {}| ()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Wanted {
        status: Option<Box<str>>,
        limit: Option<Box<str>>,
        #[serde(deserialize_with = "several")]
        tag: Vec<Box<str>>,
    }

    #[test]
    fn a_parameter_is_given_once_unless_it_may_be_repeated() {
        let wanted: Wanted = read("tag=a&limit=5&tag=b%20c").unwrap();
        assert_eq!(wanted, Wanted { status: None, limit: Some("5".into()), tag: vec!["a".into(), "b c".into()] });
        for nothing in ["", "&"] {
            assert_eq!(read::<Wanted>(nothing).unwrap(), Wanted::default());
        }
        for query in ["limit=5&limit=5", "limit=5&tag=a&limit=6&limit=7"] {
            assert_eq!(read::<Wanted>(query).unwrap_err().to_string(), "limit is given twice");
        }
    }

    #[test]
    fn a_parameter_that_is_not_known_is_named_and_its_value_is_not() {
        let error = |query| read::<Wanted>(query).unwrap_err().to_string();
        let known = "; known here: status, limit, tag";
        assert_eq!(error("stauts=secret"), format!("Unknown query parameter: stauts (did you mean status?){known}"));
        assert_eq!(error("hostname=secret&limit=1&x"), format!("Unknown query parameters: hostname, x{known}"));
        assert_eq!(error("Tag=a"), format!("Unknown query parameter: Tag (did you mean tag?){known}"));
        assert_eq!(error("=a"), format!("Unknown query parameter: \"\"{known}"));
        assert_eq!(none("token=secret").unwrap_err().to_string(), "Unknown query parameter: token");
        assert!(none("").is_ok());
        assert!(none("&").is_ok());
    }
}
