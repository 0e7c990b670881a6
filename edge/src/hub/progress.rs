//! How far this edge has handed on what the log delivered.

use std::sync::atomic::{AtomicU64, Ordering};

use log::{Consumer, Log};
use types::{ConversationId, Epoch, Vector};

use crate::timeline::INGEST;

/// The last `seq` of each shard that was handed to the connections in its rooms.
pub(crate) struct Progress {
    epoch: Epoch,
    seqs: Vec<AtomicU64>,
}

impl Progress {
    /// Begins where ingest is: a place that lies behind every connection that is still to come.
    pub(super) async fn begin(log: &dyn Log) -> Self {
        let layout = log.layout();
        let mut seqs = Vec::with_capacity(usize::from(layout.shards));
        for shard in 0..layout.shards {
            // Without an answer it begins at 0: whoever resumes from there is given more than it needs, not less.
            let lag = log.lag(Consumer { group: INGEST, shard }).await.unwrap_or_default();
            seqs.push(AtomicU64::new(lag.acked_seq));
        }
        Self { epoch: layout.epoch, seqs }
    }

    /// Notes that everything up to `seq` was handed on.
    pub(super) fn reach(&self, shard: usize, seq: u64) {
        if let Some(reached) = self.seqs.get(shard) {
            reached.fetch_max(seq, Ordering::AcqRel);
        }
    }

    /// Where it stands in a shard.
    pub(super) fn seq(&self, shard: usize) -> u64 {
        self.seqs.get(shard).map_or(0, |seq| seq.load(Ordering::Acquire))
    }

    pub(super) fn vector(&self) -> Vector {
        Vector { epoch: self.epoch, seqs: self.seqs.iter().map(|seq| seq.load(Ordering::Acquire)).collect() }
    }

    /// The shard of a conversation.
    pub(crate) fn shard_of(&self, conversation: ConversationId) -> usize {
        usize::from(conversation.shard(self.shards()))
    }

    /// Whether everything of a conversation up to `seq` was handed on.
    pub(crate) fn has_passed(&self, conversation: ConversationId, seq: u64) -> bool {
        self.seq(self.shard_of(conversation)) >= seq
    }

    /// The number of shards.
    fn shards(&self) -> u16 {
        u16::try_from(self.seqs.len()).unwrap_or(u16::MAX)
    }
}
