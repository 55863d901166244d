//! What the document says of one endpoint besides what its route says (`routes.rs`): what it is for, what it takes and what
//! it answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::{
    IntoParams, ToSchema,
    openapi::path::{Parameter, ParameterIn},
};

use crate::api::body::JSON;

/// A description under construction: an operation of OpenAPI. Examples and headers are of what was described last.
pub(in crate::api) struct Description {
    pub(super) operation: Value,
    /// The schemas that it refers to.
    pub(super) schemas: BTreeMap<String, Value>,
    /// Where in the operation that is.
    last: String,
    /// Whether only the `data` of an example is given.
    is_enveloped: bool,
}

/// The parameters of a query.
pub(in crate::api) fn query_of<Q: IntoParams>() -> Vec<Parameter> {
    Q::into_params(|| Some(ParameterIn::Query))
}

impl Description {
    /// Of the endpoint `id`, for readers of this group.
    pub(in crate::api) fn new(tag: &str, id: &str, summary: &str) -> Self {
        let operation = json!({
            "tags": [tag], "summary": summary, "description": "", "operationId": id, "parameters": [],
            "requestBody": null, "responses": {}, "security": null,
        });
        Self { operation, schemas: BTreeMap::new(), last: "/requestBody".into(), is_enveloped: false }
    }

    /// What it is for, in full sentences; those that follow begin a new line.
    pub(in crate::api) fn about(mut self, text: &str) -> Self {
        let earlier = self.operation["description"].as_str().filter(|earlier| !earlier.is_empty());
        self.operation["description"] =
            earlier.map_or_else(|| text.into(), |earlier| format!("{earlier}\n{text}").into());
        self
    }

    /// It takes a body of this type.
    pub(in crate::api) fn takes<T: ToSchema>(mut self) -> Self {
        let schema = self.refer::<T>();
        self.takes_body(json!({ "content": { JSON: { "schema": schema } }, "required": true }))
    }

    /// The same, but the body may be left out.
    pub(in crate::api) fn may_take<T: ToSchema>(mut self) -> Self {
        let schema = self.refer::<T>();
        self.takes_body(json!({ "content": { JSON: { "schema": schema } } }))
    }

    /// It takes a body of several forms.
    pub(in crate::api) fn takes_one_of(mut self, name: &str, forms: [Value; 2]) -> Self {
        self.schemas.insert(name.into(), json!({ "oneOf": forms }));
        self.takes_body(json!({ "content": { JSON: { "schema": reference(name) } }, "required": true }))
    }

    /// It takes text of this media type.
    pub(in crate::api) fn takes_text(self, kind: &str, about: &str) -> Self {
        let content = json!({ kind: { "schema": { "type": "string" } } });
        self.takes_body(json!({ "description": about, "content": content, "required": true }))
    }

    fn takes_body(mut self, body: Value) -> Self {
        self.operation["requestBody"] = body;
        self
    }

    /// It looks at this header of a request, if it is there.
    pub(in crate::api) fn looks_at(mut self, name: &str, about: &str) -> Self {
        let schema = json!({ "type": "string" });
        self.add_parameters([
            json!({ "name": name, "in": "header", "description": about, "required": false, "schema": schema }),
        ]);
        self
    }

    /// Adds parameters before those that there are.
    pub(super) fn add_parameters(&mut self, parameters: impl IntoIterator<Item = Value>) {
        let known = self.operation["parameters"].as_array_mut().expect("it is a list");
        known.splice(..0, parameters);
    }

    /// It answers with this `data`.
    pub(in crate::api) fn answers<T: ToSchema>(mut self, status: u16, about: &str) -> Self {
        let data = self.refer::<T>();
        self.answers_data(status, about, data)
    }

    /// It answers 200 with this `data`, or with `null` in its place.
    pub(in crate::api) fn answers_or_null<T: ToSchema>(mut self, about: &str) -> Self {
        let mut data = self.refer::<T>();
        data["description"] = "What was asked for.".into();
        self.answers_data(200, about, json!({ "oneOf": [data, { "type": "null" }] }))
    }

    /// As every success looks.
    fn answers_data(self, status: u16, about: &str, data: Value) -> Self {
        let ok = json!({ "type": "boolean", "enum": [true] });
        let schema = json!({ "type": "object", "required": ["ok", "data"], "properties": { "ok": ok, "data": data } });
        Self { is_enveloped: true, ..self.answers_as(status, about, JSON, schema) }
    }

    /// It answers with this, without an envelope around it.
    pub(in crate::api) fn answers_whole<T: ToSchema>(mut self, status: u16, about: &str) -> Self {
        let schema = self.refer::<T>();
        self.answers_as(status, about, JSON, schema)
    }

    /// It answers with what has this media type and this schema.
    pub(in crate::api) fn answers_as(self, status: u16, about: &str, kind: &str, schema: Value) -> Self {
        self.responds(status, json!({ "description": about, "headers": {}, "content": { kind: { "schema": schema } } }))
    }

    /// It may answer so, without a body.
    pub(in crate::api) fn answers_nothing(self, status: u16, about: &str) -> Self {
        self.responds(status, json!({ "description": about, "headers": {} }))
    }

    /// It may refuse so.
    pub(in crate::api) fn refuses(self, status: u16, about: &str) -> Self {
        self.answers_as(status, about, JSON, reference("Failure"))
    }

    fn responds(mut self, status: u16, response: Value) -> Self {
        self.operation["responses"][status.to_string()] = response;
        Self { last: format!("/responses/{status}"), is_enveloped: false, ..self }
    }

    /// The answer has this header, always.
    pub(in crate::api) fn with_header(mut self, name: &str, about: &str) -> Self {
        let schema = json!({ "type": "string" });
        self.part()["headers"][name] = json!({ "schema": schema, "description": about, "required": true });
        self
    }

    pub(in crate::api) fn example(mut self, value: impl Into<Value>) -> Self {
        let value = value.into();
        let value = if self.is_enveloped { json!({ "ok": true, "data": value }) } else { value };
        self.content()["example"] = value;
        self
    }

    /// An example of one of several forms, with what it shows.
    pub(in crate::api) fn example_of(mut self, form: &str, summary: &str, value: Value) -> Self {
        self.content()["examples"][form] = json!({ "summary": summary, "value": value });
        self
    }

    fn part(&mut self) -> &mut Value {
        self.operation.pointer_mut(&self.last).expect("it has been described")
    }

    fn content(&mut self) -> &mut Value {
        let kinds = self.part()["content"].as_object_mut();
        kinds.and_then(|kinds| kinds.values_mut().next()).expect("it has a body")
    }

    /// Refers to the schema of a type.
    pub(in crate::api) fn refer<T: ToSchema>(&mut self) -> Value {
        let mut schemas = vec![(T::name().into(), T::schema())];
        T::schemas(&mut schemas);
        self.schemas.extend(schemas.into_iter().map(|(name, schema)| (name, json!(schema))));
        reference(&T::name())
    }
}

/// A reference to a schema of the document.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}
