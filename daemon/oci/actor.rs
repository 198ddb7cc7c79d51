//! The actor of a change or a request, as all rooms name it.

use serde::{Deserialize, Serialize};

/// The kind of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// A user with a password.
    User,
    /// A robot token.
    Robot,
    /// A client that did not log in.
    Anonymous,
    /// A user of the machine, through the control socket.
    Local,
    /// The registry itself.
    System,
}

/// The actor that caused a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Its name; empty for the registry itself and for the anonymous user.
    pub name: String,
    /// Its kind.
    pub kind: ActorKind,
}

impl Actor {
    /// Returns the registry itself.
    pub fn system() -> Self {
        Actor { name: String::new(), kind: ActorKind::System }
    }
}
