//! What becomes of an operator's orders.

use super::sqlite::InAFile;
use super::*;

#[tokio::test]
async fn orders_are_carried_out_by_who_holds_the_queue() {
    let house = InAFile::default();
    let (queue, ledger) = (house.queue(), house.ledger());
    let book = OrderBook::open(&house.path()).unwrap();
    let obeyed = async |order| {
        let number = book.place(order, T0).unwrap();
        assert_eq!(book.answer(number).unwrap(), None);
        let cancelled = queue.obey(T0).await.unwrap();
        let answer = book.answer(number).unwrap().expect("it was carried out");
        assert_eq!(book.answer(number).unwrap(), None, "it is read once");
        (answer, cancelled)
    };
    for number in 1..=3 {
        queue.enqueue(job(number, &format!("/{number}"))).await.unwrap();
    }
    let running = claimed(&queue, T0).await;
    let (one, two) = (running.job.id, job(2, "/2").id);
    let done = |cancelled| (Obeyed::Done(1), cancelled);
    assert_eq!(obeyed(Order::Cancel(one)).await, done(vec![one]));
    assert_eq!(obeyed(Order::Cancel(two)).await, done(vec![two]));
    let late = queue.settle(one, running.token, Outcome::Done, vec![], T0).await;
    assert!(matches!(late, Err(QueueError::Stale)), "its worker comes late");
    let (cancelled, mails) = ledger.show(one).unwrap().unwrap();
    assert!(matches!(cancelled.state, State::Dead { .. }));
    assert_eq!((cancelled.error.as_deref(), mails.len()), (Some("an operator cancelled it"), 1));
    let (refused, _) = obeyed(Order::Cancel(one)).await;
    assert!(matches!(&refused, Obeyed::Refused(why) if why.contains("is dead and cannot be cancelled")), "{refused:?}");
    let (refused, _) = obeyed(Order::Retry(job(3, "/3").id)).await;
    assert!(matches!(&refused, Obeyed::Refused(why) if why.contains("is queued and cannot be retried")), "{refused:?}");
    let (refused, _) = obeyed(Order::Retry(JobId(ulid::Ulid::nil()))).await;
    assert!(matches!(&refused, Obeyed::Refused(why) if why.contains("there is no job")), "{refused:?}");
    assert_eq!(obeyed(Order::Retry(one)).await, done(vec![]));
    assert_eq!(obeyed(Order::RetryDead).await, done(vec![]), "the other one");
    assert_eq!(obeyed(Order::RetryDead).await.0, Obeyed::Done(0));
    assert_eq!(ledger.counts().unwrap(), Counts { queued: 3, ..Counts::default() });
    assert_eq!(claimed(&queue, T0).await.job.attempt, 1, "attempts are counted anew");
    assert!(!book.nobody_obeys());
    // One that nobody held when it was given waits for who does.
    let order = book.place(Order::Cancel(two), T0).unwrap();
    drop(queue);
    assert!(book.nobody_obeys());
    house.queue().obey(T0).await.unwrap();
    assert_eq!(book.answer(order).unwrap(), Some(Obeyed::Done(1)));
}

#[tokio::test]
async fn a_cancel_comes_too_late_while_the_sidecars_are_put_in_place() {
    let house = InAFile::default();
    let (queue, ledger) = (house.queue(), house.ledger());
    let book = OrderBook::open(&house.path()).unwrap();
    let cancelled = async |queue: &crate::queue::sqlite::SqliteQueue, id| {
        let number = book.place(Order::Cancel(id), T0).unwrap();
        queue.obey(T0).await.unwrap();
        book.answer(number).unwrap().expect("it was carried out") == Obeyed::Done(1)
    };
    for number in 1..=4 {
        queue.enqueue(job(number, &format!("/{number}"))).await.unwrap();
    }
    let one = claimed(&queue, T0).await;
    assert!(matches!(queue.publishing(one.job.id, one.token + 1, true).await, Err(QueueError::Stale)), "not the holder's");
    queue.publishing(one.job.id, one.token, true).await.unwrap();
    queue.extend(one.job.id, one.token, LEASE, T0).await.unwrap();
    assert!(!cancelled(&queue, one.job.id).await);
    queue.settle(one.job.id, one.token, Outcome::Done, vec![], T0).await.unwrap();
    assert_eq!(ledger.counts().unwrap().done, 1);
    // While it waits for room it can be cancelled; then it must not go on.
    let two = claimed(&queue, T0).await;
    queue.publishing(two.job.id, two.token, true).await.unwrap();
    queue.publishing(two.job.id, two.token, false).await.unwrap();
    assert!(cancelled(&queue, two.job.id).await);
    assert!(matches!(queue.publishing(two.job.id, two.token, true).await, Err(QueueError::Stale)));
    // A run that failed over it, and one that its daemon did not survive.
    let three = claimed(&queue, T0).await;
    queue.publishing(three.job.id, three.token, true).await.unwrap();
    queue.settle(three.job.id, three.token, Outcome::Failed { reason: "x".into() }, vec![], T0).await.unwrap();
    assert!(cancelled(&queue, three.job.id).await);
    let four = claimed(&queue, T0).await;
    queue.publishing(four.job.id, four.token, true).await.unwrap();
    drop(queue);
    assert!(cancelled(&house.queue(), four.job.id).await);
}

/// More than one transaction may queue again.
#[tokio::test]
async fn all_the_dead_are_retried_a_thousand_at_a_time() {
    let house = InAFile::default();
    let queue = house.queue();
    let connection = crate::database::open(&house.path()).unwrap();
    connection
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)
             INSERT INTO jobs (id, account, path, spool, bytes, door, received_at, inode, modified_ns, file_bytes, state, cause,
                 attempt, interruptions, claims, finished_at, error)
             SELECT printf('00000000000000000000%06d', i), 'alice', '/' || i, zeroblob(32), 1, 'ftp', i, i, i, i,
                 'dead', 'x', 2, 0, 2, i, 'x' FROM n",
        )
        .unwrap();
    let book = OrderBook::open(&house.path()).unwrap();
    let order = book.place(Order::RetryDead, T0).unwrap();
    for transactions in 1.. {
        queue.obey(T0).await.unwrap();
        if let Some(answer) = book.answer(order).unwrap() {
            assert_eq!((answer, transactions), (Obeyed::Done(2500), 3));
            break;
        }
    }
    assert_eq!(house.ledger().counts().unwrap(), Counts { queued: 2500, ..Counts::default() });
}
