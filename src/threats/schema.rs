//! What the API's document says of threats.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{OneOfBuilder, Type},
    },
};

use super::{EventBody, Period, ReportBody, ThreatId};
use crate::{fleet::Text, limits::EVENT_TYPE_MAX_CHARS};

impl PartialSchema for ThreatId {
    fn schema() -> RefOr<Schema> {
        text()
            .title(Some("threat id"))
            .pattern(Some("^evt_[0-9a-f]{16}$"))
            .description(Some("The name of a threat: `evt_` and 16 lowercase hexadecimal digits"))
            .examples(["evt_19cc82fc5e000000"])
            .into()
    }
}

impl ToSchema for ThreatId {}

impl PartialSchema for Period {
    fn schema() -> RefOr<Schema> {
        text().enum_values(Some(Self::ALL.map(Self::name))).into()
    }
}

impl ToSchema for Period {}

impl PartialSchema for ReportBody {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new().item(EventsReport::schema()).item(GuardReport::schema()).into()
    }
}

impl ToSchema for ReportBody {
    fn name() -> Cow<'static, str> {
        "Report".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        EventsReport::schemas(schemas);
        GuardReport::schemas(schemas);
    }
}

type Kind = Text<EVENT_TYPE_MAX_CHARS>;

/// A report of many events
#[derive(ToSchema)]
#[expect(dead_code, reason = "a `ReportBody` of the one form")]
struct EventsReport {
    /// What happened.
    #[schema(min_items = 1, max_items = 100)]
    events: Vec<EventBody>,
    #[schema(schema_with = null, required = false)]
    event: (),
    /// Passed over.
    #[schema(value_type = Option<Object>)]
    verdict: (),
}

/// What the published Guard client reports
#[derive(ToSchema)]
#[expect(dead_code, reason = "a `ReportBody` of the other form")]
struct GuardReport {
    #[schema(schema_with = null, required = false)]
    events: (),
    /// What happened, at most 64 KiB with the verdict. All else in it is kept among the details.
    event: GuardEvent,
    /// What the Guard thinks of it. All else in it is kept among the details.
    verdict: Option<GuardVerdict>,
}

/// What happened, in the words of the published Guard client.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is read by hand")]
struct GuardEvent {
    /// What kind of threat it is.
    category: Kind,
    /// How bad it is; `info` is low.
    severity: GuardSeverity,
}

/// How bad the published Guard client may call a threat.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it is read by hand")]
enum GuardSeverity {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

/// What the published Guard client thinks of it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is read by hand")]
struct GuardVerdict {
    /// How sure it is, in percent.
    #[schema(minimum = 0, maximum = 100)]
    confidence: Option<f64>,
}

/// A field of the other form: not given.
fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}
