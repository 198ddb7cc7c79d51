//! Imports by the process that owns the store, from the import folder and from the admin page. They send requests to the handlers
//! of the local API, as `holdfast import` does.

use std::sync::Arc;

use uuid::Uuid;

use super::control_sink::ControlSink;
use super::failure::Failure;
use super::owner::Client;
use crate::config::{Config, ImportCompression, ImportNames};
use crate::control::{Actor, Host, TransferPurpose};
use crate::intake::{ImportUser, UserSink};
use crate::transfer::{
    Compress, ImportError, ImportOptions, Media, NameMode, NameRules, Observer, Report, SinkError,
    import_media,
};

/// The source of an import.
pub(super) struct Source {
    pub(super) media: Media,
    pub(super) options: ImportOptions,
}

/// Returns the options of the configuration.
pub(super) fn options(config: &Config) -> ImportOptions {
    let mode = match config.import.names {
        ImportNames::Short => NameMode::Short,
        ImportNames::Full => NameMode::Full,
    };
    let compress = match config.import.compress {
        ImportCompression::Auto => Compress::Auto,
        ImportCompression::Gzip => Compress::Gzip,
        ImportCompression::None => Compress::None,
    };
    ImportOptions { names: NameRules { mode, ..NameRules::default() }, compress, ..ImportOptions::default() }
}

/// Imports from a source into the store of this process.
pub(super) async fn import(
    host: Arc<dyn Host>,
    actor: Actor,
    source: Source,
    observer: &mut dyn Observer,
) -> Result<Report, ImportError> {
    import_for(host, actor, None, source, observer).await
}

/// As [`import`], with the rights of a user.
pub(super) async fn import_for(
    host: Arc<dyn Host>,
    actor: Actor,
    user: Option<ImportUser>,
    source: Source,
    observer: &mut dyn Observer,
) -> Result<Report, ImportError> {
    let failed = |failure: Failure| ImportError::Sink(SinkError::Disconnected(failure.line));
    let mut client = Client::in_process(Arc::clone(&host), actor).await.map_err(failed)?;
    let sink = ControlSink::open(&mut client, TransferPurpose::Import).await?;
    let is_limited = user.as_ref().is_some_and(ImportUser::is_limited);
    let sink = if is_limited { sink.sending_all() } else { sink };
    // Also if the import is dropped, because its client has gone.
    let _ending = Ending(host, Uuid::try_parse(sink.id()).unwrap_or_default());
    let mut sink = UserSink::new(sink, user);
    let imported = import_media(source.media, &source.options, &mut sink, observer).await;
    // It may be another transfer than the first, if the connection broke.
    sink.into_inner().close().await;
    imported
}

/// Ends a transfer on drop.
struct Ending(Arc<dyn Host>, Uuid);

impl Drop for Ending {
    fn drop(&mut self) {
        // It may have ended with the store.
        let _ = self.0.store().end_transfer(self.1);
    }
}
