//! Query parameters. A parameter that is unknown, doubled or of another type is 422 and named.

use std::error::Error;

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ApiError;

/// The most items on a page.
const MAX_ITEMS: u64 = 100;

/// Query parameters.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::try_from_uri(&parts.uri).map_err(|rejection| refuse(&rejection))?;
        Ok(Self(query.0))
    }
}

type Fault = serde_path_to_error::Error<serde::de::value::Error>;

fn refuse(rejection: &(dyn Error + 'static)) -> ApiError {
    let mut causes = std::iter::successors(Some(rejection), |error| (*error).source());
    let Some(fault) = causes.find_map(|error| error.downcast_ref::<Fault>()) else {
        return ApiError::malformed("the query string cannot be parsed");
    };
    let detail: String = fault.inner().to_string().chars().take(300).collect();
    let path = fault.path().to_string();
    ApiError::invalid(if path == "." { "query".into() } else { path }, detail)
}

/// The most items on a page: 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "u64")]
#[schema(value_type = u64, minimum = 1, maximum = 100, example = 50)]
pub(crate) struct Limit(usize);

impl Limit {
    /// A limit that a list has of itself.
    pub(crate) const fn of(items: usize) -> Self {
        Self(items)
    }

    /// How many items.
    pub(crate) const fn items(self) -> usize {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl TryFrom<u64> for Limit {
    type Error = String;

    fn try_from(items: u64) -> Result<Self, String> {
        let items = if (1..=MAX_ITEMS).contains(&items) { usize::try_from(items).ok() } else { None };
        items.map(Self).ok_or_else(|| format!("must be 1 to {MAX_ITEMS}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Params {
        limit: Option<Limit>,
        #[expect(dead_code, reason = "only read in")]
        since: Option<types::Timestamp>,
    }

    async fn read(query: &str) -> Result<Params, ApiError> {
        let request = http::Request::get(format!("/x?{query}")).body(()).unwrap();
        Query::<Params>::from_request_parts(&mut request.into_parts().0, &()).await.map(|query| query.0)
    }

    #[tokio::test]
    async fn parameters_are_read() {
        assert_eq!(read("limit=7&since=2026-01-31T09:30:00Z").await.unwrap().limit, Some(Limit(7)));
        assert_eq!(read("").await.unwrap().limit, None);
    }

    #[tokio::test]
    async fn a_bad_parameter_is_named() {
        for (query, pointer) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=-1", "limit"),
            ("limit=99999999999999999999999", "limit"),
            ("limit=x", "limit"),
            ("limit=", "limit"),
            ("since=yesterday", "since"),
            ("since=%00", "since"),
            ("since=%ff%fe", "since"),
            ("other=1", "other"),
        ] {
            let error = read(query).await.unwrap_err();
            assert_eq!((error.code(), error.pointers()), ("invalid", vec![pointer]), "{query}: {}", error.detail());
        }
        assert_eq!(read("limit=1&limit=2").await.unwrap_err().code(), "invalid");
    }
}
