//! The holder of blocking work: the party that the fair queues count a request for.
//!
//! A request has one holder from its permit to its response, so that a task-local carries it and no method of the store
//! has a parameter for it. A task that a request spawns gets it explicitly ([`Holder::current`], then [`Holder::run`]).
//! Work outside of a request belongs to the daemon.

use std::net::IpAddr;
use std::sync::Arc;

tokio::task_local! {
    static HOLDER: Holder;
}

/// Party that takes turns with the others in the pools of blocking work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The daemon's own jobs, such as collections and the watchdog's probe.
    Daemon,
    /// An anonymous client: its IPv4 address, or the /64 network of its IPv6 address.
    Network(IpAddr),
    /// A user, from any address.
    User(Arc<str>),
}

impl Holder {
    /// Returns the holder of the request that this task serves; the daemon outside of a request.
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
    async fn a_spawned_task_does_not_inherit_the_holder() {
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
