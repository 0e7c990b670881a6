//! How many uploads run at once: in all, for each holds some memory, and of one user, so that nobody takes all.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use types::UserId;

use crate::ApiError;

/// Uploads that run.
pub(super) struct Slots {
    in_all: usize,
    per_user: usize,
    running: Mutex<HashMap<UserId, usize>>,
}

/// Leave for one upload, until it is dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    user: UserId,
}

impl Slots {
    pub(super) fn new(in_all: usize, per_user: usize) -> Arc<Self> {
        Arc::new(Self { in_all, per_user, running: Mutex::default() })
    }

    /// Takes leave for one more upload; 503 `busy` when there are too many.
    pub(super) fn take(self: &Arc<Self>, user: UserId) -> Result<Slot, ApiError> {
        let mut running = self.running.lock();
        let in_all: usize = running.values().sum();
        let own = running.get(&user).copied().unwrap_or_default();
        if in_all >= self.in_all || own >= self.per_user {
            return Err(ApiError::busy("too many uploads are running at the moment"));
        }
        running.insert(user, own + 1);
        Ok(Slot { slots: Arc::clone(self), user })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut running = self.slots.running.lock();
        let left = running.get(&self.user).map_or(0, |own| own.saturating_sub(1));
        if left == 0 {
            running.remove(&self.user);
        } else {
            running.insert(self.user, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use types::Region;

    use super::*;

    #[test]
    fn one_user_has_so_many_and_all_have_so_many() {
        let slots = Slots::new(3, 2);
        let [ada, bob] = [(); 2].map(|()| UserId::generate(Region::default()));
        let first = slots.take(ada).unwrap();
        let _second = slots.take(ada).unwrap();
        assert_eq!(slots.take(ada).err().unwrap().code(), "busy");
        let _third = slots.take(bob).unwrap();
        assert_eq!(slots.take(bob).err().unwrap().code(), "busy");
        drop(first);
        let _fourth = slots.take(bob).unwrap();
        assert!(slots.take(ada).is_err());
        assert_eq!(slots.running.lock().len(), 2);
    }
}
