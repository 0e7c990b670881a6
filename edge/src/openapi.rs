//! The description of the REST API: what the handlers say of themselves, and what holds for all of them.

use utoipa::OpenApi;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, Content, Header, ObjectBuilder, PathItem, Ref, RefOr, Response, ResponseBuilder, Type,
};

use crate::error::{CODES, FieldError, Problem};
use crate::extract::Limit;

/// The media type of errors (RFC 9457).
const PROBLEM: &str = "application/problem+json";
/// The name of the security scheme.
const TOKEN: &str = "token";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rookery",
        description = "A chat back end. Times are RFC 3339 in UTC, set by the log. Ids are lower-case UUIDs, version 7. Lists take `limit` (1 to 100) and `cursor`, and return `next`. Errors are `application/problem+json` (RFC 9457) with a stable `code`. Unknown fields and parameters are refused. The WebSocket is described at `/asyncapi.json`.",
    ),
    tags(
        (name = "auth", description = "Registration, log-in, log-out"),
        (name = "sessions", description = "Where you are logged in"),
        (name = "users", description = "User accounts"),
        (name = "conversations", description = "Groups and direct conversations"),
        (name = "members", description = "Members of conversations"),
        (name = "messages", description = "Messages in conversations"),
        (name = "attachments", description = "Upload and download of files"),
        (name = "live", description = "Events as they happen, and catching up on missed ones"),
        (name = "analytics", description = "Message counts: who writes most, and where"),
        (name = "alias: users", description = "The same users at `/users`"),
        (name = "alias: real-time chat", description = "Other paths: `/auth`, `/chats`, `/groups`"),
        (name = "alias: chatrooms", description = "Other paths: `/chatrooms`"),
        (name = "alias: chat API", description = "Other paths: `/register`, `/login`, `/conversations`"),
        (name = "alias: two-party chat", description = "Other paths: `/messages`"),
        (name = "operations", description = "Health, metrics, keys, documents"),
    ),
    components(schemas(Problem, FieldError, Limit)),
)]
struct Whole;

/// What may be answered to any request of a kind: the status, the name of the response, and what it means.
const ALWAYS: [(&str, &str, &str); 2] = [
    ("429", "TooManyRequests", "The user or the address has exceeded its rate"),
    ("503", "Unavailable", "A store cannot be reached; try again, with the same id if there is one"),
];
const WITH_TOKEN: (&str, &str, &str) = ("401", "Unauthenticated", "The access token is missing or no longer valid");
const WITH_PATH: (&str, &str, &str) = ("404", "NotFound", "There is nothing here, or nothing the caller may see");
const WITH_QUERY: (&str, &str, &str) = ("422", "Invalid", "A field or a parameter is invalid");
const WITH_BODY: [(&str, &str, &str); 5] = [
    ("400", "Malformed", "The body is not JSON, or broke off"),
    ("408", "TooSlow", "The body did not arrive in time"),
    ("413", "TooLarge", "The body is too large"),
    ("415", "UnsupportedType", "The `Content-Type` is not `application/json`"),
    WITH_QUERY,
];

/// The description of these routes, with what holds for all of them.
pub(crate) fn describe(mut routes: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    for item in routes.paths.paths.values_mut() {
        for operation in operations(item) {
            complete(operation);
        }
    }
    let mut whole = Whole::openapi();
    whole.merge(routes);
    let components = whole.components.get_or_insert_with(Components::new);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.security_schemes.insert(TOKEN.to_owned(), SecurityScheme::Http(bearer).into());
    for (status, name, meaning) in ALWAYS.into_iter().chain([WITH_TOKEN, WITH_PATH]).chain(WITH_BODY) {
        components.responses.insert(name.to_owned(), problem(status, meaning).into());
    }
    let codes: serde_json::Map<String, serde_json::Value> =
        CODES.into_iter().map(|(code, meaning)| (code.to_owned(), meaning.into())).collect();
    whole.extensions = Some(Extensions::builder().add("x-problem-codes", codes).build());
    whole
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, trace, .. } = item;
    [get, put, post, delete, options, head, patch, trace].into_iter().flatten()
}

/// Adds what an operation's own description leaves to be understood.
fn complete(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if status.starts_with(['4', '5']) {
            *response = problem(status, &response.description);
        }
        if response.description.is_empty() {
            response.description = success(status).to_owned();
        }
    }
    let is_of_operators = operation.tags.iter().flatten().any(|tag| tag == "operations");
    if !is_of_operators && operation.security.is_none() {
        operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], _>(TOKEN, [])]);
        add(operation, WITH_TOKEN);
    }
    if has_parameter(operation, &ParameterIn::Path) {
        add(operation, WITH_PATH);
    }
    if has_parameter(operation, &ParameterIn::Query) {
        add(operation, WITH_QUERY);
    }
    if operation.request_body.is_some() {
        WITH_BODY.into_iter().for_each(|common| add(operation, common));
    }
    ALWAYS.into_iter().for_each(|common| add(operation, common));
}

/// What a success means that says nothing else.
fn success(status: &str) -> &'static str {
    match status {
        "201" => "Created",
        "204" => "Done",
        _ => "Success",
    }
}

fn has_parameter(operation: &Operation, place: &ParameterIn) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == *place))
}

fn add(operation: &mut Operation, (status, name, _): (&str, &str, &str)) {
    let response = || Ref::from_response_name(name).into();
    operation.responses.responses.entry(status.to_owned()).or_insert_with(response);
}

fn problem(status: &str, meaning: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    let response = ResponseBuilder::new().description(meaning).content(PROBLEM, content);
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).description(Some("Seconds to wait")).build();
    match status {
        "429" | "503" => response.header("Retry-After", Header::new(seconds)).build(),
        _ => response.build(),
    }
}
