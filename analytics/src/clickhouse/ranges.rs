//! The notes of ranges: a key per shard in a bucket of NATS JetStream, changed by compare-and-set alone.

use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, KeyValueError};
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, StorageType};
use async_nats::jetstream::{self, Context};
use serde::{Deserialize, Serialize};
use types::{EventId, Region, ServerUrl};

use super::facts::to_ms;
use crate::{Error, Range, Ranges, Result};

/// How long NATS may take for an answer.
const NATS_TIMEOUT: Duration = Duration::from_secs(5);
/// Notes of a shard that are kept, so that an operator can look at what happened last.
const HISTORY: i64 = 16;

/// How far a shard is recorded, and what was begun behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Where the last recorded range ended.
    pub(super) recorded_seq: u64,
    /// Whose range that was, for a recorder whose range was noted by another one.
    pub(super) recorded_by: Option<String>,
    /// The range behind it, when one was begun.
    pub(super) pending: Option<Pending>,
}

/// A range whose rows are there already, or will be, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Its end.
    pub(super) through_seq: u64,
    /// How many facts it has.
    pub(super) facts: u64,
    /// The moment of the earliest one, in milliseconds since 1970.
    pub(super) first_ms: i64,
    /// The moment of the latest one, in milliseconds since 1970.
    pub(super) last_ms: i64,
    /// Under which its facts are inserted, and those of whoever settles it.
    pub(super) token: String,
    /// The recorder that inserts under the token.
    pub(super) owner: String,
}

impl Note {
    /// A note without a pending range.
    pub(super) fn recorded(recorded_seq: u64, by: &str) -> Self {
        Self { recorded_seq, recorded_by: Some(by.to_owned()), pending: None }
    }

    /// Whether a call for a range up to `through_seq` has succeeded, by whoever noted it.
    pub(super) fn is_success(&self, owner: &str, through_seq: u64) -> bool {
        self.recorded_seq == through_seq && self.recorded_by.as_deref() == Some(owner)
    }
}

impl Pending {
    /// What is noted before a range is inserted; `None` for a range without facts, which needs no insert.
    pub(super) fn of(range: &Range<'_>, owner: &str) -> Option<Self> {
        let moments = || range.facts.iter().map(|fact| to_ms(fact.at));
        Some(Self {
            through_seq: range.through_seq,
            facts: range.facts.len() as u64,
            first_ms: moments().min()?,
            last_ms: moments().max()?,
            token: format!("facts:{}:{}-{}:{owner}", range.shard, range.after_seq, range.through_seq),
            owner: owner.to_owned(),
        })
    }
}

/// A name that nobody bears, for a call that records.
pub(super) fn new_owner() -> String {
    EventId::generate(Region::default()).to_string()
}

/// A note as it was read or written last.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) shard: u16,
    pub(super) note: Note,
    revision: u64,
}

/// The bucket.
pub(super) struct Notes {
    bucket: kv::Store,
}

impl Notes {
    /// Connects to a bucket that is there.
    pub(super) async fn open(config: &Ranges) -> Result<Self> {
        let bucket = connect(config).await?.get_key_value(&config.name).await;
        let bucket = bucket.map_err(|error| {
            if is_missing(&error) {
                return Error::Damaged(format!("there is no bucket {}: run `rookery migrate`", config.name));
            }
            unavailable(error)
        })?;
        Ok(Self { bucket })
    }

    /// Makes the bucket when it is missing.
    pub(super) async fn make(config: &Ranges) -> Result<kv::Store> {
        let context = connect(config).await?;
        if let Ok(bucket) = context.get_key_value(&config.name).await {
            return Ok(bucket);
        }
        let bucket = kv::Config {
            bucket: config.name.clone(),
            description: "Which ranges of the log analytics has recorded".into(),
            history: HISTORY,
            storage: StorageType::File,
            num_replicas: config.replicas.into(),
            ..kv::Config::default()
        };
        context.create_key_value(bucket).await.map_err(unavailable)
    }

    /// The present note of a shard.
    pub(super) async fn read(&self, shard: u16) -> Result<Noted> {
        // Not `entry`, which any replica may answer: only the leader certainly knows the last note.
        let subject = format!("{}{}", self.bucket.prefix, key(shard));
        let message = match bounded(self.bucket.stream.get_last_raw_message_by_subject(&subject)).await? {
            Ok(message) => message,
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                return Ok(Noted { shard, note: Note::default(), revision: 0 });
            }
            Err(error) => return Err(unavailable(error)),
        };
        let note = serde_json::from_slice(&message.payload)
            .map_err(|error| Error::Damaged(format!("the note of shard {shard}: {error}")))?;
        Ok(Noted { shard, note, revision: message.sequence })
    }

    /// Writes a note in the place of another one, unless that has been replaced: then `None`.
    pub(super) async fn write(&self, noted: &Noted, note: Note) -> Result<Option<Noted>> {
        let value = serde_json::to_vec(&note).map_err(|error| Error::Damaged(error.to_string()))?;
        let update = self.bucket.update(key(noted.shard), value.into(), noted.revision);
        let failure = match bounded(update).await {
            Ok(Ok(revision)) => return Ok(Some(Noted { shard: noted.shard, note, revision })),
            Ok(Err(error)) => unavailable(error),
            Err(error) => error,
        };
        // It may have been written and its answer lost.
        let present = self.read(noted.shard).await?;
        if present.revision == noted.revision {
            return Err(failure);
        }
        Ok((present.note == note).then_some(present))
    }
}

/// Whether the server says that there is no such bucket.
fn is_missing(error: &KeyValueError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<GetStreamError>());
    matches!(cause.map(GetStreamError::kind), Some(GetStreamErrorKind::JetStream(error))
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn key(shard: u16) -> String {
    format!("shard.{shard}")
}

async fn connect(config: &Ranges) -> Result<Context> {
    let mut options = ConnectOptions::new()
        .name("rookery analytics")
        .connection_timeout(NATS_TIMEOUT)
        .request_timeout(Some(NATS_TIMEOUT));
    // The client library passes over what stands in an address.
    match config.servers.iter().find_map(ServerUrl::identity) {
        Some((user, Some(password))) => options = options.user_and_password(user, password),
        Some((token, None)) => options = options.token(token),
        None => {}
    }
    if let Some(credentials) = &config.credentials {
        let file = credentials.display();
        options = options
            .credentials_file(credentials)
            .await
            .map_err(|error| Error::Unavailable(format!("the credentials in {file}: {error}")))?;
    }
    let servers: Vec<&str> = config.servers.iter().map(ServerUrl::expose).collect();
    Ok(jetstream::new(options.connect(servers).await.map_err(unavailable)?))
}

async fn bounded<T>(answer: impl IntoFuture<Output = T>) -> Result<T> {
    let answer = tokio::time::timeout(2 * NATS_TIMEOUT, answer.into_future()).await;
    answer.map_err(|_| Error::Unavailable("NATS has not answered".into()))
}

/// NATS could not be asked now.
pub(super) fn unavailable(error: impl std::error::Error) -> Error {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    Error::Unavailable(format!("the notes of ranges: {error}{cause}"))
}
