//! Imports of archives that are uploaded on the admin page.

use std::sync::{Arc, Weak};

use super::super::own_import::{Source, import_for, options};
use super::app::App;
use crate::admin::{Importer, Importing, UploadedArchive};
use crate::control::{Actor, Host};
use crate::intake::ImportUser;
use crate::transfer::{ImportError, Media, NameRules, Observer, Policy, Report, SinkError, Wording};

/// Imports into the store of the daemon.
pub(super) struct Uploads(Weak<App>);

impl Uploads {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Uploads(Arc::downgrade(app))
    }
}

impl Importer for Uploads {
    fn import(&self, archive: UploadedArchive) -> Importing<'_> {
        let app = self.0.upgrade();
        Box::pin(async move {
            let stopping = || SinkError::Disconnected("the registry is shutting down".into());
            imported(app.ok_or_else(stopping)?, archive).await
        })
    }
}

async fn imported(app: Arc<App>, archive: UploadedArchive) -> Result<Report, ImportError> {
    let UploadedArchive { name, content, only_name, prefix, moves_tags, permit, has_full_rights, client } =
        archive;
    let mut options = options(&app.config.load());
    options.names = NameRules { prefix, only_name, wording: Wording::Form, ..options.names };
    options.policy = Policy { keep_existing: false, force: moves_tags };
    let registry = app.registry();
    registry.check_may_push().map_err(|error| SinkError::Denied(error.problem().message().to_owned()))?;
    let actor = Actor::OnBehalfOf { identity: permit.identity().clone(), client };
    let access = app.shared.access.clone();
    let user = if has_full_rights {
        ImportUser::with_full_rights(permit, access)
    } else {
        ImportUser::limited(permit, access, app.store.clone(), registry.manifest_descriptors)?
    };
    log::info!(client:% = client; "importing an uploaded archive");
    let source = Source { media: Media::Stream(name, Box::new(content)), options };
    import_for(app, actor, Some(user), source, &mut Silent).await
}

/// Shows no progress: the browser knows how much it has sent.
struct Silent;

impl Observer for Silent {}
