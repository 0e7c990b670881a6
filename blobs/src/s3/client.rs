//! The connection to the server, and what its errors mean.

use std::error::Error as _;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_smithy_http_client::tls;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use crate::{Config, Error, Result};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a request may take to be answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request that carries or moves many bytes may take to be answered.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a request is tried.
const ATTEMPTS: u32 = 3;
/// The longest wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Clients of one bucket.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) public: Client,
    pub(super) bucket: String,
}

/// Prepares the clients. Nothing is sent yet.
pub(super) fn connect(config: &Config) -> Result<Connected> {
    let Config::S3 { endpoint, region, bucket, access_key_id, secret_access_key, path_style, public_endpoint } = config
    else {
        return Err(Error::Unavailable("it is not configured as a bucket".into()));
    };
    let credentials = Credentials::new(access_key_id, secret_access_key.expose(), None, None, "rookery");
    let plain = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(ANSWER_TIMEOUT).build();
    let builder = Builder::new()
        .behavior_version_latest()
        .http_client(http_client(plain))
        .region(Region::new(region.clone()))
        .credentials_provider(credentials)
        .force_path_style(*path_style)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(MAX_BACKOFF))
        // Payloads are signed by their SHA-256 already, and not every server knows the newer checksums.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    let at = |endpoint: Option<&String>| {
        let mut builder = builder.clone();
        builder.set_endpoint_url(endpoint.cloned());
        Client::from_conf(builder.build())
    };
    Ok(Connected {
        client: at(endpoint.as_ref()),
        public: at(public_endpoint.as_ref().or(endpoint.as_ref())),
        bucket: bucket.clone(),
    })
}

fn http_client(plain: bool) -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new();
    if plain {
        builder.build_http()
    } else {
        builder.tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https()
    }
}

/// For requests that carry or move many bytes.
pub(super) fn patient() -> Builder {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(TRANSFER_TIMEOUT).build();
    aws_sdk_s3::config::Config::builder().timeout_config(timeouts)
}

/// A link that is good from now for `ttl`.
pub(super) fn signed_for(ttl: Duration) -> Result<PresigningConfig> {
    PresigningConfig::expires_in(ttl).map_err(|error| Error::Refused(error.to_string()))
}

/// What the server calls the error.
pub(super) fn code_of<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// Whether an object is not there, which is no failure.
pub(super) fn is_missing<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    matches!(code_of(error), Some("NoSuchKey" | "NotFound"))
}

/// What is told of a request that failed: its name, and what the server or the connection said.
pub(super) fn unavailable<E, R>(request: &str, error: &SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let cause = match error.as_service_error() {
        Some(error) => format!("{} {}", error.code().unwrap_or("error"), error.message().unwrap_or_default()),
        None => innermost(error),
    };
    Error::Unavailable(format!("{request}: {cause}"))
}

fn innermost<E, R>(error: &SdkError<E, R>) -> String
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
