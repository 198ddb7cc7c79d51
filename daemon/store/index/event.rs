//! Events: what a change did to the names of the registry, written in the transaction of the change, and what happened
//! to its users, jobs and state.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::oci::{Actor, Digest, RepositoryName, Tag};

/// The longest `User-Agent` in an event, in bytes.
const MAX_AGENT: usize = 128;

/// The kind of an event. The order is part of the format of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A manifest was put that the repository did not have.
    Push,
    /// A tag was set, or moved from the manifest `before`.
    Tag,
    /// A tag was removed.
    Untag,
    /// A manifest or a blob was removed from a repository.
    Delete,
    /// A mirror evicted content.
    Evict,
    /// A retention rule or a collection removed a tag or a manifest.
    Expire,
    /// A repair set a corrupt blob aside, or restored the link of a blob.
    Repair,
    /// A user was added or removed, or got another password.
    User,
    /// Log-ins failed.
    Login,
    /// A background job ended.
    Job,
    /// The state of the registry changed: it became read-only, or its index was rebuilt.
    State,
    /// A client pulled a manifest. Kept in memory only.
    Pull,
}

impl EventKind {
    /// All kinds, in the order of the enum.
    pub const ALL: [EventKind; 12] = [
        EventKind::Push,
        EventKind::Tag,
        EventKind::Untag,
        EventKind::Delete,
        EventKind::Evict,
        EventKind::Expire,
        EventKind::Repair,
        EventKind::User,
        EventKind::Login,
        EventKind::Job,
        EventKind::State,
        EventKind::Pull,
    ];

    /// Returns the name of the kind, as the event API and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Push => "push",
            EventKind::Tag => "tag",
            EventKind::Untag => "untag",
            EventKind::Delete => "delete",
            EventKind::Evict => "evict",
            EventKind::Expire => "expire",
            EventKind::Repair => "repair",
            EventKind::User => "user",
            EventKind::Login => "login",
            EventKind::Job => "job",
            EventKind::State => "state",
            EventKind::Pull => "pull",
        }
    }
}

/// The part of the registry that caused a change. The order is part of the format of the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A request to `/v2/`.
    Api,
    /// The admin page.
    Admin,
    /// An import.
    Import,
    /// A rule of synchronization, by its name.
    Sync(String),
    /// A mirror, by its name.
    Mirror(String),
    /// A retention rule.
    Retention,
    /// A collection.
    Gc,
    /// The registry itself, such as a repair or a rebuild.
    System,
    /// The control socket: the command line.
    Control,
    /// An edit of the htpasswd file outside of the admin page.
    Htpasswd,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Api => f.write_str("api"),
            Cause::Admin => f.write_str("admin"),
            Cause::Import => f.write_str("import"),
            Cause::Sync(rule) => write!(f, "sync:{rule}"),
            Cause::Mirror(name) => write!(f, "mirror:{name}"),
            Cause::Retention => f.write_str("retention"),
            Cause::Gc => f.write_str("gc"),
            Cause::System => f.write_str("system"),
            Cause::Control => f.write_str("control"),
            Cause::Htpasswd => f.write_str("htpasswd"),
        }
    }
}

/// The origin of a change: it travels with the change into its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The part of the registry.
    pub cause: Cause,
    /// The actor.
    pub actor: Actor,
    /// The address of the client, if a client caused the change.
    pub client: Option<String>,
    /// The program of the client, as it names itself.
    pub agent: Option<String>,
}

impl Origin {
    /// Returns the origin of changes that the registry makes by itself.
    pub fn system() -> Self {
        Origin { cause: Cause::System, actor: Actor::system(), client: None, agent: None }
    }

    /// Returns the origin of a change that a client requested. `agent` is its `User-Agent`, of which 128 bytes without
    /// control characters are kept.
    pub fn of_client(cause: Cause, actor: Actor, client: impl fmt::Display, agent: Option<&[u8]>) -> Self {
        let agent = agent.map(|agent| cleaned(&String::from_utf8_lossy(agent), MAX_AGENT));
        let agent = agent.filter(|agent| !agent.is_empty());
        Origin { cause, actor, client: Some(client.to_string()), agent }
    }
}

/// Returns a text of a client without control characters, cut to `max` bytes.
pub(in crate::store) fn cleaned(text: &str, max: usize) -> String {
    let mut cleaned: String = text.chars().filter(|c| !c.is_control()).take(max).collect();
    cleaned.truncate(cleaned.floor_char_boundary(max));
    cleaned
}

/// An event. Its number is given by the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The wall-clock time in seconds since 1970.
    pub time: u64,
    /// The kind.
    pub kind: EventKind,
    /// The repository; `None` if the event is about none.
    pub repository: Option<RepositoryName>,
    /// The tag, if the event is about one.
    pub tag: Option<Tag>,
    /// The manifest or blob, or the manifest that the tag names or named.
    pub digest: Option<Digest>,
    /// The manifest that the tag named before.
    pub before: Option<Digest>,
    /// The media type of the manifest; `None` for a blob.
    pub media_type: Option<String>,
    /// The length of the manifest or blob in bytes.
    pub size: u64,
    /// The user, job or state that the event is about.
    pub subject: Option<String>,
    /// The change of the subject.
    pub text: Option<String>,
    /// The number of occurrences that the event stands for.
    pub count: u32,
    /// The part of the registry that caused it.
    pub cause: Cause,
    /// The actor.
    pub actor: Actor,
    /// The address of the client.
    pub client: Option<String>,
    /// The program of the client.
    pub agent: Option<String>,
}

impl Event {
    /// Returns an event about no content, of one occurrence.
    pub fn new(kind: EventKind, time: u64, origin: &Origin) -> Self {
        Event {
            time,
            kind,
            repository: None,
            tag: None,
            digest: None,
            before: None,
            media_type: None,
            size: 0,
            subject: None,
            text: None,
            count: 1,
            cause: origin.cause.clone(),
            actor: origin.actor.clone(),
            client: origin.client.clone(),
            agent: origin.agent.clone(),
        }
    }
}

/// The kind of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// A user was added or removed, or got another password.
    User,
    /// A background job ended.
    Job,
    /// The state of the registry changed.
    State,
}

/// An event that no change of the index causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The kind.
    pub kind: NoteKind,
    /// The user, job or state.
    pub subject: String,
    /// The event in a few words.
    pub text: String,
    /// The origin.
    pub origin: Origin,
}

impl Note {
    /// Returns the event of the note.
    pub(in crate::store) fn event(&self, time: u64) -> Event {
        let kind = match self.kind {
            NoteKind::User => EventKind::User,
            NoteKind::Job => EventKind::Job,
            NoteKind::State => EventKind::State,
        };
        let (subject, text) = (Some(self.subject.clone()), Some(self.text.clone()));
        Event { subject, text, ..Event::new(kind, time, &self.origin) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_listed_in_their_order() {
        for (number, kind) in EventKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn agents_are_cut_and_cleaned() {
        let agent =
            |text: &[u8]| Origin::of_client(Cause::Api, Actor::system(), "192.0.2.1", Some(text)).agent;
        assert_eq!(agent(b"docker/20.10\x1b[31m\r\n").as_deref(), Some("docker/20.10[31m"));
        assert_eq!(agent(b"\x01\x02"), None);
        let long = agent("ä".repeat(200).as_bytes()).unwrap();
        assert_eq!(long, "ä".repeat(64));
        assert_eq!(agent(b"\xff\xfe").as_deref(), Some("\u{fffd}\u{fffd}"));
    }
}
