//! Which paths are in flight, and who comes next: one upload at a time for each.

use crate::account::{AccountName, VirtualPath};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

type Key = (AccountName, VirtualPath);

/// As many as there are uploads between their last byte and their answer.
#[derive(Default)]
pub(super) struct Slots {
    taken: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
}

/// The path is this holder's; given back when dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    key: Key,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Slots {
    /// Waits until nobody else has the path. In order of arrival.
    pub(super) async fn enter(self: &Arc<Self>, account: &AccountName, path: &VirtualPath) -> Slot {
        let key = (account.clone(), path.clone());
        let turn = Arc::clone(self.taken.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default());
        Slot { slots: Arc::clone(self), key, turn: Some(turn.lock_owned().await) }
    }

    /// `None` if somebody has the path, or waits for it.
    pub(super) fn try_enter(self: &Arc<Self>, account: &AccountName, path: &VirtualPath) -> Option<Slot> {
        let key = (account.clone(), path.clone());
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.contains_key(&key) {
            return None;
        }
        let turn: Arc<tokio::sync::Mutex<()>> = Arc::default();
        let held = Arc::clone(&turn).try_lock_owned().expect("nobody else has seen this lock");
        taken.insert(key.clone(), turn);
        Some(Slot { slots: Arc::clone(self), key, turn: Some(held) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.turn = None;
        // Those who wait for their turn hold the lock too; the last one clears up.
        if taken.get(&self.key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            taken.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left() {
        let slots: Arc<Slots> = Arc::default();
        let (alice, path) = ("alice".parse().unwrap(), VirtualPath::new("/a").unwrap());
        let first = slots.enter(&alice, &path).await;
        assert!(slots.try_enter(&alice, &path).is_none());
        assert!(slots.try_enter(&"bob".parse().unwrap(), &path).is_some());
        let waiting = tokio::spawn({
            let (slots, alice, path) = (Arc::clone(&slots), alice.clone(), path.clone());
            async move { drop(slots.enter(&alice, &path).await) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        assert!(slots.taken.lock().unwrap().is_empty());
        assert!(slots.try_enter(&alice, &path).is_some());
    }
}
