//! Records changes of the htpasswd file by other programs, such as `holdfast user`, in the event feed: those that the daemon
//! finds while it runs, and those that were made while it slept.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::app::App;
use crate::access::{SeenUsers, UserChange};
use crate::oci::Actor;
use crate::store::{self, Cause, Note, NoteKind, Origin};

/// The part of `status.json` with the users that the last daemon has seen.
#[derive(Deserialize)]
struct SavedUsers {
    users: Option<SeenUsers>,
}

/// Returns the users that the last daemon has seen; before the store is opened. After a crash there are none: the file is older
/// than changes that are recorded already.
pub(super) fn seen_before(data: &Path) -> Option<SeenUsers> {
    if !store::was_closed(data) {
        return None;
    }
    store::saved_status::<SavedUsers>(data)?.status.users
}

/// Records each change that the daemon finds.
pub(super) async fn record(app: Arc<App>) {
    loop {
        // Before the services are loaded, so that no reload is missed.
        let reloaded = app.reloaded.notified();
        let services = app.server.services();
        let changes = tokio::select! {
            changes = services.access.user_changes() => changes,
            // The changes of the new configuration follow on those of this one.
            () = reloaded => continue,
        };
        if let Err(error) = app.store.record(changes.into_iter().map(note).collect()).await {
            log::warn!("changes of users are missing in the activity: {error}");
        }
    }
}

fn note(change: UserChange) -> Note {
    let origin = Origin { cause: Cause::Htpasswd, actor: Actor::system(), client: None, agent: None };
    let (subject, text) = match change {
        UserChange::User(name, kind) => (name, kind.text().to_owned()),
        UserChange::Many(number) => ("htpasswd".to_owned(), format!("{number} users changed")),
    };
    Note { kind: NoteKind::User, subject, text, origin }
}
