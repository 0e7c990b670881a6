//! The bucket itself, and the rules by which it rids itself of what nobody finished.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint, CreateBucketConfiguration,
    ExpirationStatus, LifecycleExpiration, LifecycleRule, LifecycleRuleFilter,
};

use super::INCOMING;
use super::client::{Connected, code_of, is_missing, unavailable};
use crate::{Error, Result};

/// The region in which a bucket is made by naming no region.
const DEFAULT_REGION: &str = "us-east-1";
/// After so many days an upload in parts that nobody finished is given up.
const ABORT_DAYS: i32 = 1;
/// After so many days what was uploaded by a link, and never taken in, is removed.
const INCOMING_DAYS: i32 = 2;
const ABORT_RULE: &str = "rookery-abort-unfinished-uploads";
const INCOMING_RULE: &str = "rookery-remove-incoming";

/// Makes sure that the bucket is there.
pub(super) async fn require(client: &Client, bucket: &str) -> Result<()> {
    match client.head_bucket().bucket(bucket).send().await {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => {
            Err(Error::Unfit(format!("there is no bucket {bucket}: `rookery migrate` makes it")))
        }
        Err(error) => Err(unavailable("head bucket", &error)),
    }
}

/// Makes the bucket unless it is there.
pub(super) async fn make(to: &Connected) -> Result<()> {
    let region = to.client.config().region().map(AsRef::as_ref).filter(|region| *region != DEFAULT_REGION);
    let place = region.map(|region| {
        CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::from(region)).build()
    });
    let made = to.client.create_bucket().bucket(&to.bucket).set_create_bucket_configuration(place).send().await;
    match made {
        Ok(_) => Ok(()),
        // Somebody has made it: if it is not ours, we may not see it.
        Err(error) if matches!(code_of(&error), Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists")) => {
            require(&to.client, &to.bucket).await
        }
        // Whoever may not make buckets may have been given one.
        Err(error) => require(&to.client, &to.bucket).await.map_err(|_| unavailable("create bucket", &error)),
    }
}

/// Adds our rules to those that the bucket has, where the server knows such rules.
pub(super) async fn expire_what_is_left_over(to: &Connected) -> Result<()> {
    let request = to.client.get_bucket_lifecycle_configuration().bucket(&to.bucket);
    let present = match request.send().await {
        Ok(present) => present.rules.unwrap_or_default(),
        Err(error) if code_of(&error) == Some("NoSuchLifecycleConfiguration") => Vec::new(),
        Err(error) => return unless_unknown("get lifecycle", &error),
    };
    let missing: Vec<_> =
        rules().into_iter().filter(|rule| !present.iter().any(|present| present.id == rule.id)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let all = BucketLifecycleConfiguration::builder().set_rules(Some([present, missing].concat())).build();
    let all = all.map_err(|error| Error::Unavailable(error.to_string()))?;
    let request = to.client.put_bucket_lifecycle_configuration().bucket(&to.bucket).lifecycle_configuration(all);
    match request.send().await {
        Ok(_) => Ok(()),
        Err(error) => unless_unknown("put lifecycle", &error),
    }
}

/// A server that knows no such rules, or lets us set none, goes without: an operator sees to it.
fn unless_unknown<E, R>(request: &str, error: &SdkError<E, R>) -> Result<()>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    match code_of(error) {
        Some("NotImplemented" | "MalformedXML" | "InvalidRequest" | "InvalidArgument" | "AccessDenied") => Ok(()),
        _ => Err(unavailable(request, error)),
    }
}

fn rules() -> Vec<LifecycleRule> {
    let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(ABORT_DAYS).build();
    let expiration = LifecycleExpiration::builder().days(INCOMING_DAYS).build();
    let rule = |id: &str, prefix: &str| {
        let filter = LifecycleRuleFilter::builder().prefix(prefix).build();
        LifecycleRule::builder().id(id).status(ExpirationStatus::Enabled).filter(filter)
    };
    let rules = [
        rule(ABORT_RULE, "").abort_incomplete_multipart_upload(abort).build(),
        rule(INCOMING_RULE, INCOMING).expiration(expiration).build(),
    ];
    rules.into_iter().flatten().collect()
}
