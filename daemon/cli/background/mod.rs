//! The background jobs of a process that has opened the store: a daemon, or a command without one.

mod certificate;
mod check;
mod check_position;
mod collection;
mod faults;
mod held_archives;
mod import_folder;
mod records;

use std::sync::Arc;
use std::time::Duration;

pub(super) use self::certificate::{register as register_certificate, renew as renew_certificate};
pub(super) use self::collection::rules as collection_rules;
pub(super) use self::import_folder::register as register_import;
use self::records::StoredRecords;
use crate::base::Clock;
use crate::config::Config;
use crate::jobs::{JobEnd, Jobs, Schedule, Setup};
use crate::oci::{Actor, ActorKind};
use crate::store::{Cause, Impairment, Note, NoteKind, Origin, Store, StoreError};

/// Returns the configuration in effect.
pub(super) type CurrentConfig = Arc<dyn Fn() -> Arc<Config> + Send + Sync>;

/// The name of the collection.
pub(super) const COLLECTION: &str = "gc";
/// The name of the check.
pub(super) const CHECK: &str = "check";

/// The code of a failure by a damaged index, which a command rebuilds if no daemon runs.
pub(super) const DAMAGED_INDEX: &str = "damaged_index";

/// The longest delay of the first collection: a daemon that idle exits keep short-lived has to collect as well.
const FIRST_COLLECTION: Duration = Duration::from_mins(1);

/// Returns the jobs of a process, with none registered yet. Their records are in the index.
pub(super) async fn open(store: &Store) -> Arc<Jobs> {
    let read_only = store.clone();
    Jobs::open(Setup {
        registry: machine_id(),
        clock: Clock::system(),
        machine_time: Duration::from_secs(store.store_seconds()),
        records: Arc::new(StoredRecords(store.clone())),
        is_read_only: Box::new(move || read_only.impairment() == Some(Impairment::ReadOnly)),
    })
    .await
}

/// Returns the jobs of a command that has opened the store. They run only when they are started.
pub(super) async fn open_in_command(store: &Store, config: &Config) -> Arc<Jobs> {
    let (jobs, config) = (open(store).await, Arc::new(config.clone()));
    let config: CurrentConfig = Arc::new(move || Arc::clone(&config));
    register_store_jobs(&jobs, store, &config, false).await;
    tokio::spawn(Arc::clone(&jobs).run());
    jobs
}

/// Registers the jobs of the store. In a command they run only when they are started.
pub(super) async fn register_store_jobs(jobs: &Jobs, store: &Store, config: &CurrentConfig, is_daemon: bool) {
    let current = config();
    let schedule = |schedule| if is_daemon { schedule } else { Schedule::default() };
    collection::register(jobs, store.clone(), Arc::clone(config), schedule(of_collection(&current))).await;
    check::register(jobs, store.clone(), Arc::clone(config), schedule(of_check(&current))).await;
}

/// Applies the intervals of a configuration.
pub(super) async fn reschedule(jobs: &Jobs, config: &Config) {
    jobs.reschedule(COLLECTION, of_collection(config)).await;
    jobs.reschedule(CHECK, of_check(config)).await;
    jobs.reschedule(certificate::NAME, certificate::schedule(config)).await;
    jobs.reschedule(import_folder::NAME, import_folder::schedule(config)).await;
}

fn of_collection(config: &Config) -> Schedule {
    Schedule { interval: config.gc.interval, first: Some(FIRST_COLLECTION) }
}

fn of_check(config: &Config) -> Schedule {
    Schedule { interval: config.check.interval, first: None }
}

/// Records the outcome of a run in the event feed. Best effort: a store that is read-only takes no event.
async fn record_outcome(store: &Store, user: Option<&str>, job: &str, text: &str) {
    let actor = match user.map(|user| (user, user.strip_prefix("local:"))) {
        None => Actor::system(),
        Some((_, Some(local))) => Actor { name: local.to_owned(), kind: ActorKind::Local },
        Some((name, None)) => Actor { name: name.to_owned(), kind: ActorKind::User },
    };
    let origin = Origin { cause: Cause::System, actor, client: None, agent: None };
    let note = Note { kind: NoteKind::Job, subject: job.to_owned(), text: text.to_owned(), origin };
    if let Err(error) = store.record(vec![note]).await {
        log::debug!("cannot record the outcome of job {job}: {error}");
    }
}

/// Returns the end of a run that an error of the store ended. The report tells programs whether the index is damaged.
fn stopped_by(error: &StoreError) -> JobEnd {
    let code = if matches!(error, StoreError::Index(_)) { DAMAGED_INDEX } else { "failed" };
    let report = serde_json::json!({ "code": code, "error": error.to_string() });
    JobEnd::failed(format!("Stopped: {error}.")).with_report(report)
}

/// Returns an identifier of this machine, for the offsets of schedules: the id of its installation, else its name.
fn machine_id() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    match id.trim() {
        "" => nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        id => id.to_owned(),
    }
}
