//! Who is locked out for a while, written down for the operator: by the door that locks, read by the command
//! line. What decides at a login is the door's own memory; a daemon that starts anew remembers nobody.

use crate::account::AccountName;
use crate::database::{self, DatabaseError};
use crate::units::Timestamp;
use rusqlite::{Connection, Row, params};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is locked, why, and until when. With an account and an address: that account to that address. With one
/// of them: the account to every address that misses it, the address to every account that it misses.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Ban {
    pub account: Option<AccountName>,
    pub address: Option<IpAddr>,
    pub reason: String,
    pub since: Timestamp,
    pub until: Timestamp,
}

/// The table `bans`. Blocking; clones share it.
#[derive(Debug, Clone)]
pub struct Bans {
    connection: Arc<Mutex<Connection>>,
}

impl Bans {
    /// The list in the database at `path`.
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        Ok(Bans { connection: Arc::new(Mutex::new(database::open(path)?)) })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody is locked out: a door opens.
    pub fn clear(&self) -> Result<(), DatabaseError> {
        self.connection().execute("DELETE FROM bans", [])?;
        Ok(())
    }

    /// Writes one down, in the place of an earlier one of the same; those that are over go.
    pub fn put(&self, ban: &Ban) -> Result<(), DatabaseError> {
        let connection = self.connection();
        connection.execute("DELETE FROM bans WHERE until <= ?1", [ban.since.0])?;
        connection.execute(
            "INSERT INTO bans (account, address, reason, since, until) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET until = excluded.until",
            params![account_of(ban), address_of(ban), ban.reason, ban.since.0, ban.until.0],
        )?;
        Ok(())
    }

    /// One is over before its time.
    pub fn lift(&self, account: &AccountName, address: IpAddr) -> Result<(), DatabaseError> {
        let statement = "DELETE FROM bans WHERE account = ?1 AND address = ?2";
        self.connection().execute(statement, params![account.as_str(), address.to_string()])?;
        Ok(())
    }

    /// Those that hold now, the newest first.
    pub fn list(&self, now: Timestamp) -> Result<Vec<Ban>, DatabaseError> {
        let connection = self.connection();
        let mut statement = connection.prepare(
            "SELECT account, address, reason, since, until FROM bans WHERE until > ?1 ORDER BY since DESC, account, address",
        )?;
        let bans = statement.query_map([now.0], ban_from_row)?.collect::<Result<Vec<_>, _>>()?;
        Ok(bans)
    }
}

// Empty for none: a key's columns are never NULL.
fn account_of(ban: &Ban) -> &str {
    ban.account.as_ref().map_or("", AccountName::as_str)
}

fn address_of(ban: &Ban) -> String {
    ban.address.map(|address| address.to_string()).unwrap_or_default()
}

fn ban_from_row(row: &Row<'_>) -> rusqlite::Result<Ban> {
    Ok(Ban {
        account: row.get::<_, String>(0)?.parse().ok(),
        address: row.get::<_, String>(1)?.parse().ok(),
        reason: row.get(2)?,
        since: Timestamp(row.get(3)?),
        until: Timestamp(row.get(4)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_are_listed_until_they_end() {
        let dir = tempfile::tempdir().unwrap();
        let bans = Bans::open(&dir.path().join("inkport.db")).unwrap();
        let ban = |account: Option<&str>, address: Option<&str>, since, until| Ban {
            account: account.map(|name| name.parse().unwrap()),
            address: address.map(|address| address.parse().unwrap()),
            reason: "why".to_owned(),
            since: Timestamp(since),
            until: Timestamp(until),
        };
        let (pair, peer) = (ban(Some("desk"), Some("10.0.0.1"), 10, 100), ban(None, Some("2001:db8::1"), 20, 110));
        for ban in [&pair, &peer] {
            bans.put(ban).unwrap();
        }
        assert_eq!(bans.list(Timestamp(50)).unwrap(), [peer.clone(), pair.clone()]);
        assert_eq!(bans.list(Timestamp(100)).unwrap(), std::slice::from_ref(&peer));
        bans.put(&ban(Some("desk"), Some("10.0.0.1"), 60, 160)).unwrap();
        assert_eq!(bans.list(Timestamp(120)).unwrap(), [Ban { until: Timestamp(160), ..pair }], "it goes on");
        bans.lift(&"desk".parse().unwrap(), "10.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(bans.list(Timestamp(50)).unwrap(), [peer]);
        bans.put(&ban(Some("desk"), None, 200, 300)).unwrap();
        assert_eq!(bans.list(Timestamp(0)).unwrap().len(), 1, "what is over went");
        bans.clear().unwrap();
        assert!(bans.list(Timestamp(0)).unwrap().is_empty());
    }
}
