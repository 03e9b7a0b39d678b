//! The outbox: every delivery that is due is handed to the relay, a few at a time, and its outcome
//! written back.
//!
//! Owns: the loop, and mail (the message in `message`, the relay in `mail`). Rows come into the
//! outbox with the end of their job, in one transaction; nothing here creates or drops one, and
//! whatever happens here never touches the document. When a delivery is tried again, and when it is
//! given up, [`crate::job::delivery::apply`] decides. Started by `daemon`, and only with a `[mail]` section:
//! without one, rows wait.

use crate::crashpoint;
use crate::meters;
use crate::queue::{Delivery, Queue, QueueError};
use crate::spool::Spool;
use crate::units::Timestamp;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;

mod mail;
mod message;
mod settings;

pub use mail::Mailer;
pub use message::{ATTACH_AT_MOST, Attachment, Attachments};
pub use settings::{Relay, Sender, Settings, SettingsError};

use crate::job::delivery::Attempt;

/// Messages on their way to the relay at one time: most relays allow more from one client, and one
/// that is slow must not hold up the rest.
const AT_ONCE: usize = 4;

/// How often the outbox is looked at though nothing was announced: for deferred deliveries, which
/// become due by time alone.
const POLL: Duration = Duration::from_secs(5);

/// What became of a message must be written down, or it is sent twice: tried for about five minutes.
const SETTLE_TRIES: u32 = 12;
const SETTLE_LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The outbox loop.
pub struct Outbox<Q> {
    queue: Q,
    spool: Spool,
    mailer: Arc<Mailer>,
}

impl<Q: Queue> Outbox<Q> {
    #[must_use]
    pub fn new(queue: Q, spool: Spool, mailer: Mailer) -> Self {
        Outbox { queue, spool, mailer: Arc::new(mailer) }
    }

    /// Sends what is due until `shutdown` resolves; then waits for the messages under way, which the
    /// relay may have taken already. The caller bounds that wait by dropping the future.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut under_way = JoinSet::new();
        loop {
            // Subscribed before the outbox is read: what is added in between is not missed.
            let changed = self.queue.changed();
            match self.fill(&mut under_way).await {
                Ok(()) => {}
                Err(QueueError::Closed) => break,
                Err(error) => tracing::warn!(error = %error, "the outbox cannot be read, trying again"),
            }
            tokio::select! {
                () = &mut shutdown => break,
                () = changed => {}
                Some(ended) = under_way.join_next() => report(ended),
                () = tokio::time::sleep(POLL) => {}
            }
        }
        while let Some(ended) = under_way.join_next().await {
            report(ended);
        }
    }

    /// Starts due deliveries while there is room.
    async fn fill(&self, under_way: &mut JoinSet<()>) -> Result<(), QueueError> {
        while under_way.len() < AT_ONCE {
            let Some(delivery) = self.queue.claim_delivery(now()).await? else { return Ok(()) };
            under_way.spawn(deliver(self.queue.clone(), self.spool.clone(), Arc::clone(&self.mailer), delivery));
        }
        Ok(())
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = %error, "a delivery ended in a panic; it is tried again when its lease has run out");
    }
}

async fn deliver<Q: Queue>(queue: Q, spool: Spool, mailer: Arc<Mailer>, delivery: Delivery) {
    let (id, job) = (delivery.id, delivery.job.id);
    crashpoint::here("delivery-claimed");
    let begun = std::time::Instant::now();
    let attempt = attempt(&spool, &mailer, delivery).await;
    meters::stage(meters::Stage::Deliver, begun.elapsed());
    meters::delivery(match &attempt {
        Attempt::Sent => "sent",
        Attempt::Later(_) => "deferred",
        Attempt::Never(_) => "bounced",
    });
    crashpoint::here("mail-sent");
    match &attempt {
        Attempt::Sent => tracing::info!(delivery.id = id, job.id = %job, "mail sent"),
        Attempt::Later(reason) => {
            tracing::warn!(delivery.id = id, job.id = %job, reason = %reason, "mail not taken yet, tried again later");
        }
        Attempt::Never(reason) => tracing::warn!(delivery.id = id, job.id = %job, reason = %reason, "mail refused for good"),
    }
    let mut wait = Duration::from_millis(500);
    for _ in 0..SETTLE_TRIES {
        match queue.settle_delivery(id, attempt.clone(), now()).await {
            Ok(_) => {
                crashpoint::here("delivery-settled");
                return;
            }
            Err(QueueError::NoSpace | QueueError::Unavailable(_)) => tokio::time::sleep(wait).await,
            Err(error) => {
                tracing::error!(delivery.id = id, job.id = %job, error = %error, "what became of a mail cannot be written down");
                return;
            }
        }
        wait = (wait * 2).min(SETTLE_LONGEST_WAIT);
    }
    tracing::error!(delivery.id = id, job.id = %job, "what became of a mail could not be written down: it may be sent again later");
}

/// One try to send one message.
async fn attempt(spool: &Spool, mailer: &Mailer, delivery: Delivery) -> Attempt {
    let spool = spool.clone();
    let read = tokio::task::spawn_blocking(move || {
        let attachments = Attachments::read(&spool, &delivery.attachments);
        (delivery, attachments)
    });
    match read.await {
        Ok((delivery, Ok(attachments))) => mailer.send(&delivery, attachments, SystemTime::now()).await,
        Ok((_, Err(error))) => Attempt::Later(format!("the sidecars cannot be read: {error}")),
        Err(_) => Attempt::Later("reading the sidecars ended in a panic".to_owned()),
    }
}

/// Whether mail can be addressed to this.
#[must_use]
pub fn is_address(text: &str) -> bool {
    text.parse::<lettre::Address>().is_ok()
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}
