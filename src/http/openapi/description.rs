//! What the document says of one endpoint besides what its route says (`routes.rs`): what it is for, what it takes and what
//! it answers.

use serde_json::Value;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        HeaderBuilder, ObjectBuilder, Ref, RefOr, Required, ResponseBuilder, Schema,
        content::ContentBuilder,
        example::ExampleBuilder,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{OneOfBuilder, Type},
    },
};

use crate::http::{
    body::JSON,
    envelope::{Failure, always},
};

/// A description under construction.
pub(in crate::http) struct Description {
    operation: Operation,
    /// The schemas that it refers to.
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// The parameters of a query.
pub(in crate::http) fn query_of<Q: IntoParams>() -> Vec<Parameter> {
    Q::into_params(|| None)
}

impl Description {
    /// Of the endpoint `id`, for readers of this group.
    pub(in crate::http) fn new(tag: &str, id: &str, summary: &str, text: &str) -> Self {
        let operation = OperationBuilder::new().tag(tag).operation_id(Some(id)).summary(Some(summary));
        Self { operation: operation.description(Some(text)).build(), schemas: Vec::new() }
    }

    /// It takes a body of this type.
    pub(in crate::http) fn takes<T: ToSchema>(mut self, example: Value) -> Self {
        let content = ContentBuilder::new().schema(Some(self.refer::<T>())).example(Some(example));
        self.takes_body(JSON, content, RequestBodyBuilder::new().required(Some(Required::True)))
    }

    /// The same, but the body may be left out.
    pub(in crate::http) fn may_take<T: ToSchema>(mut self, example: Value) -> Self {
        let content = ContentBuilder::new().schema(Some(self.refer::<T>())).example(Some(example));
        self.takes_body(JSON, content, RequestBodyBuilder::new())
    }

    /// It takes a body of a type that has several forms; of each a name, what it shows, and an example.
    pub(in crate::http) fn takes_one_of<T: ToSchema>(mut self, forms: [(&str, &str, Value); 2]) -> Self {
        let examples =
            forms.map(|(name, summary, value)| (name, ExampleBuilder::new().summary(summary).value(Some(value))));
        let content = ContentBuilder::new().schema(Some(self.refer::<T>())).examples_from_iter(examples);
        self.takes_body(JSON, content, RequestBodyBuilder::new().required(Some(Required::True)))
    }

    /// It takes text of this media type.
    pub(in crate::http) fn takes_text(self, kind: &str, about: &str, example: &str) -> Self {
        let content = ContentBuilder::new().schema(Some(String::schema())).example(Some(example.into()));
        let body = RequestBodyBuilder::new().description(Some(about)).required(Some(Required::True));
        self.takes_body(kind, content, body)
    }

    fn takes_body(mut self, kind: &str, content: ContentBuilder, body: RequestBodyBuilder) -> Self {
        self.operation.request_body = Some(body.content(kind, content.build()).build().into());
        self
    }

    /// It looks at this header of a request, if it is there.
    pub(in crate::http) fn looks_at(mut self, header: &str, about: &str) -> Self {
        let parameter = ParameterBuilder::new().name(header).parameter_in(ParameterIn::Header);
        let parameter = parameter.required(Required::False).description(Some(about)).schema(Some(String::schema()));
        self.add_parameters([parameter.build()]);
        self
    }

    /// Adds parameters before those that there are.
    pub(super) fn add_parameters(&mut self, parameters: impl IntoIterator<Item = Parameter>) {
        let parameters = parameters.into_iter().map(RefOr::T);
        self.operation.parameters.get_or_insert_default().splice(..0, parameters);
    }

    /// It answers with this `data`.
    pub(in crate::http) fn answers<T: ToSchema>(mut self, status: u16, about: &str, example: Value) -> Self {
        let data = self.refer::<T>();
        self.answers_as(status, about, JSON, success(data), example)
    }

    /// It answers 200 with this `data`, or with `null` in its place.
    pub(in crate::http) fn answers_or_null<T: ToSchema>(mut self, about: &str, example: Value) -> Self {
        let mut data = self.refer::<T>();
        data.description = "What was asked for.".into();
        let data = OneOfBuilder::new().item(data).item(ObjectBuilder::new().schema_type(Type::Null));
        self.answers_as(200, about, JSON, success(data), example)
    }

    /// It answers with this, without an envelope around it.
    pub(in crate::http) fn answers_whole<T: ToSchema>(mut self, status: u16, about: &str, example: Value) -> Self {
        let schema = self.refer::<T>();
        self.answers_as(status, about, JSON, schema, example)
    }

    /// It answers with what has this media type and this schema.
    pub(in crate::http) fn answers_as(
        self,
        status: u16,
        about: &str,
        kind: &str,
        schema: impl Into<RefOr<Schema>>,
        example: impl Into<Value>,
    ) -> Self {
        let content = ContentBuilder::new().schema(Some(schema)).example(Some(example.into())).build();
        self.responds(status, ResponseBuilder::new().description(about).content(kind, content))
    }

    /// It may answer so, without a body.
    pub(in crate::http) fn answers_nothing(self, status: u16, about: &str) -> Self {
        self.responds(status, ResponseBuilder::new().description(about))
    }

    /// It may refuse so.
    pub(in crate::http) fn refuses(self, status: u16, about: &str, example: Option<&str>) -> Self {
        let example = example.map(|error| serde_json::json!({ "ok": false, "error": error }));
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Failure::name()))).example(example);
        self.responds(status, ResponseBuilder::new().description(about).content(JSON, content.build()))
    }

    fn responds(mut self, status: u16, response: ResponseBuilder) -> Self {
        self.operation.responses.responses.insert(status.to_string(), response.build().into());
        self
    }

    /// The answer of this status has this header.
    pub(in crate::http) fn with_header(mut self, status: u16, name: &str, about: &str) -> Self {
        let header = HeaderBuilder::new().schema(Some(String::schema())).description(Some(about)).build();
        if let Some(RefOr::T(response)) = self.operation.responses.responses.get_mut(&status.to_string()) {
            response.headers.insert(name.into(), header.into());
        }
        self
    }

    pub(super) fn operation(&mut self) -> &mut Operation {
        &mut self.operation
    }

    pub(super) fn into_parts(self) -> (Operation, Vec<(String, RefOr<Schema>)>) {
        (self.operation, self.schemas)
    }

    /// Refers to the schema of a type.
    pub(super) fn refer<T: ToSchema>(&mut self) -> Ref {
        self.schemas.push((T::name().into(), T::schema()));
        T::schemas(&mut self.schemas);
        Ref::from_schema_name(T::name())
    }
}

/// How every success looks.
fn success(data: impl Into<RefOr<Schema>>) -> RefOr<Schema> {
    let ok = ObjectBuilder::new().property("ok", always::<true>()).required("ok");
    ok.property("data", data).required("data").into()
}
