//! How the database answers what is asked all day.

use super::sqlite::InAFile;
use super::*;

/// Every query that runs per upload or per claim, with a million finished jobs in mind.
#[tokio::test]
async fn claims_look_at_unfinished_jobs_only() {
    let house = InAFile::default();
    let queue = house.queue();
    let connection = crate::database::open(&house.path()).unwrap();
    connection
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO jobs SELECT printf('00000000000000000000%06d', i), 'alice', '/same', zeroblob(32), 1, 'ftp', i, i, i, i,
                 'done', NULL, NULL, NULL, NULL, 1, 0, 1, i, NULL, NULL, NULL, NULL, NULL FROM n",
        )
        .unwrap();
    queue.enqueue(job(1, "/same")).await.unwrap();
    assert_eq!(claimed(&queue, T0).await.job.bytes, 1);
    assert_eq!(house.ledger().counts().unwrap(), Counts { running: 1, done: 20_000, ..Counts::default() });
    let plan = |query: &str| {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        // Nothing is bound: a plan does not depend on it.
        let (mut rows, mut steps) = (statement.raw_query(), Vec::new());
        while let Some(row) = rows.next().unwrap() {
            steps.push(row.get::<_, String>(3).unwrap());
        }
        steps.join("; ")
    };
    let list = |state: Option<&str>, account: Option<AccountName>| {
        crate::queue::ledger::list_query(&Filter { state: state.map(str::to_owned), account, limit: 50, ..Filter::default() })
    };
    let lists = [list(None, None), list(Some("dead"), None), list(None, Some(alice())), list(Some("dead"), Some(alice()))];
    for query in &lists {
        // By the primary key, newest first, where nothing is asked for.
        let plan = plan(query);
        assert!(!plan.contains("TEMP B-TREE") && (!plan.contains("SCAN") || query == &lists[0]), "{query}: {plan}");
    }
    // Retention, once a minute for each account.
    use crate::queue::keeping::{ACCOUNTS, Part, old};
    assert!(!plan(ACCOUNTS).contains("SCAN jobs"), "{}", plan(ACCOUNTS));
    for (part, index) in [(Part::Original, "jobs_originals"), (Part::Sidecars, "jobs_sidecars"), (Part::Row, "jobs_forgotten")] {
        let plan = plan(&format!("SELECT id FROM jobs WHERE {}", old(part)));
        assert!(plan.contains(index) && !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
    // In the order of turns, those who wait only, until one has a job due: a claim seldom sees a second.
    assert_eq!(plan(crate::queue::turns::WAITING), "SCAN turns USING INDEX turns_waiting");
    for (query, index) in [
        (crate::queue::turns::NEXT, "jobs_line"),
        (crate::queue::turns::NEXT, "jobs_unfinished"),
        (crate::queue::turns::MORE_INTERRUPTED, "jobs_line"),
        ("SELECT coalesce(max(served), 0) FROM turns", "turns_served"),
        (crate::queue::readings::FIND, "readings_document"),
        ("SELECT id FROM jobs WHERE state = 'running'", "jobs_"),
        ("UPDATE jobs SET state = 'done' WHERE id = 'x'", "PRIMARY KEY"),
        (
            "SELECT job, recipient FROM deliveries WHERE state IN ('deferred', 'bounced') ORDER BY id DESC LIMIT 20",
            "deliveries_troubled",
        ),
        ("SELECT recipient FROM deliveries WHERE job = 'x' ORDER BY id", "deliveries_job"),
        (
            "SELECT id FROM jobs INDEXED BY jobs_running WHERE state = 'running' AND lease_until <= 5 ORDER BY lease_until LIMIT 64",
            "jobs_running",
        ),
        ("SELECT max(id) FROM jobs WHERE account = 'a' AND inode = 1 AND modified_ns = 2 AND file_bytes = 3", "jobs_file"),
        ("SELECT * FROM jobs WHERE account = 'a' AND path = 'b' ORDER BY id DESC LIMIT 1", "jobs_path"),
        (
            "SELECT id FROM deliveries WHERE state IN ('scheduled', 'deferred') AND due <= 5 ORDER BY due, id LIMIT 1",
            "deliveries_open",
        ),
        ("SELECT received_at FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1", "jobs_state"),
    ] {
        // The inner query's rows, as they come, are no table.
        let plan = plan(query).replace("SCAN job;", "");
        // Of deliveries in trouble all may be looked at, in the order of their own index.
        let scans = plan.replace("SCAN deliveries USING INDEX deliveries_troubled", "");
        assert!(plan.contains(index) && !scans.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{query}: {plan}");
    }
}
