//! How often who may come: token buckets, by whatever tells them apart. Pure: time is passed in.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// So many a second, and so many at once after a rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Zero: no bound.
    pub per_second: f64,
    pub burst: f64,
}

/// Buckets, one for each key; a bounded number of them.
#[derive(Debug)]
pub struct Buckets<K> {
    at_most: usize,
    buckets: HashMap<K, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
    /// From when on it is as good as a new one.
    full_at: Instant,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Of more than `at_most`, whoever has waited longest begins anew.
    #[must_use]
    pub fn new(at_most: usize) -> Self {
        Buckets { at_most, buckets: HashMap::new() }
    }

    /// Takes `cost`; or takes nothing and answers how long until there is as much.
    pub fn take(&mut self, key: &K, rate: Rate, cost: f64, now: Instant) -> Result<(), Duration> {
        if rate.per_second <= 0.0 {
            return Ok(());
        }
        let burst = rate.burst.max(1.0);
        let mut bucket = self.buckets.get(key).copied().unwrap_or(Bucket { tokens: burst, at: now, full_at: now });
        let rested = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + rested * rate.per_second).min(burst);
        bucket.at = now;
        // A cost above the burst would never be there.
        let cost = cost.min(burst);
        let taken = if bucket.tokens >= cost {
            bucket.tokens -= cost;
            Ok(())
        } else {
            Err(seconds((cost - bucket.tokens) / rate.per_second))
        };
        bucket.full_at = now + seconds((burst - bucket.tokens) / rate.per_second);
        self.keep(key, bucket, now);
        taken
    }

    fn keep(&mut self, key: &K, bucket: Bucket, now: Instant) {
        if !self.buckets.contains_key(key) && self.buckets.len() >= self.at_most {
            self.buckets.retain(|_, bucket| bucket.full_at > now);
            if self.buckets.len() >= self.at_most
                && let Some(first) = self.buckets.iter().min_by_key(|(_, bucket)| bucket.full_at).map(|(key, _)| key.clone())
            {
                self.buckets.remove(&first);
            }
        }
        self.buckets.insert(key.clone(), bucket);
    }
}

/// At most a day: a rate may be as low as it likes.
fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 2.0, burst: 4.0 };

    #[test]
    fn a_burst_then_the_rate() {
        let mut buckets = Buckets::new(8);
        let start = Instant::now();
        for _ in 0..4 {
            assert_eq!(buckets.take(&1, RATE, 1.0, start), Ok(()));
        }
        assert_eq!(buckets.take(&1, RATE, 1.0, start), Err(Duration::from_millis(500)));
        assert_eq!(buckets.take(&2, RATE, 1.0, start), Ok(()), "everybody has a bucket of their own");
        assert_eq!(buckets.take(&1, RATE, 1.0, start + Duration::from_millis(500)), Ok(()));
        let rested = start + Duration::from_secs(3600);
        assert_eq!(buckets.take(&1, RATE, 9.0, rested), Ok(()), "what costs more than a burst costs a burst");
        assert_eq!(buckets.take(&1, RATE, 1.0, rested), Err(Duration::from_millis(500)));
        let never = Rate { per_second: 0.0, burst: 0.0 };
        assert!((0..1000).all(|_| buckets.take(&3, never, 1.0, start).is_ok()), "zero is no bound");
    }

    #[test]
    fn what_is_remembered_has_a_bound_and_the_busiest_stay() {
        let mut buckets = Buckets::new(100);
        let start = Instant::now();
        while buckets.take(&0, RATE, 1.0, start).is_ok() {}
        for stranger in 1..10_000 {
            buckets.take(&stranger, RATE, 1.0, start).unwrap();
        }
        assert_eq!(buckets.buckets.len(), 100);
        assert!(buckets.take(&0, RATE, 1.0, start).is_err(), "a crowd does not make a flood forgotten");
        buckets.take(&-1, RATE, 1.0, start + Duration::from_secs(10)).unwrap();
        assert_eq!(buckets.buckets.len(), 1, "the rested are forgotten first");
    }
}
