//! The party that sent a request.

use std::net::IpAddr;

use nix::unistd::{Uid, User};

use crate::access::{Identity, LocalUser};
use crate::oci;
use crate::store::{Cause, Origin};

/// The party at the other end of a connection, as events and the log name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A local user.
    Local(LocalUser),
    /// The daemon, by itself.
    Registry,
    /// The daemon, for a user of the admin page.
    OnBehalfOf {
        /// The user.
        identity: Identity,
        /// The address of the browser.
        client: IpAddr,
    },
}

impl Actor {
    /// Returns the actor of a user id: the name of the account, or the number if it has none. Reads the system's list of
    /// accounts; blocking.
    pub fn of(id: u32) -> Self {
        let account = User::from_uid(Uid::from_raw(id)).ok().flatten();
        Actor::Local(LocalUser::new(account.map_or_else(|| id.to_string(), |account| account.name)))
    }

    /// Returns the local user, or one that stands for the party.
    pub fn user(&self) -> LocalUser {
        match self {
            Actor::Local(user) => user.clone(),
            Actor::Registry => LocalUser::new("registry"),
            Actor::OnBehalfOf { identity, .. } => LocalUser::new(identity.to_string()),
        }
    }

    /// Returns the origin of the changes of a request.
    pub(super) fn origin(&self, cause: Cause) -> Origin {
        match self {
            Actor::Local(user) => {
                let actor = Identity::Local(user.clone()).actor();
                Origin { cause, actor, client: None, agent: None }
            }
            Actor::Registry => Origin { cause, actor: oci::Actor::system(), client: None, agent: None },
            Actor::OnBehalfOf { identity, client } => {
                Origin::of_client(cause, identity.actor(), *client, None)
            }
        }
    }

    /// Returns the name in the log.
    pub(super) fn label(&self) -> String {
        match self {
            Actor::Local(user) => Identity::Local(user.clone()).to_string(),
            Actor::Registry | Actor::OnBehalfOf { .. } => self.user().to_string(),
        }
    }
}
