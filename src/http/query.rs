//! Query strings: read into the type that has the endpoint's parameters. Each name once, unless its field is a list, and none
//! that is not a field.

use actix_web::web;
use serde::{
    Deserialize,
    de::{
        DeserializeOwned, Deserializer, Error, IntoDeserializer, Visitor,
        value::{Error as Wrong, MapDeserializer, SeqDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    envelope::ApiError,
    fields::{UnknownNames, fields_of},
};

/// Reads a query string.
pub(super) fn read<Q: DeserializeOwned>(query: &str) -> Result<Q, ApiError> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|_| ApiError::BadRequest("The query string cannot be read".into()))?;
    let mut given: Vec<Values> = Vec::new();
    for (name, value) in pairs.into_inner() {
        match given.iter_mut().find(|earlier| earlier.name == name) {
            Some(earlier) => earlier.values.push(value),
            None => given.push(Values { name, values: vec![value] }),
        }
    }
    let names = given.iter().map(|given| &*given.name);
    if let Some(unknown) = UnknownNames::among("query parameter", names, fields_of::<Q>()) {
        return Err(unknown.into());
    }
    let given = given.into_iter().map(|given| (given.name.clone(), given));
    Q::deserialize(MapDeserializer::new(given)).map_err(|wrong: Wrong| ApiError::BadRequest(wrong.to_string()))
}

/// Refuses a query string of an endpoint that takes none.
pub(super) fn none(query: &str) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Nothing {}
    if query.is_empty() { Ok(()) } else { read(query).map(|Nothing {}| ()) }
}

/// The values of a parameter, in their order, with its name for the error.
struct Values {
    name: String,
    values: Vec<String>,
}

impl Values {
    fn within(name: String) -> impl FnOnce(Wrong) -> Wrong {
        move |wrong| Wrong::custom(format_args!("{name} {wrong}"))
    }

    /// Its name and its only value.
    fn only(mut self) -> Result<(String, StringDeserializer<Wrong>), Wrong> {
        match self.values.pop() {
            Some(value) if self.values.is_empty() => Ok((self.name, value.into_deserializer())),
            Some(_) | None => Err(Wrong::custom(self.name + " is given twice")),
        }
    }
}

impl IntoDeserializer<'_, Wrong> for Values {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Values {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let (name, value) = self.only()?;
        value.deserialize_any(visitor).map_err(Self::within(name))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let (name, value) = self.only()?;
        visitor.visit_some(value).map_err(Self::within(name))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_seq(SeqDeserializer::new(self.values.into_iter()))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Wanted {
        status: Option<Box<str>>,
        limit: Option<Box<str>>,
        tag: Vec<Box<str>>,
    }

    #[test]
    fn a_parameter_is_given_once_unless_it_may_be_repeated() {
        let wanted: Wanted = read("tag=a&limit=5&tag=b%20c").unwrap();
        assert_eq!(wanted, Wanted { status: None, limit: Some("5".into()), tag: vec!["a".into(), "b c".into()] });
        for nothing in ["", "&"] {
            assert_eq!(read::<Wanted>(nothing).unwrap(), Wanted::default());
        }
        assert_eq!(read::<Wanted>("limit=5&limit=5").unwrap_err().to_string(), "limit is given twice");
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
