//! The streams of a region's log and the bucket beside them: made and brought up to date by [`migrate`], looked at by
//! [`check`].
//!
//! The stream of shard 0 is the master copy of what all have in common, which stands in its metadata: the version of
//! the settings, the number of shards, the epoch. It is brought up to date last, so that whoever finds it so finds
//! everything so.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Republish, StorageType};
use async_nats::jetstream::{Context, ErrorCode, kv};
use types::{Epoch, EventId, Timestamp};

use super::connection::unavailable;
use super::leases::LIFETIME;
use super::names::Names;
use crate::{Error, MAX_PAYLOAD_BYTES, Result};

/// The version of the settings below. One more whenever they change.
const VERSION: u32 = 1;
/// The keys of the metadata.
const VERSION_KEY: &str = "rookery_version";
const SHARDS_KEY: &str = "rookery_shards";
const EPOCH_KEY: &str = "rookery_epoch";
/// Whether all streams were made.
const WHOLE_KEY: &str = "rookery_whole";
/// Room for headers and subject in a message.
const ENVELOPE_BYTES: usize = 16 * 1024;
/// How often another process may make the first stream before us.
const ATTEMPTS: usize = 100;
/// How long apart.
const PAUSE: Duration = Duration::from_millis(100);

/// What an operator may choose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) replicas: u8,
    pub(super) retention: Duration,
    pub(super) duplicate_window: Duration,
}

/// What a log is really like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) epoch: Epoch,
    /// The first `seq` of every shard.
    pub(super) first_seq: u64,
    /// How long every stream keeps an event.
    pub(super) retention: Duration,
    /// How long every stream remembers an id.
    pub(super) duplicate_window: Duration,
}

/// What stands in a stream's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks {
    version: u32,
    shards: u16,
    epoch: Epoch,
    is_whole: bool,
}

impl Marks {
    fn read(stream: &str, metadata: &HashMap<String, String>) -> Result<Self> {
        let read = || {
            Some(Self {
                version: metadata.get(VERSION_KEY)?.parse().ok()?,
                shards: metadata.get(SHARDS_KEY)?.parse().ok()?,
                epoch: metadata.get(EPOCH_KEY)?.parse().ok()?,
                is_whole: metadata.contains_key(WHOLE_KEY),
            })
        };
        read().ok_or_else(|| {
            Error::Refused(format!("the stream {stream} is there, but it is no log's: choose another name"))
        })
    }

    fn write(self) -> HashMap<String, String> {
        let mut metadata = HashMap::from([
            (VERSION_KEY.to_owned(), self.version.to_string()),
            (SHARDS_KEY.to_owned(), self.shards.to_string()),
            (EPOCH_KEY.to_owned(), self.epoch.to_string()),
        ]);
        if self.is_whole {
            metadata.insert(WHOLE_KEY.to_owned(), "true".to_owned());
        }
        metadata
    }

    fn check_shards(self, names: &Names) -> Result<()> {
        if self.shards == names.shards {
            return Ok(());
        }
        let (made, asked) = (self.shards, names.shards);
        Err(Error::Refused(format!(
            "the log was made with {made} shards and keeps that number for good, but the configuration says {asked}"
        )))
    }
}

/// Makes what is missing and brings what is there up to date. May be run twice, and from several places at once.
pub(super) async fn migrate(context: &Context, names: &Names, settings: Settings) -> Result<()> {
    check_settings(settings)?;
    let Found { marks: found, first_seq, .. } = first_stream(context, names, settings).await?;
    if found.version > VERSION {
        let version = found.version;
        return Err(Error::Refused(format!(
            "the log has settings of version {version}, this program knows {VERSION}: it is too old to change them"
        )));
    }
    found.check_shards(names)?;
    let marks = Marks { version: VERSION, is_whole: true, ..found };
    for shard in (0..names.shards).rev() {
        let config = config(names, shard, settings, (marks, first_seq));
        if shard > 0 && !found.is_whole {
            make(context, config.clone()).await?;
        }
        context.update_stream(config).await.map_err(|error| match error.kind() {
            CreateStreamErrorKind::NotFound => {
                Error::Damaged(format!("the stream {} is missing: its events are lost", names.stream(shard)))
            }
            CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Error::Damaged(format!("the stream {} is missing: its events are lost", names.stream(shard)))
            }
            _ => unavailable(error),
        })?;
        if shard == 1 || names.shards == 1 {
            make_bucket(context, names, settings).await?;
        }
    }
    Ok(())
}

fn check_settings(settings: Settings) -> Result<()> {
    if settings.duplicate_window > settings.retention {
        return Err(Error::Refused("event ids cannot be remembered for longer than events are kept".into()));
    }
    if settings.duplicate_window < Duration::from_millis(100) {
        return Err(Error::Refused("event ids are remembered for at least a second".into()));
    }
    if !(1..=5).contains(&settings.replicas) {
        return Err(Error::Refused("a stream has 1 to 5 replicas".into()));
    }
    Ok(())
}

/// Shard 0's stream, which is made when it is missing. Whoever makes it chooses the epoch, and the first `seq` of all
/// shards: the milliseconds since 1970. So a log that is made anew goes on above the places of the one before it, as
/// long as no shard of that had more than a thousand events a second through all its life.
async fn first_stream(context: &Context, names: &Names, settings: Settings) -> Result<Found> {
    for _ in 0..ATTEMPTS {
        if let Some(found) = look_at(context, names, 0).await? {
            return Ok(found);
        }
        let marks = Marks { version: VERSION, shards: names.shards, epoch: new_epoch(names), is_whole: false };
        let first_seq = u64::try_from(Timestamp::now().as_millis()).unwrap_or(1);
        make(context, config(names, 0, settings, (marks, first_seq))).await?;
        // Another server of several may not yet know of it.
        tokio::time::sleep(PAUSE).await;
    }
    Err(unavailable("the first stream of the log cannot be made"))
}

/// Makes a stream; another that is there already stays as it is.
async fn make(context: &Context, config: Config) -> Result<()> {
    match context.create_stream(config).await {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => Ok(()),
            _ => Err(unavailable(error)),
        },
    }
}

/// A stream as it is.
struct Found {
    marks: Marks,
    first_seq: u64,
    max_age: Duration,
    duplicate_window: Duration,
}

async fn look_at(context: &Context, names: &Names, shard: u16) -> Result<Option<Found>> {
    let name = names.stream(shard);
    match context.get_stream(&name).await {
        Ok(stream) => {
            let config = &stream.cached_info().config;
            Ok(Some(Found {
                marks: Marks::read(&name, &config.metadata)?,
                first_seq: config.first_sequence.unwrap_or(1).max(1),
                // An operator may have lifted the bound altogether.
                max_age: if config.max_age.is_zero() { Duration::MAX } else { config.max_age },
                duplicate_window: config.duplicate_window,
            }))
        }
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            _ => Err(unavailable(error)),
        },
    }
}

/// An epoch that no other log is likely to have.
fn new_epoch(names: &Names) -> Epoch {
    let id = EventId::generate(names.region);
    Epoch::new(u32::from_be_bytes(*id.as_bytes().last_chunk().unwrap_or(&[0; 4])))
}

fn config(names: &Names, shard: u16, settings: Settings, (marks, first_seq): (Marks, u64)) -> Config {
    let events = names.events_of_shard(shard);
    Config {
        name: names.stream(shard),
        description: Some("the events of a shard, in order".into()),
        republish: Some(Republish {
            source: events.clone(),
            destination: names.copies_of_shard(shard),
            headers_only: false,
        }),
        subjects: vec![events],
        max_age: settings.retention,
        max_message_size: i32::try_from(MAX_PAYLOAD_BYTES + ENVELOPE_BYTES).unwrap_or(i32::MAX),
        storage: StorageType::File,
        num_replicas: usize::from(settings.replicas),
        discard: DiscardPolicy::Old,
        duplicate_window: settings.duplicate_window,
        allow_direct: true,
        deny_delete: true,
        // Logs that begin at 1 were made without it.
        first_sequence: Some(first_seq).filter(|first| *first > 1),
        metadata: marks.write(),
        ..Config::default()
    }
}

/// The bucket of leases. It lies in memory: what it holds is worth nothing after a few seconds.
async fn make_bucket(context: &Context, names: &Names, settings: Settings) -> Result<()> {
    let config = kv::Config {
        bucket: names.readers_bucket(),
        description: "which process reads which shard".into(),
        history: 1,
        max_age: LIFETIME,
        storage: StorageType::Memory,
        num_replicas: usize::from(settings.replicas),
        ..kv::Config::default()
    };
    context.create_or_update_key_value(config).await.map(drop).map_err(unavailable)
}

/// Sees whether the log is as the configuration says, and tells what it is like.
pub(super) async fn check(context: &Context, names: &Names) -> Result<Kept> {
    let not_made = || Error::Refused("the log was not made yet: run `rookery migrate`".into());
    let first = look_at(context, names, 0).await?.filter(|found| found.marks.is_whole).ok_or_else(not_made)?;
    first.marks.check_shards(names)?;
    if first.marks.version < VERSION {
        let version = first.marks.version;
        return Err(Error::Refused(format!(
            "the log has settings of version {version}, this program needs {VERSION}: run `rookery migrate`"
        )));
    }
    let epoch = first.marks.epoch;
    let Found { first_seq, max_age: retention, duplicate_window, .. } = first;
    let mut kept = Kept { epoch, first_seq, retention, duplicate_window };
    for shard in 1..names.shards {
        let other = look_at(context, names, shard).await?.filter(|other| other.marks.epoch == epoch);
        let missing = || Error::Damaged(format!("the stream {} is missing or another log's", names.stream(shard)));
        let other = other.ok_or_else(missing)?;
        kept.retention = kept.retention.min(other.max_age);
        kept.duplicate_window = kept.duplicate_window.min(other.duplicate_window);
    }
    Ok(kept)
}

impl Kept {
    /// What may be relied on: never more than the streams do, whatever the configuration says; nor more than it says, so
    /// that processes can be told of less before the streams are.
    pub(super) fn at_most(self, retention: Duration, duplicate_window: Duration) -> Self {
        if (self.retention, self.duplicate_window) != (retention, duplicate_window) {
            tracing::warn!(
                retention_hours = retention.as_secs() / 3_600,
                streams_retention_hours = self.retention.as_secs() / 3_600,
                duplicate_window_seconds = duplicate_window.as_secs(),
                streams_duplicate_window_seconds = self.duplicate_window.as_secs(),
                "the log's streams are kept otherwise than the configuration says; the lesser holds: \
                 `rookery migrate` brings them up to date"
            );
        }
        Self {
            retention: self.retention.min(retention),
            duplicate_window: self.duplicate_window.min(duplicate_window),
            ..self
        }
    }
}
