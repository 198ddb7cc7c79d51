//! Content on its way from a registry to the writing thread.

use bytes::Bytes;

use crate::transfer::export::Fetch;

/// Reason why content did not arrive whole.
pub(super) enum Broken {
    /// The connection, or the registry, failed; another attempt continues.
    Connection(String),
    /// The registry answers, but does not have the content whole.
    Unreadable(String),
}

/// Forwards a body that begins at a position to the writing thread, from `at` on, and counts its bytes.
pub(super) async fn forward(
    fetch: &Fetch,
    start: u64,
    at: &mut u64,
    mut next: impl AsyncFnMut() -> Result<Option<Bytes>, Broken>,
) -> Result<(), Broken> {
    let mut skipped = at.saturating_sub(start);
    while let Some(mut bytes) = next().await? {
        let skip = usize::try_from(skipped).unwrap_or(usize::MAX).min(bytes.len());
        skipped -= skip as u64;
        let bytes = bytes.split_off(skip);
        if bytes.is_empty() {
            continue;
        }
        let length = bytes.len() as u64;
        if fetch.chunks.send(Ok(bytes)).await.is_err() {
            // The writing thread has failed. The connection ends with the answer.
            break;
        }
        *at += length;
    }
    Ok(())
}
