//! `inkport jobs …`: what became of the uploads, read beside a running daemon; and an operator's orders, which
//! the daemon carries out, or this process where none runs.

use super::print::{clean, print, table};
use crate::account::AccountName;
use crate::config::Config;
use crate::daemon;
use crate::homes::Homes;
use crate::job::{Job, JobId};
use crate::queue::sqlite::{SqliteLedger, SqliteQueue};
use crate::queue::{DeliveryRecord, Filter, JobLedger, Obeyed, Order, OrderBook, Queue, QueueError};
use crate::spool::Spool;
use crate::units::Timestamp;
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

/// A daemon looks for orders twice a second; one that is writing a lot may take longer.
const PATIENCE: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Which jobs, and how to show them.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List jobs, newest first
    List(ListArgs),
    /// Show one job and its deliveries
    Show(ShowArgs),
    /// Try a rejected or dead job again, with fresh attempts
    Retry(RetryArgs),
    /// End a queued or running job: it is dead then
    Cancel {
        /// The job's id, as `jobs list` tells it
        #[arg(value_parser = parse_id)]
        id: JobId,
    },
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only jobs in this state
    #[arg(long)]
    state: Option<StateName>,
    /// Only this account's jobs
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<AccountName>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// One JSON array
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The job's id, as `jobs list` tells it
    #[arg(value_parser = parse_id)]
    id: JobId,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RetryArgs {
    /// The job's id, as `jobs list` tells it
    #[arg(value_parser = parse_id)]
    id: Option<JobId>,
    /// Every dead job
    #[arg(long)]
    dead: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateName {
    Queued,
    Running,
    Done,
    Rejected,
    Dead,
}

impl StateName {
    fn name(self) -> &'static str {
        match self {
            StateName::Queued => "queued",
            StateName::Running => "running",
            StateName::Done => "done",
            StateName::Rejected => "rejected",
            StateName::Dead => "dead",
        }
    }
}

fn parse_id(text: &str) -> Result<JobId, String> {
    ulid::Ulid::from_string(text)
        .map(JobId)
        .map_err(|_| "a job's id is 26 letters and digits, as `inkport jobs list` tells it".to_owned())
}

/// Runs the command.
pub fn run(command: &JobsCommand, config: &Config) -> anyhow::Result<ExitCode> {
    let database = config.database();
    let order = match command {
        JobsCommand::Retry(RetryArgs { id: Some(id), .. }) => Some(Order::Retry(*id)),
        JobsCommand::Retry(RetryArgs { id: None, .. }) => Some(Order::RetryDead),
        JobsCommand::Cancel { id } => Some(Order::Cancel(*id)),
        JobsCommand::List(_) | JobsCommand::Show(_) => None,
    };
    if let Some(order) = order {
        return obeyed(order, config);
    }
    // A daemon that never ran has no jobs, which is no error.
    let ledger = if database.exists() { Some(SqliteLedger::open(&database)?) } else { None };
    let text = match command {
        JobsCommand::List(args) => {
            let filter = Filter {
                state: args.state.map(|state| state.name().to_owned()),
                account: args.account.clone(),
                before: None,
                limit: args.limit,
            };
            let jobs = ledger.map(|ledger| ledger.list(&filter)).transpose()?.unwrap_or_default();
            if args.json { document(&Value::Array(jobs.iter().map(to_json).collect())) } else { overview(&jobs) }
        }
        JobsCommand::Show(args) => {
            let job = ledger.map(|ledger| ledger.show(args.id)).transpose()?.flatten();
            let job = job.with_context(|| {
                format!("there is no job {} in {}: `inkport jobs list` tells the ids", args.id, database.display())
            })?;
            if args.json { document(&to_json(&job)) } else { details(&job) }
        }
        JobsCommand::Retry(_) | JobsCommand::Cancel { .. } => unreachable!("orders were given above"),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Has an order carried out, and says what came of it.
fn obeyed(order: Order, config: &Config) -> anyhow::Result<ExitCode> {
    let database = config.database();
    if !database.exists() {
        bail!("there are no jobs in {}: the daemon has not run there yet", database.display());
    }
    let book = OrderBook::open(&database)?;
    let number = book.place(order, now())?;
    let until = Instant::now() + PATIENCE;
    let answer = loop {
        if let Some(answer) = book.answer(number)? {
            break answer;
        }
        if Instant::now() > until {
            bail!("nobody has answered within {} s; the daemon finds the order and will carry it out", PATIENCE.as_secs());
        } else if book.nobody_obeys() {
            obey_here(config)?;
        } else {
            std::thread::sleep(ASK_AGAIN);
        }
    };
    match (answer, order) {
        (Obeyed::Refused(why), _) => bail!(why),
        (Obeyed::Done(0), _) => eprintln!("no job is dead"),
        (Obeyed::Done(_), Order::Retry(id)) => eprintln!("job {id} is queued again, with fresh attempts"),
        (Obeyed::Done(_), Order::Cancel(id)) => eprintln!("job {id} is cancelled"),
        (Obeyed::Done(1), Order::RetryDead) => eprintln!("1 dead job is queued again, with fresh attempts"),
        (Obeyed::Done(jobs), Order::RetryDead) => eprintln!("{jobs} dead jobs are queued again, with fresh attempts"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Without a daemon this process holds the queue for a moment, as the daemon would.
fn obey_here(config: &Config) -> anyhow::Result<()> {
    let accounts = daemon::accounts(config)?;
    let (spool, homes) = (Spool::open(&config.spool())?, Homes::open(&config.homes())?);
    let hook = daemon::without_holder(spool, homes, accounts, config.mail.is_some());
    // A daemon that starts just now is first, and obeys.
    let queue = match SqliteQueue::open_with(&config.database(), config.retry_policy(), hook) {
        Err(QueueError::Broken { .. }) => {
            std::thread::sleep(ASK_AGAIN);
            return Ok(());
        }
        opened => opened?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("the runtime cannot be started")?;
    runtime.block_on(queue.obey(now()))?;
    Ok(())
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// A job as every interface tells it.
fn to_json((job, deliveries): &(Job, Vec<DeliveryRecord>)) -> Value {
    let deliveries: Vec<Value> = deliveries
        .iter()
        .map(|delivery| {
            json!({ "to": delivery.to, "state": delivery.state.name(), "attempts": delivery.attempts, "error": delivery.error })
        })
        .collect();
    json!({
        "id": job.id,
        "account": job.account,
        "path": job.path,
        "state": job.state.name(),
        "attempt": job.attempt,
        "received_at": job.received_at,
        "finished_at": job.finished_at,
        "error": job.error,
        "deliveries": deliveries,
    })
}

fn document(value: &Value) -> String {
    format!("{value:#}\n")
}

fn overview(jobs: &[(Job, Vec<DeliveryRecord>)]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".to_owned();
    }
    let rows: Vec<Vec<String>> = jobs
        .iter()
        .map(|(job, _)| {
            vec![
                job.id.to_string(),
                job.state.name().to_owned(),
                job.received_at.to_string(),
                job.account.to_string(),
                job.path.to_string(),
                job.error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table(&["ID", "STATE", "RECEIVED", "ACCOUNT", "PATH", "ERROR"], &rows)
}

fn details((job, deliveries): &(Job, Vec<DeliveryRecord>)) -> String {
    let finished = job.finished_at.map_or_else(|| "not yet".to_owned(), |at| at.to_string());
    let mut text = format!(
        "id        {}\naccount   {}\npath      {}\nbytes     {}\nstate     {}\nattempt   {}\nreceived  {}\nfinished  {finished}\n",
        job.id,
        job.account,
        clean(job.path.as_str()),
        job.bytes,
        job.state.name(),
        job.attempt,
        job.received_at,
    );
    if let Some(error) = &job.error {
        text.push_str(&format!("error     {}\n", clean(error)));
    }
    if !deliveries.is_empty() {
        let rows: Vec<Vec<String>> = deliveries
            .iter()
            .map(|delivery| {
                vec![
                    delivery.to.clone(),
                    delivery.state.name().to_owned(),
                    delivery.attempts.to_string(),
                    delivery.error.clone().unwrap_or_default(),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(&["TO", "STATE", "ATTEMPTS", "ERROR"], &rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::VirtualPath;
    use crate::job::delivery::DeliveryState;
    use crate::job::state::State;
    use crate::job::{Door, SpoolKey};

    #[test]
    fn a_job_in_json_has_the_promised_names_and_no_others() {
        let job = Job {
            id: JobId(ulid::Ulid::from_parts(1, 1)),
            account: "front-desk".parse().unwrap(),
            path: VirtualPath::new("scan.jpg").unwrap(),
            spool: SpoolKey([0; 32]),
            bytes: 1,
            door: Door::Ftp,
            received_at: Timestamp(0),
            state: State::Rejected { code: "damaged".into() },
            attempt: 1,
            finished_at: None,
            error: Some("the JPEG is damaged".into()),
            email: None,
        };
        let delivery = DeliveryRecord { to: "a@b".into(), state: DeliveryState::Bounced, attempts: 2, error: None };
        assert_eq!(
            to_json(&(job, vec![delivery])),
            json!({
                "id": "00000000010000000000000001", "account": "front-desk", "path": "/scan.jpg", "state": "rejected", "attempt": 1,
                "received_at": "1970-01-01T00:00:00.000Z", "finished_at": null, "error": "the JPEG is damaged",
                "deliveries": [{"to": "a@b", "state": "bounced", "attempts": 2, "error": null}]
            })
        );
    }
}
