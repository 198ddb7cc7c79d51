//! The request to stop a collection, which it looks at between its steps.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use crate::store::error::StoreError;

/// A request that ends a collection at its next safe point, where everything that it has freed is committed and reported.
pub struct StopRequest<'a> {
    made: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    is_made: bool,
    is_obeyed: bool,
}

impl<'a> StopRequest<'a> {
    /// Makes a request that is made once `made` completes.
    pub fn new(made: impl Future<Output = ()> + Send + 'a) -> Self {
        StopRequest { made: Box::pin(made), is_made: false, is_obeyed: false }
    }

    /// Makes a request that is never made.
    pub(in crate::store) fn never() -> Self {
        StopRequest::new(pending())
    }

    /// Returns true once the request is made.
    pub(super) async fn is_made(&mut self) -> bool {
        if !self.is_made {
            let made = &mut self.made;
            self.is_made = poll_fn(|context| Poll::Ready(made.as_mut().poll(context).is_ready())).await;
        }
        self.is_made
    }

    /// Passes a safe point of the collection: fails if it has to stop.
    pub(super) async fn safe_point(&mut self) -> Result<(), StoreError> {
        self.is_obeyed = self.is_made().await;
        if self.is_obeyed { Err(StoreError::Closing) } else { Ok(()) }
    }

    /// Runs a long step that changes nothing; fails at once if the collection has to stop.
    pub(super) async fn stoppable<T>(
        &mut self,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = self.unless_made(step).await;
        self.is_obeyed = done.is_none();
        done.unwrap_or(Err(StoreError::Closing))
    }

    /// Returns true if the last safe point has failed.
    pub(super) fn is_obeyed(&self) -> bool {
        self.is_obeyed
    }

    /// Runs a step that changes nothing, however long it takes; returns `None` if the request is made first.
    pub(super) async fn unless_made<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        if self.is_made {
            return None;
        }
        tokio::select! {
            biased;
            () = &mut self.made => {
                self.is_made = true;
                None
            }
            done = step => Some(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn request_stays_made() {
        let (sender, receiver) = oneshot::channel::<()>();
        let mut stop = StopRequest::new(async { drop(receiver.await) });
        assert!(!stop.is_made().await);
        assert_eq!(stop.unless_made(async { 1 }).await, Some(1));
        sender.send(()).unwrap();
        assert_eq!(stop.unless_made(pending::<u8>()).await, None);
        assert!(stop.is_made().await && stop.is_made().await);
        assert_eq!(stop.unless_made(async { 1 }).await, None);
    }

    #[tokio::test]
    async fn request_that_is_never_made_stops_nothing() {
        let mut stop = StopRequest::never();
        assert!(!stop.is_made().await);
        assert_eq!(stop.unless_made(async { 1 }).await, Some(1));
    }
}
