//! Uploads by request: the request's key is committed with its job, so that whoever was not answered (the daemon
//! died, the connection did) asks again and finds the job instead of making another.

use super::rows;
use super::writer::{Answer, Store};
use super::{NewJob, Request, Requested};
use crate::account::AccountName;
use crate::job::JobId;
use rusqlite::{Connection, OptionalExtension, params};

pub(super) fn insert(store: &mut Store, job: &NewJob, request: &Request) -> Answer<Result<JobId, Requested>> {
    if let Some((key, _)) = &request.key
        && let Some(earlier) = find(store.connection(), &job.account, key)?
    {
        return Ok(Err(earlier));
    }
    let id = super::sqlite::insert(store, job, request.email.as_deref())?;
    if let Some((key, fingerprint)) = &request.key {
        store
            .connection()
            .prepare_cached("INSERT INTO requests (account, key, fingerprint, job) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![job.account.as_str(), key, fingerprint, id.to_string()])?;
    }
    Ok(Ok(id))
}

pub(super) fn find(connection: &Connection, account: &AccountName, key: &str) -> Answer<Option<Requested>> {
    let mut statement = connection.prepare_cached("SELECT job, fingerprint FROM requests WHERE account = ?1 AND key = ?2")?;
    let found = statement.query_row(params![account.as_str(), key], |row| {
        Ok(Requested { job: rows::parsed(0, &row.get::<_, String>(0)?, rows::job_id)?, fingerprint: row.get(1)? })
    });
    Ok(found.optional()?)
}
