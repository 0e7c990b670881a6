//! Recording ranges, and settling what another recorder left behind. Why it is exact stands in the module above.

use std::time::Duration;

use super::Store;
use super::ranges::{Note, Noted, Pending, new_owner};
use crate::{Error, Fact, MAX_FACTS, Range, Result};

/// How often rows are looked for whose insert another recorder has under way.
const LOOKS: u32 = 10;
/// The pause between two such looks.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
/// How often a note is read again that changes while rows are counted.
const READINGS: u32 = 4;

/// What became of a pending range.
enum Settled {
    /// It was recorded as the range of this call.
    AsOurs,
    /// It was recorded with another end, or not at all.
    Otherwise(Noted),
}

/// A call that records.
struct Call<'a> {
    range: &'a Range<'a>,
    /// Its name in the notes.
    owner: String,
}

impl Store {
    pub(super) async fn record_range(&self, range: &Range<'_>) -> Result<()> {
        if range.facts.len() > MAX_FACTS {
            return Err(Error::Refused(format!("a range of {} facts; {MAX_FACTS} are the most", range.facts.len())));
        }
        let call = Call { range, owner: new_owner() };
        let mut noted = self.notes.read(range.shard).await?;
        if let Some(pending) = noted.note.pending.clone() {
            match self.settle(noted, pending, &call).await? {
                Settled::AsOurs => return Ok(()),
                Settled::Otherwise(settled) => noted = settled,
            }
        }
        call.check_step(&noted.note)?;
        if let Some(pending) = Pending::of(range, &call.owner) {
            let token = pending.token.clone();
            let note = Note { pending: Some(pending), ..noted.note.clone() };
            noted = self.note(&noted, note, &call).await?;
            self.insert(range.shard, range.facts, &token).await?;
        } else if range.through_seq == range.after_seq {
            return Ok(());
        }
        self.note_success(&noted, &call).await
    }

    /// Finds out what became of a pending range, and decides it when nothing has become of it yet.
    async fn settle(&self, noted: Noted, pending: Pending, call: &Call<'_>) -> Result<Settled> {
        metrics::counter!("rookery_analytics_settled_total").increment(1);
        let (shard, after_seq) = (noted.shard, noted.note.recorded_seq);
        let found = self.read_back(shard, after_seq, &pending).await?;
        if let Some(end) = found.end(&pending, None) {
            let note = Note::recorded(end, &pending.owner);
            return Ok(Settled::Otherwise(self.note(&noted, note, call).await?));
        }
        call.check_step(&noted.note)?;
        let facts = call.facts_through(pending.through_seq);
        if facts.is_empty() {
            return self.pass_over(noted, pending, call).await;
        }
        // From here on the last recorder cannot note its range: it would not know whose rows are there.
        let claimed = Pending { owner: call.owner.clone(), ..pending };
        let noted = self.note(&noted, Note { pending: Some(claimed.clone()), ..noted.note.clone() }, call).await?;
        self.insert(shard, facts, &claimed.token).await?;
        let through_seq = call.range.through_seq.min(claimed.through_seq);
        let Some(end) = self.look_for(&noted, &claimed, (facts, through_seq)).await? else {
            return self.take_back(noted, &claimed, call).await;
        };
        if end == call.range.through_seq {
            self.note_success(&noted, call).await?;
            return Ok(Settled::AsOurs);
        }
        Ok(Settled::Otherwise(self.note(&noted, Note::recorded(end, &call.owner), call).await?))
    }

    /// Records a range without facts that ends within a pending one: whose facts are all behind it then.
    async fn pass_over(&self, noted: Noted, pending: Pending, call: &Call<'_>) -> Result<Settled> {
        let Range { shard, through_seq, .. } = *call.range;
        if through_seq >= pending.through_seq {
            let Pending { facts, through_seq: end, .. } = pending;
            return Err(Error::Damaged(format!(
                "shard {shard} was to have {facts} facts from {} to {end}, and now the log has none there",
                noted.note.recorded_seq
            )));
        }
        if through_seq > noted.note.recorded_seq {
            let note = Note { pending: Some(pending), ..Note::recorded(through_seq, &call.owner) };
            self.note(&noted, note, call).await?;
        }
        Ok(Settled::AsOurs)
    }

    /// Looks for rows after an insert was answered well, and gives the end of the range that is there.
    async fn look_for(&self, noted: &Noted, pending: &Pending, ours: (&[Fact], u64)) -> Result<Option<u64>> {
        for _ in 0..LOOKS {
            // Asked first: of an insert that has ended by now the rows are there, or never will be.
            let is_under_way = self.is_under_way(&pending.token).await?;
            self.catch_up().await?;
            let found = self.read_back(noted.shard, noted.note.recorded_seq, pending).await?;
            let end = found.end(pending, Some(ours));
            if end.is_some() || !is_under_way {
                return Ok(end);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Err(Error::Unavailable(format!("an insert of shard {} is still under way", noted.shard)))
    }

    /// Gives up a token that the server knows and has no rows of: no insert takes effect under it any more.
    async fn take_back(&self, noted: Noted, pending: &Pending, call: &Call<'_>) -> Result<Settled> {
        metrics::counter!("rookery_analytics_lost_inserts_total").increment(1);
        tracing::warn!(
            shard = noted.shard,
            token = pending.token,
            "ClickHouse knows an insert and has lost its rows; they are inserted anew"
        );
        let note = Note { pending: None, ..noted.note.clone() };
        Ok(Settled::Otherwise(self.note(&noted, note, call).await?))
    }

    /// Notes the call's range as recorded.
    async fn note_success(&self, noted: &Noted, call: &Call<'_>) -> Result<()> {
        let through_seq = call.range.through_seq;
        if self.notes.write(noted, Note::recorded(through_seq, &call.owner)).await?.is_some() {
            return Ok(());
        }
        // Somebody may have found the rows before they were noted here.
        let present = self.notes.read(noted.shard).await?.note;
        if present.is_success(&call.owner, through_seq) { Ok(()) } else { Err(call.out_of_step(&present)) }
    }

    /// Changes the note; an error when another recorder has changed it first.
    async fn note(&self, noted: &Noted, note: Note, call: &Call<'_>) -> Result<Noted> {
        match self.notes.write(noted, note).await? {
            Some(noted) => Ok(noted),
            None => Err(call.out_of_step(&self.notes.read(noted.shard).await?.note)),
        }
    }

    /// Where the last recorded range of a shard ends, a pending one included whose rows are there.
    pub(super) async fn end_of(&self, shard: u16) -> Result<u64> {
        let mut noted = self.notes.read(shard).await?;
        for _ in 0..READINGS {
            let recorded_seq = noted.note.recorded_seq;
            if let Some(pending) = &noted.note.pending {
                let found = self.read_back(shard, recorded_seq, pending).await?;
                return Ok(found.end(pending, None).unwrap_or(recorded_seq));
            }
            let last_seq = self.last_seq(shard).await?;
            if last_seq <= recorded_seq {
                return Ok(recorded_seq);
            }
            let present = self.notes.read(shard).await?;
            if present.note == noted.note {
                return Err(Error::Damaged(format!(
                    "shard {shard} has rows up to {last_seq} and is noted up to {recorded_seq}: an older bucket?"
                )));
            }
            noted = present;
        }
        Ok(noted.note.recorded_seq)
    }
}

impl Call<'_> {
    /// The range begins where the shard's last one ended, and does not end before it begins.
    fn check_step(&self, note: &Note) -> Result<()> {
        let is_in_step = self.range.after_seq == note.recorded_seq && self.range.through_seq >= self.range.after_seq;
        if is_in_step { Ok(()) } else { Err(self.out_of_step(note)) }
    }

    fn out_of_step(&self, note: &Note) -> Error {
        let Range { shard, after_seq, .. } = *self.range;
        Error::OutOfStep { shard, after_seq, recorded_seq: note.recorded_seq }
    }

    /// The call's facts up to and with `seq`.
    fn facts_through(&self, seq: u64) -> &[Fact] {
        let facts = self.range.facts;
        &facts[..facts.partition_point(|fact| fact.seq <= seq)]
    }
}
