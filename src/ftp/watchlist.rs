//! Who failed to log in of late, and what that costs. Pure: time is passed in.
//!
//! A failure costs its peer a delay, the longer the more there were. Three things are locked for ten minutes
//! after the last wrong password: a pair of peer and account after ten of them; and once a peer has failed fifty
//! times, whatever its names, or an account has been missed fifty times, wherever from, every pair of it that
//! has missed at all. So who guesses is stopped soon, and whoever comes with the right password first is let in:
//! nobody can lock a scanner out by guessing from elsewhere.
//!
//! Nor from behind the same address: a peer that has logged in rightly is known by a digest of what it said, and
//! who says it again is not subject to any lock. Every map has a bound; beyond it the oldest is forgotten.

use crate::account::AccountName;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// How long failures are remembered, and locks last.
pub(super) const MEMORY: Duration = Duration::from_secs(600);
/// How long a right login is.
const ACQUAINTANCE: Duration = Duration::from_secs(30 * 86_400);
pub(super) const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Of one account by one peer.
const MISSES_TO_LOCK: u32 = 10;
/// Of any accounts by one peer, and of one account by any peers.
const MISSES_TO_BAN: u32 = 50;
/// Failures before the delay grows; libunftp ends a session after as many.
const TRIES: u32 = 3;
/// Entries of each map.
const REMEMBERED: usize = 4096;

/// What is locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// This account, to this peer.
    Pair(IpAddr, AccountName),
    /// This peer, to every account that it misses.
    Peer(IpAddr),
    /// This account, to every peer that misses it.
    Account(AccountName),
}

/// What somebody said to log in: no password can be found from it.
pub(super) type Digest = [u8; 32];

#[derive(Debug, Default)]
pub(super) struct Watchlist {
    peers: HashMap<IpAddr, Count>,
    accounts: HashMap<AccountName, Count>,
    pairs: HashMap<(IpAddr, AccountName), Count>,
    known: HashMap<(IpAddr, AccountName), Known>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    count: u32,
    last: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    said: Digest,
    last: Instant,
}

/// What to do with a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It said before what was right.
    Known,
    Look,
    /// Whatever it says.
    Locked,
}

impl Watchlist {
    pub fn verdict(&self, peer: IpAddr, name: &AccountName, said: &Digest, now: Instant) -> Verdict {
        let pair = (peer, name.clone());
        if self
            .known
            .get(&pair)
            .is_some_and(|known| bool::from(known.said.ct_eq(said)) && now.saturating_duration_since(known.last) < ACQUAINTANCE)
        {
            return Verdict::Known;
        }
        let missed = fresh(&self.pairs, &pair, now);
        let is_banned = fresh(&self.peers, &peer, now) >= MISSES_TO_BAN || fresh(&self.accounts, name, now) >= MISSES_TO_BAN;
        if missed >= MISSES_TO_LOCK || (missed > 0 && is_banned) { Verdict::Locked } else { Verdict::Look }
    }

    /// Notes a failure; answers how long its answer is to be held back, and whether the peer is locked from now on.
    pub fn failed(&mut self, peer: IpAddr, now: Instant) -> (Duration, Option<Subject>) {
        let count = note(&mut self.peers, peer, now);
        let delay = (FIRST_DELAY + FIRST_DELAY / 2 * count.saturating_sub(TRIES)).min(LONGEST_DELAY);
        (delay, (count == MISSES_TO_BAN).then_some(Subject::Peer(peer)))
    }

    /// Notes a password that was looked at and wrong; answers what is locked from now on.
    pub fn missed(&mut self, peer: IpAddr, name: &AccountName, now: Instant) -> Vec<Subject> {
        let pair = note(&mut self.pairs, (peer, name.clone()), now) == MISSES_TO_LOCK;
        let account = note(&mut self.accounts, name.clone(), now) == MISSES_TO_BAN;
        let pair = pair.then(|| Subject::Pair(peer, name.clone()));
        pair.into_iter().chain(account.then(|| Subject::Account(name.clone()))).collect()
    }

    /// Notes a right password; answers whether the pair was locked until now.
    pub fn succeeded(&mut self, peer: IpAddr, name: &AccountName, said: Digest, now: Instant) -> bool {
        let pair = (peer, name.clone());
        make_place(&mut self.known, &pair, |known| known.last, |known| now.saturating_duration_since(known.last) < ACQUAINTANCE);
        self.known.insert(pair.clone(), Known { said, last: now });
        // Among many behind one address there are always some that mistype: their neighbours' successes speak for it.
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.count = peer.count.saturating_sub(TRIES);
        }
        let missed = self.pairs.remove(&pair);
        missed.is_some_and(|missed| missed.count >= MISSES_TO_LOCK && is_fresh(&missed, now))
    }
}

impl Subject {
    /// Why, for an operator.
    pub fn reason(&self) -> String {
        match self {
            Subject::Pair(..) => format!("{MISSES_TO_LOCK} wrong passwords for this account from this address"),
            Subject::Peer(_) => format!("{MISSES_TO_BAN} failed logins from this address"),
            Subject::Account(_) => format!("{MISSES_TO_BAN} wrong passwords for this account"),
        }
    }
}

fn is_fresh(count: &Count, now: Instant) -> bool {
    now.saturating_duration_since(count.last) < MEMORY
}

fn fresh<K: Hash + Eq>(counts: &HashMap<K, Count>, key: &K, now: Instant) -> u32 {
    counts.get(key).filter(|count| is_fresh(count, now)).map_or(0, |count| count.count)
}

/// One more in a map of bounded size.
fn note<K: Hash + Eq + Clone>(counts: &mut HashMap<K, Count>, key: K, now: Instant) -> u32 {
    make_place(counts, &key, |count| count.last, |count| is_fresh(count, now));
    let count = counts.entry(key).or_insert(Count { count: 0, last: now });
    if !is_fresh(count, now) {
        count.count = 0;
    }
    *count = Count { count: count.count.saturating_add(1), last: now };
    count.count
}

/// Forgets what is over, or a share of the oldest, before a map would outgrow its bound.
fn make_place<K: Hash + Eq + Clone, V>(
    map: &mut HashMap<K, V>,
    key: &K,
    last: impl Fn(&V) -> Instant,
    keep: impl Fn(&V) -> bool,
) {
    if map.len() < REMEMBERED || map.contains_key(key) {
        return;
    }
    map.retain(|_, value| keep(value));
    if map.len() >= REMEMBERED {
        // An eighth at once: not a search for each of a million strangers.
        let mut ages: Vec<Instant> = map.values().map(&last).collect();
        ages.sort_unstable();
        let oldest = ages[REMEMBERED / 8];
        map.retain(|_, value| last(value) > oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    const RIGHT: Digest = [1; 32];
    const WRONG: Digest = [2; 32];

    fn desk() -> AccountName {
        "desk".parse().unwrap()
    }

    #[test]
    fn failures_slow_their_peer_down_for_ten_minutes() {
        let mut list = Watchlist::default();
        let start = Instant::now();
        let delays: Vec<f32> = (0..10).map(|_| list.failed(ONE, start).0.as_secs_f32()).collect();
        assert_eq!(delays, [1.0, 1.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]);
        list.succeeded(ONE, &desk(), RIGHT, start);
        assert_eq!(list.failed(ONE, start).0.as_secs_f32(), 3.5, "a success takes three of them back");
        assert_eq!(list.failed(TWO, start).0, FIRST_DELAY);
        assert_eq!(list.failed(TWO, start + MEMORY).0, FIRST_DELAY);
    }

    #[test]
    fn an_account_is_locked_to_the_peer_that_guesses_but_not_to_who_is_known() {
        let mut list = Watchlist::default();
        let start = Instant::now();
        assert!(!list.succeeded(ONE, &desk(), RIGHT, start));
        let mut locked = Vec::new();
        for _ in 0..MISSES_TO_LOCK {
            assert_eq!(list.verdict(ONE, &desk(), &WRONG, start), Verdict::Look);
            locked.extend(list.missed(ONE, &desk(), start));
        }
        assert_eq!(locked, [Subject::Pair(ONE, desk())]);
        assert_eq!(list.verdict(ONE, &desk(), &WRONG, start), Verdict::Locked);
        assert_eq!(list.verdict(ONE, &desk(), &RIGHT, start), Verdict::Known, "the device behind the same address");
        assert_eq!(list.verdict(TWO, &desk(), &RIGHT, start), Verdict::Look, "and one elsewhere");
        assert_eq!(list.verdict(ONE, &"other".parse().unwrap(), &WRONG, start), Verdict::Look);
        assert_eq!(list.verdict(ONE, &desk(), &WRONG, start + MEMORY), Verdict::Look);
        assert!(list.succeeded(ONE, &desk(), RIGHT, start), "a lock ends with a right login");
        assert_eq!(list.verdict(ONE, &desk(), &WRONG, start), Verdict::Look);
    }

    #[test]
    fn who_tries_many_names_or_many_addresses_has_one_try_each() {
        let mut list = Watchlist::default();
        let start = Instant::now();
        let name = |number: u32| format!("name-{number}").parse::<AccountName>().unwrap();
        let mut locked = Vec::new();
        for number in 0..MISSES_TO_BAN {
            locked.extend(list.missed(ONE, &name(number), start));
            locked.extend(list.failed(ONE, start).1);
        }
        assert_eq!(locked, [Subject::Peer(ONE)]);
        assert_eq!(list.verdict(ONE, &name(0), &WRONG, start), Verdict::Locked);
        assert_eq!(list.verdict(ONE, &desk(), &RIGHT, start), Verdict::Look, "who comes rightly at once is let in");

        let mut list = Watchlist::default();
        let peer = |number: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number));
        let locked: Vec<_> = (0..MISSES_TO_BAN).flat_map(|number| list.missed(peer(number), &desk(), start)).collect();
        assert_eq!(locked, [Subject::Account(desk())]);
        assert_eq!(list.verdict(peer(0), &desk(), &WRONG, start), Verdict::Locked);
        assert_eq!(list.verdict(peer(1000), &desk(), &RIGHT, start), Verdict::Look);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut list = Watchlist::default();
        let start = Instant::now();
        for number in 0..3 * u32::try_from(REMEMBERED).unwrap() {
            let (peer, name) = (IpAddr::V4(number.into()), format!("n{number}").parse().unwrap());
            let now = start + Duration::from_micros(number.into());
            list.failed(peer, now);
            list.missed(peer, &name, now);
            list.succeeded(peer, &desk(), RIGHT, now);
        }
        for length in [list.peers.len(), list.accounts.len(), list.pairs.len(), list.known.len()] {
            assert!((REMEMBERED / 2..=REMEMBERED).contains(&length), "{length}");
        }
    }
}
