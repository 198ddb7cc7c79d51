//! The holder that blocking work is counted for.
//!
//! A request has one holder from its permit to its answer, so it is kept in a task-local and not passed through every
//! verb of the store. Tasks that a request starts inherit it explicitly ([`Holder::current`], then [`Holder::run`]). Work
//! outside of a request belongs to the daemon.

use std::net::IpAddr;
use std::sync::Arc;

tokio::task_local! {
    static HOLDER: Holder;
}

/// Party that waits for its turn in the pools.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The daemon's own jobs, such as collections and the watchdog's probe.
    Daemon,
    /// An anonymous client: its IPv4 address, or the /64 network of its IPv6 address.
    Network(IpAddr),
    /// A user, from whatever address.
    User(Arc<str>),
}

impl Holder {
    /// Returns the holder of the request that this task answers.
    pub(super) fn current() -> Self {
        HOLDER.try_with(Clone::clone).unwrap_or(Holder::Daemon)
    }

    /// Runs a future on behalf of this holder.
    pub async fn run<F: Future>(self, future: F) -> F::Output {
        HOLDER.scope(self, future).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_runs_for_a_holder_is_counted_for_it() {
        let user = Holder::User("ann".into());
        assert_eq!(Holder::current(), Holder::Daemon);
        let within = user.clone().run(async {
            let other = tokio::spawn(async { Holder::current() }).await.unwrap();
            (Holder::current(), other)
        });
        assert_eq!(within.await, (user, Holder::Daemon));
        assert_eq!(Holder::current(), Holder::Daemon);
    }
}
