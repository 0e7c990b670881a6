//! What everything is called on the server: streams, subjects, buckets.
//!
//! | what | name |
//! |---|---|
//! | a shard's stream | `<name>-<region>-<shard>` |
//! | a stored event | `<name>.log.<region>.<shard>.g.<group>`, or `….d.<user a>.<user b>` |
//! | its live copy | the same with `live` in the place of `log` |
//! | a notice | `<name>.notice.g.<group>`, `<name>.notice.u.<user>`, `….p.<user>` (presence), `….directory` |
//! | a service | `<name>.service.<service>` |
//! | a consumer's progress | `<name>.progress.<region>.<group>.<shard>` |
//! | that a stream has a new leader, told by the server | `$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.<stream>` |
//! | who reads which shard | bucket `<name>-readers-<region>`: `lease.<group>.<shard>`, `member.<group>.<process>` |

use std::fmt::Write;

use types::{ConversationId, GroupId, Region, UserId};

use crate::{Error, Result, Topic};

/// Where servers tell that a stream has a new leader; the stream's name follows.
const ELECTIONS: &str = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.";

/// What kind of subscription a message came by: the two lowest bits of a subscription's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A notice.
    Notice,
    /// An event of a group, or of a direct conversation as the first of its two users.
    First,
    /// An event of a direct conversation as the second of its two users.
    Second,
}

/// The names of one region's log.
#[derive(Clone, Debug)]
pub(super) struct Names {
    name: String,
    pub(super) region: Region,
    pub(super) shards: u16,
    log_prefix: String,
    live_prefix: String,
    notice_prefix: String,
}

impl Names {
    pub(super) fn new(name: &str, region: Region, shards: u16) -> Result<Self> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_plain) {
            return Err(Error::Refused(format!("`{name}` is no name: 1 to 64 of a-z, 0-9, `_` and `-`")));
        }
        if shards == 0 {
            return Err(Error::Refused("a log has at least one shard".into()));
        }
        Ok(Self {
            name: name.to_owned(),
            region,
            shards,
            log_prefix: format!("{name}.log.{region}."),
            live_prefix: format!("{name}.live.{region}."),
            notice_prefix: format!("{name}.notice."),
        })
    }

    pub(super) fn shard_of(&self, conversation: ConversationId) -> u16 {
        conversation.shard(self.shards)
    }

    pub(super) fn stream(&self, shard: u16) -> String {
        format!("{}-{}-{shard}", self.name, self.region)
    }

    /// Every event of a shard.
    pub(super) fn events_of_shard(&self, shard: u16) -> String {
        format!("{}{shard}.>", self.log_prefix)
    }

    /// Every live copy of a shard's events.
    pub(super) fn copies_of_shard(&self, shard: u16) -> String {
        format!("{}{shard}.>", self.live_prefix)
    }

    /// Where it is told that any stream of the account has a new leader.
    pub(super) fn elections() -> String {
        format!("{ELECTIONS}*")
    }

    /// The shard of which it is told there.
    pub(super) fn read_election(&self, subject: &[u8]) -> Option<u16> {
        let stream = std::str::from_utf8(subject).ok()?.strip_prefix(ELECTIONS)?;
        let (_, shard) = stream.rsplit_once('-')?;
        let shard = shard.parse().ok().filter(|shard| *shard < self.shards)?;
        (self.stream(shard) == stream).then_some(shard)
    }

    /// Where a conversation's events are stored.
    pub(super) fn events_of(&self, conversation: ConversationId) -> String {
        let mut subject = String::with_capacity(self.log_prefix.len() + 84);
        subject.push_str(&self.log_prefix);
        let shard = self.shard_of(conversation);
        let written = match conversation {
            ConversationId::Group(group) => write!(subject, "{shard}.g.{group}"),
            ConversationId::Direct(first, second) => write!(subject, "{shard}.d.{first}.{second}"),
        };
        // Writing into a string does not fail.
        written.map_or_else(|_| String::new(), |()| subject)
    }

    /// The shard and the conversation of a stored event or of a live copy.
    pub(super) fn read_event(&self, subject: &str) -> Option<(u16, ConversationId)> {
        let tail = subject.strip_prefix(&*self.log_prefix).or_else(|| subject.strip_prefix(&*self.live_prefix))?;
        let (shard, tail) = tail.split_once('.')?;
        let shard = shard.parse().ok().filter(|shard| *shard < self.shards)?;
        let conversation = match tail.split_at_checked(2)? {
            ("g.", group) => ConversationId::Group(group.parse().ok()?),
            ("d.", users) => {
                let (first, second) = users.split_once('.')?;
                ConversationId::direct(first.parse().ok()?, second.parse().ok()?)
            }
            _ => return None,
        };
        Some((shard, conversation))
    }

    /// Where a notice is sent.
    pub(super) fn notice(&self, topic: Topic) -> String {
        match topic {
            Topic::Group(group) => format!("{}g.{group}", self.notice_prefix),
            Topic::User(user) => format!("{}u.{user}", self.notice_prefix),
            Topic::Presence(user) => format!("{}p.{user}", self.notice_prefix),
            Topic::Directory => format!("{}directory", self.notice_prefix),
        }
    }

    /// The topic to which a notice was sent.
    pub(super) fn read_notice(&self, subject: &str) -> Option<Topic> {
        let tail = subject.strip_prefix(&*self.notice_prefix)?;
        match tail.split_once('.') {
            Some(("g", group)) => group.parse::<GroupId>().ok().map(Topic::Group),
            Some(("u", user)) => user.parse::<UserId>().ok().map(Topic::User),
            Some(("p", user)) => user.parse::<UserId>().ok().map(Topic::Presence),
            _ => (tail == "directory").then_some(Topic::Directory),
        }
    }

    /// What is to be subscribed to for a topic.
    pub(super) fn subscriptions(&self, topic: Topic) -> Vec<(Heard, String)> {
        let mut subjects = vec![(Heard::Notice, self.notice(topic))];
        match topic {
            Topic::Group(group) => subjects.push((Heard::First, format!("{}*.g.{group}", self.live_prefix))),
            Topic::User(user) => {
                subjects.push((Heard::First, format!("{}*.d.{user}.*", self.live_prefix)));
                subjects.push((Heard::Second, format!("{}*.d.*.{user}", self.live_prefix)));
            }
            Topic::Presence(_) | Topic::Directory => {}
        }
        subjects
    }

    pub(super) fn service(&self, service: &str) -> String {
        format!("{}.service.{service}", self.name)
    }

    /// The name by which a service is discovered.
    pub(super) fn service_name(&self, service: &str) -> String {
        format!("{}-{service}", self.name)
    }

    pub(super) fn progress(&self, group: &str, shard: u16) -> String {
        format!("{}.progress.{}.{group}.{shard}", self.name, self.region)
    }

    pub(super) fn progress_of_all(&self) -> String {
        format!("{}.progress.{}.*.*", self.name, self.region)
    }

    pub(super) fn read_progress<'a>(&self, subject: &'a str) -> Option<(&'a str, u16)> {
        let (rest, shard) = subject.rsplit_once('.')?;
        let (_, group) = rest.rsplit_once('.')?;
        Some((group, shard.parse().ok().filter(|shard| *shard < self.shards)?))
    }

    /// The bucket in which processes agree on who reads which shard.
    pub(super) fn readers_bucket(&self) -> String {
        format!("{}-readers-{}", self.name, self.region)
    }

    /// Where a key of [`Names::readers_bucket`] is stored.
    pub(super) fn readers_key(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.readers_bucket())
    }

    /// The stream below [`Names::readers_bucket`].
    pub(super) fn readers_stream(&self) -> String {
        format!("KV_{}", self.readers_bucket())
    }
}

impl Heard {
    /// The number of a subscription.
    pub(super) fn sid(self, number: u64) -> u64 {
        number << 2 | self as u64
    }

    /// The kind of a subscription and the rest of its number.
    pub(super) fn of(sid: u64) -> (Self, u64) {
        let heard = match sid & 3 {
            0 => Self::Notice,
            1 => Self::First,
            _ => Self::Second,
        };
        (heard, sid >> 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_tells_its_conversation() {
        let names = Names::new("chat", Region::default(), 8).unwrap();
        let (me, peer) = (UserId::generate(Region::default()), UserId::generate(Region::default()));
        let group = GroupId::generate(Region::default());
        for conversation in [group.into(), ConversationId::direct(me, peer), ConversationId::direct(me, me)] {
            let subject = names.events_of(conversation);
            let read = Some((conversation.shard(8), conversation));
            assert_eq!(names.read_event(&subject), read);
            assert_eq!(names.read_event(&subject.replace(".log.", ".live.")), read);
            assert_eq!(names.read_event(&subject.replace("chat", "other")), None);
        }
        for topic in [Topic::Group(group), Topic::User(me), Topic::Presence(me), Topic::Directory] {
            assert_eq!(names.read_notice(&names.notice(topic)), Some(topic));
        }
    }

    #[test]
    fn the_election_of_a_shards_leader_is_told_from_others() {
        let names = Names::new("chat", Region::default(), 8).unwrap();
        let subject = |stream: &str| Names::elections().replace('*', stream).into_bytes();
        for shard in 0..8 {
            assert_eq!(names.read_election(&subject(&names.stream(shard))), Some(shard));
        }
        for other in [names.stream(8), names.readers_stream(), format!("my-{}", names.stream(1)), "1".into()] {
            assert_eq!(names.read_election(&subject(&other)), None, "{other}");
        }
    }

    #[test]
    fn a_name_is_plain() {
        for name in ["", "a.b", "a b", "*", "A", &"a".repeat(65)] {
            assert!(Names::new(name, Region::default(), 1).is_err(), "{name}");
        }
    }
}
