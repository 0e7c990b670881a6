//! `cargo xtask postman`: writes `docs/postman_collection.json` from the description of the API.
//!
//! Methods, paths, names, descriptions and rights come from the description. In which order to call what, with
//! which values, and what to keep of the answers, is told by `postman/story.json`: an operation that it does not
//! call is an error, so that none is forgotten.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Where the collection stands.
pub(crate) const COLLECTION: &str = "docs/postman_collection.json";
/// The description of the API as it was last agreed upon; a test of the edge sees to it that it is the one served.
pub(crate) const DESCRIPTION: &str =
    "edge/src/tests/snapshots/edge__tests__documents__the_description_is_as_agreed.snap";
const STORY: &str = include_str!("postman/story.json");
/// Operations that are not for a client of this kind: a WebSocket.
const LEFT_OUT: [&str; 1] = ["connect"];
const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

/// One request of the collection.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    operation: String,
    /// What to call it, if not by the operation's summary.
    name: Option<String>,
    body: Option<Value>,
    /// A file, as the body itself.
    file: Option<File>,
    #[serde(default)]
    query: Map<String, Value>,
    /// Values for the path's parameters; others are variables of the same name.
    #[serde(default)]
    path: Map<String, Value>,
    /// The variable with the token, if not `token`.
    r#as: Option<String>,
    /// Statuses that are right, if not every 2xx of the description.
    status: Option<Vec<u16>>,
    /// Variables to set, each from an expression on the answer.
    #[serde(default)]
    keep: Map<String, Value>,
}

/// A file whose bytes are text, so that the collection holds it whole.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    content_type: String,
    lines: Vec<String>,
}

/// An operation of the description.
struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    told: &'a Value,
}

/// Writes the collection.
pub(crate) fn run(root: &Path) -> Result<()> {
    let snapshot = std::fs::read_to_string(root.join(DESCRIPTION)).context(DESCRIPTION)?;
    std::fs::write(root.join(COLLECTION), collection(&snapshot)?).context(COLLECTION)
}

/// The collection for the description in a snapshot.
pub(crate) fn collection(snapshot: &str) -> Result<String> {
    let json = snapshot.splitn(3, "---").nth(2).context("the snapshot has no head")?;
    let description: Value = serde_json::from_str(json)?;
    let steps: Vec<Step> = serde_json::from_str(STORY).context("story.json")?;
    let operations = operations(&description)?;
    check(&operations, &steps)?;
    let tags = description["tags"].as_array().context("the description has tags")?;
    let folders = tags.iter().map(|tag| folder(tag, &operations, &steps)).collect::<Result<Vec<_>>>()?;
    let collection = json!({
        "info": {
            "name": "Rookery",
            "description": "Every operation of the API, in an order that runs through on a fresh server. Set `api` to where it is.",
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
        },
        "variable": [{"key": "api", "value": "http://127.0.0.1:8080"}],
        "auth": bearer("token"),
        "event": [script("prerequest", &[
            "// User names are unique, so each run has its own.".to_owned(),
            "if (!pm.collectionVariables.get('run')) { pm.collectionVariables.set('run', Date.now().toString(36)); }".to_owned(),
        ])],
        "item": folders.into_iter().filter(|folder| folder["item"] != json!([])).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&collection)? + "\n")
}

fn operations(description: &Value) -> Result<Vec<Operation<'_>>> {
    let paths = description["paths"].as_object().context("the description has paths")?;
    let mut found = Vec::new();
    for (path, item) in paths {
        for method in METHODS {
            if let Some(told) = item.get(method) {
                found.push(Operation { method, path, told });
            }
        }
    }
    Ok(found)
}

/// Every operation is called, and everything that is called is an operation.
fn check(operations: &[Operation<'_>], steps: &[Step]) -> Result<()> {
    let known: BTreeSet<&str> = operations.iter().filter_map(|one| one.told["operationId"].as_str()).collect();
    let called: BTreeSet<&str> = steps.iter().map(|step| &*step.operation).chain(LEFT_OUT).collect();
    let missing: Vec<&&str> = known.symmetric_difference(&called).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("xtask/src/postman/story.json and the API differ in {missing:?}");
}

fn folder(tag: &Value, operations: &[Operation<'_>], steps: &[Step]) -> Result<Value> {
    let mut items = Vec::new();
    for step in steps {
        let operation = operations.iter().find(|one| one.told["operationId"] == *step.operation);
        let operation = operation.with_context(|| format!("there is no operation {}", step.operation))?;
        if operation.told["tags"][0] == tag["name"] {
            items.push(item(operation, step));
        }
    }
    Ok(json!({"name": tag["name"], "description": tag["description"], "item": items}))
}

fn item(operation: &Operation<'_>, step: &Step) -> Value {
    let name = step.name.as_deref().or(operation.told["summary"].as_str()).unwrap_or(&step.operation);
    let statuses = step.status.clone().unwrap_or_else(|| successes(operation.told));
    let mut test = vec![format!(
        "pm.test('is answered as documented', () => pm.expect(pm.response.code).to.be.oneOf({statuses:?}));"
    )];
    if !step.keep.is_empty() {
        test.push("const answer = pm.response.json();".to_owned());
    }
    test.extend(step.keep.iter().map(|(name, value)| {
        format!("pm.collectionVariables.set('{name}', answer.{});", value.as_str().unwrap_or_default())
    }));
    let mut request = json!({
        "method": operation.method.to_uppercase(),
        "description": operation.told["description"].as_str().or(operation.told["summary"].as_str()).unwrap_or_default(),
        "url": url(operation.path, step),
    });
    if !needs_token(operation.told) {
        request["auth"] = json!({"type": "noauth"});
    } else if let Some(token) = &step.r#as {
        request["auth"] = bearer(token);
    }
    if let Some(body) = &step.body {
        request["header"] = content_type("application/json");
        let raw = serde_json::to_string_pretty(body).unwrap_or_default();
        request["body"] = json!({"mode": "raw", "raw": raw, "options": {"raw": {"language": "json"}}});
    } else if let Some(file) = &step.file {
        request["header"] = content_type(&file.content_type);
        let raw = file.lines.join("\n") + "\n";
        request["body"] = json!({"mode": "raw", "raw": raw, "options": {"raw": {"language": "text"}}});
    }
    json!({"name": name, "event": [script("test", &test)], "request": request})
}

fn successes(told: &Value) -> Vec<u16> {
    let statuses = told["responses"].as_object().into_iter().flat_map(Map::keys);
    statuses.filter_map(|status| status.parse().ok()).filter(|status| (200..300).contains(status)).collect()
}

fn needs_token(told: &Value) -> bool {
    told["security"].as_array().is_some_and(|schemes| schemes.iter().any(|scheme| scheme.get("token").is_some()))
}

fn url(path: &str, step: &Step) -> Value {
    let fill = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
        Some(name) => step.path.get(name).and_then(Value::as_str).map_or(format!("{{{{{name}}}}}"), str::to_owned),
        None => part.to_owned(),
    };
    let parts: Vec<String> = path.trim_start_matches('/').split('/').map(fill).collect();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs: Vec<(&String, String)> = step.query.iter().map(|(key, value)| (key, text(value))).collect();
    let query: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let mut url = json!({
        "raw": format!("{{{{api}}}}/{}{mark}{}", parts.join("/"), query.join("&")),
        "host": ["{{api}}"],
        "path": parts,
    });
    if !pairs.is_empty() {
        url["query"] = pairs.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    }
    url
}

fn content_type(value: &str) -> Value {
    json!([{"key": "Content-Type", "value": value}])
}

fn bearer(variable: &str) -> Value {
    json!({"type": "bearer", "bearer": [{"key": "token", "value": format!("{{{{{variable}}}}}"), "type": "string"}]})
}

fn script(listen: &str, lines: &[String]) -> Value {
    json!({"listen": listen, "script": {"type": "text/javascript", "exec": lines}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collection_in_the_documents_is_current() {
        let snapshot = std::fs::read_to_string(crate::root().join(DESCRIPTION)).expect("the description");
        let current = std::fs::read_to_string(crate::root().join(COLLECTION)).unwrap_or_default();
        let wanted = collection(&snapshot).expect("the story tells of every operation");
        assert!(current == wanted, "{COLLECTION} is out of date: run `cargo xtask postman`");
    }

    #[test]
    fn an_operation_that_the_story_forgets_is_told() {
        let snapshot = r#"---
source: x
---
{"tags":[],"paths":{"/new":{"get":{"operationId":"new","tags":["x"]}}}}"#;
        assert!(collection(snapshot).is_err_and(|error| error.to_string().contains("\"new\"")));
    }
}
