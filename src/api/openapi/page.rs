//! The document as a page for people: docs/api.md.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// The agent of the examples. In what is to be pasted, the reader's own stands in its place.
const EXAMPLE_ID: &str = "agent-00f3a1b2c3d4e5f6";

const BEGINNING: &str = r#"
## Before you begin

The examples can be pasted into a shell, in the project folder, while `make run` runs in another. They need an agent:

```sh
api=https://localhost:8443
admin="Authorization: Bearer $(cat data/admin-token)"
call() { curl --silent --show-error --cacert data/tls/ca.pem "$@"; echo; }

answer=$(call -H "$admin" -H "Content-Type: application/json" "$api/api/agents/register" \
  -d '{"hostname":"web-server-1","os":"linux","version":"1.2.0","tags":["production","web-tier"]}')
id=$(echo "$answer" | sed 's/.*"agentId":"\([^"]*\)".*/\1/')
agent="Authorization: Bearer $(echo "$answer" | sed 's/.*"token":"\([^"]*\)".*/\1/')"
```

Do it again once that agent is deregistered.
"#;

pub(super) fn render(document: &Value) -> String {
    let mut page = Page { document, out: String::new() };
    page.line(
        "# The API\n\n<!-- Made by `guardbeat openapi --markdown`, from openapi.json; a test compares them. -->\n",
    );
    page.line(text(&document["info"]["description"]).trim_end());
    page.line(BEGINNING);
    page.line("## The endpoints\n\n| request | | with |\n| --- | --- | --- |");
    for (path, method, operation) in operations(document) {
        let summary = text(&operation["summary"]);
        let anchor = summary.to_lowercase().replace(' ', "-");
        // The last sentence says who may ask.
        let (_, last) = text(&operation["description"]).rsplit_once('\n').unwrap_or_default();
        let who = last.strip_prefix("With ").map_or("nothing", |who| who.trim_end_matches('.'));
        page.line(&format!("| [`{} {path}`](#{anchor}) | {summary} | {who} |", method.to_uppercase()));
    }
    for tag in document["tags"].as_array().into_iter().flatten() {
        page.line(&format!("\n## {}\n\n{}", text(&tag["name"]), text(&tag["description"])));
        for (path, method, operation) in operations(document) {
            if operation["tags"][0] == tag["name"] {
                page.operation(path, method, operation);
            }
        }
    }
    page.refusals();
    page.out
}

struct Page<'a> {
    document: &'a Value,
    out: String,
}

impl Page<'_> {
    fn line(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn operation(&mut self, path: &str, method: &str, operation: &Value) {
        let method = method.to_uppercase();
        self.line(&format!("\n### {}\n\n`{method} {path}`\n", text(&operation["summary"])));
        self.line(text(&operation["description"]));
        self.parameters(operation);
        let body = only(&operation["requestBody"]["content"]);
        if let Some((kind, content)) = body {
            let optional = if operation["requestBody"]["required"] == true { "" } else { ", and may be left out" };
            let about = sentence(&operation["requestBody"]["description"]);
            self.line(&format!("\nThe body is `{kind}`{optional}{about}."));
            self.fields(&content["schema"]);
        }
        let responses = operation["responses"].as_object().into_iter().flatten();
        let (successes, refusals): (Vec<_>, Vec<_>) =
            responses.partition(|(status, _)| !status.starts_with(['4', '5']));
        let examples = body.map_or_else(|| vec![None], |(_, content)| examples(content).map(Some).collect());
        for example in examples {
            self.line(&format!("\n```sh\n{}\n```", command(path, &method, operation, example)));
        }
        for (status, response) in successes {
            self.line(&format!("\n**{status}**: {}.{}", text(&response["description"]), headers(response)));
            if let Some((_, content)) = only(&response["content"]) {
                self.example(&content["example"]);
                self.fields(&content["schema"]);
            }
        }
        let mut own = refusals.into_iter().filter(|(_, response)| response["$ref"].is_null()).peekable();
        if own.peek().is_some() {
            self.line("\nRefusals of its own:\n");
        }
        for (status, response) in own {
            self.line(&format!("- **{status}**: {}.{}", cell(&response["description"]), headers(response)));
        }
    }

    fn parameters(&mut self, operation: &Value) {
        let parameters: Vec<_> = operation["parameters"].as_array().into_iter().flatten().collect();
        if parameters.is_empty() {
            return;
        }
        self.line("\n| parameter | in | type | |\n| --- | --- | --- | --- |");
        for parameter in parameters {
            let Value::String(name) = &parameter["name"] else { continue };
            let (place, about) = (text(&parameter["in"]), cell(&parameter["description"]));
            self.line(&format!("| `{name}` | {place} | {} | {about} |", self.kind(&parameter["schema"])));
        }
    }

    /// A table of the fields of an object; one for each of its forms, if it has several.
    fn fields(&mut self, schema: &Value) {
        let document = self.document;
        let schema = resolve(document, schema);
        for form in schema["oneOf"].as_array().into_iter().flatten() {
            self.line(&format!("\n{}:", text(&form["description"])));
            self.fields(form);
        }
        let mut rows = String::new();
        self.rows(schema, "", &mut rows);
        if !rows.is_empty() {
            self.line("\n| field | type | |\n| --- | --- | --- |");
            self.out.push_str(&rows);
        }
    }

    fn rows(&self, schema: &Value, above: &str, rows: &mut String) {
        let schema = resolve(self.document, schema);
        let parts = [&schema["allOf"], if above.is_empty() { &Value::Null } else { &schema["oneOf"] }];
        for part in parts.into_iter().filter_map(Value::as_array).flatten() {
            self.rows(part, above, rows);
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let required = schema["required"].as_array().into_iter().flatten().any(|required| required == name);
            let optional = if required { "" } else { ", optional" };
            let kind = self.kind(field);
            // That a form does not have it goes without saying.
            if kind == "null" {
                continue;
            }
            // The envelope is the same everywhere.
            if !(above.is_empty() && (name == "ok" || name == "data" && kind == "object")) {
                let about = cell(description(field));
                writeln!(rows, "| `{above}{name}` | {kind}{optional} | {about} |").expect("a string takes all");
            }
            let field = resolve(self.document, field);
            self.rows(field, &format!("{above}{name}."), rows);
            self.rows(&field["items"], &format!("{above}{name}[]."), rows);
        }
    }

    /// What a value must be, in a few words.
    fn kind(&self, schema: &Value) -> String {
        let schema = resolve(self.document, schema);
        if let Value::String(title) = &schema["title"] {
            return title.clone();
        }
        if let Some(values) = schema["enum"].as_array() {
            return values.iter().map(|value| format!("`{}`", plain(value))).collect::<Vec<_>>().join(", ");
        }
        if let Some(kinds) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
            let kinds: Vec<_> = kinds.iter().map(|kind| self.kind(kind)).collect();
            return kinds.join(" or ").replace(" or null", ", or null");
        }
        if schema["allOf"].is_array() {
            return "object".into();
        }
        let (kind, or_null) = match &schema["type"] {
            Value::Array(kinds) => (&kinds[0], ", or null"),
            kind => (kind, ""),
        };
        // A number's format says how many bits it takes: no matter to JSON.
        let kind = if kind == "string" { schema.get("format").unwrap_or(kind) } else { kind };
        let bounds =
            [("minLength", "maxLength", " characters"), ("minimum", "maximum", ""), ("minItems", "maxItems", "")];
        let bounds = bounds.into_iter().filter_map(|(least, most, what)| match (&schema[least], &schema[most]) {
            (Value::Null, Value::Null) => None,
            (least, Value::Null) => Some(format!(", at least {least}{what}")),
            (Value::Null, most) => Some(format!(", at most {most}{what}")),
            (least, most) => Some(format!(", {least} to {most}{what}")),
        });
        let of = schema
            .get("items")
            .or(schema.get("additionalProperties"))
            .map(|items| format!(" of: {}", self.kind(items)))
            .unwrap_or_default();
        format!("{}{}{of}{or_null}", text(kind), bounds.collect::<String>())
    }

    fn example(&mut self, example: &Value) {
        let (language, example) = match example {
            Value::String(text) => ("text", text.trim_end().to_owned()),
            example => ("json", serde_json::to_string_pretty(example).expect("it has only string keys")),
        };
        self.line(&format!("\n```{language}\n{example}\n```"));
    }

    /// What may be answered in the place of any answer.
    fn refusals(&mut self) {
        self.line("\n## Refusals\n\nWhat any request may meet, beside the refusals of its own:\n");
        self.line("| status | when | for instance |\n| --- | --- | --- |");
        let document = self.document;
        let statuses = |name: &str| {
            let place = format!("#/components/responses/{name}");
            let mut responses = operations(document).flat_map(|(_, _, operation)| operation["responses"].as_object());
            responses
                .find_map(|them| them.iter().find(|(_, it)| it["$ref"] == *place).map(|(status, _)| status.clone()))
        };
        let components = document["components"]["responses"].as_object().into_iter().flatten();
        let mut rows: Vec<_> = components.filter_map(|(name, it)| Some((statuses(name)?, it))).collect();
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (status, response) in rows {
            let example = &response["content"]["application/json"]["example"];
            self.line(&format!(
                "| {status} | {}.{} | `{example}` |",
                cell(&response["description"]),
                headers(response)
            ));
        }
    }
}

/// What the schema refers to, or the schema itself.
fn resolve<'v>(document: &'v Value, schema: &'v Value) -> &'v Value {
    let place = schema["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
    place.and_then(|place| document.pointer(place)).unwrap_or(schema)
}

fn examples(content: &Value) -> impl Iterator<Item = &Value> {
    let named = content["examples"].as_object().into_iter().flatten();
    content.get("example").into_iter().chain(named.map(|(_, example)| &example["value"]))
}

/// Requests that an agent makes for itself; all others are the administrator's.
fn is_of_agent(path: &str) -> bool {
    path.contains("{id}/") || ["/api/policy/agent/{id}", "/api/rules/latest"].contains(&path)
}

/// An example of an operation, with this body, as a command.
fn command(path: &str, method: &str, operation: &Value, example: Option<&Value>) -> String {
    let mut words = vec!["call".to_owned()];
    if operation.pointer("/responses/200/content/text~1event-stream").is_some() {
        words.push("--no-buffer".to_owned());
    }
    let secured = operation["security"].as_array().into_iter().flatten().any(|it| *it != Value::Object(Map::new()));
    if secured {
        let who = if is_of_agent(path) { "$agent" } else { "$admin" };
        words.push(format!(r#"-H "{who}""#));
    }
    let body = only(&operation["requestBody"]["content"]);
    if let Some((kind, _)) = body {
        words.push(format!(r#"-H "Content-Type: {kind}""#));
    } else if method != "GET" {
        words.push(format!("-X {method}"));
    }
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let query = parameters.filter(|parameter| parameter["in"] == "query" && !parameter["example"].is_null());
    let query = query.map(|parameter| {
        let example = &parameter["example"];
        format!("{}={}", text(&parameter["name"]), plain(example.get(0).unwrap_or(example)))
    });
    let query = query.collect::<Vec<_>>().join("&");
    let query = if query.is_empty() { query } else { format!("?{query}") };
    words.push(format!(r#""$api{}{query}""#, path.replace("{id}", "$id")));
    let rest = match example {
        None => String::new(),
        Some(Value::String(text)) => {
            format!(" --data-binary @- <<EOF\n{}\nEOF", text.trim_end().replace(EXAMPLE_ID, "$id"))
        }
        Some(example) => format!(" \\\n  -d '{}'", example.to_string().replace('\'', r"'\''")),
    };
    words.join(" ") + &rest
}

/// Path, method and operation, in the order of the document.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    document["paths"].as_object().into_iter().flatten().flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| (&**path, &**method, operation))
    })
}

/// Headers that a response has and others do not.
fn headers(response: &Value) -> String {
    let headers = response["headers"].as_object().into_iter().flatten();
    let own: Vec<_> = headers.filter(|(_, it)| it["$ref"].is_null()).map(|(name, _)| format!("`{name}`")).collect();
    if own.is_empty() { String::new() } else { format!(" With {}.", own.join(", ")) }
}

/// The only member of an object.
fn only(object: &Value) -> Option<(&str, &Value)> {
    object.as_object()?.iter().next().map(|(name, value)| (&**name, value))
}

/// What a field is for; where it may be null, its kind says it.
fn description(field: &Value) -> &Value {
    match &field["description"] {
        Value::Null => &field["oneOf"][0]["description"],
        description => description,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A value without the quotes of a string.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A text in a table.
fn cell(value: &Value) -> String {
    text(value).replace('\n', " ").replace('|', "\\|").trim_end_matches('.').to_owned()
}

/// What follows a colon, if there is something to say.
fn sentence(value: &Value) -> String {
    if value.is_null() { String::new() } else { format!(": {}", cell(value)) }
}
