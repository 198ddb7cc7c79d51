//! Failed log-ins on their way into the feed.
//!
//! They are counted by the user whose name was given, if there is such a user, and the address; those beyond [`GROUPS`]
//! are counted together. The counts are written with the first change that is committed an hour or more after the last
//! ones, by a collection, and when the store closes. So guessed passwords cause no commit and only a few rows an hour,
//! whatever clients send. A power cut takes the counts that are not written.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::base::Lock;
use crate::oci::{Actor, ActorKind};
use crate::store::index::event::{Cause, Event, EventKind, Origin};

/// The most groups that are counted separately.
const GROUPS: usize = 8;
/// The least time between two writes.
const INTERVAL: Duration = Duration::from_hours(1);

/// A failed log-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedLogin {
    /// The user, if there is one of the name that was given. Other names are not kept: they may be passwords.
    pub user: Option<String>,
    /// The address of the client.
    pub client: IpAddr,
    /// The part of the registry at which it failed.
    pub cause: Cause,
}

/// Failed log-ins of one user from one address; of several if `login` is `None`.
#[derive(Clone, Debug)]
struct Group {
    login: Option<FailedLogin>,
    count: u32,
    /// The wall-clock time of the last one.
    last: u64,
}

#[derive(Default)]
struct State {
    waiting: Vec<Group>,
    /// Those of the running transaction.
    writing: Vec<Group>,
    last_write: Option<Instant>,
    is_flushed: bool,
}

/// The failed log-ins that are not in the feed yet.
#[derive(Default)]
pub(super) struct FailedLogins(Lock<State>);

impl Group {
    fn event(&self) -> Event {
        let anonymous = Actor { name: String::new(), kind: ActorKind::Anonymous };
        let origin = match &self.login {
            Some(login) => Origin::of_client(login.cause.clone(), anonymous, login.client, None),
            None => Origin { cause: Cause::Api, actor: anonymous, client: None, agent: None },
        };
        let subject = self.login.as_ref().and_then(|login| login.user.clone());
        let text = match &self.login {
            Some(FailedLogin { user: Some(_), .. }) => "wrong password",
            Some(FailedLogin { user: None, .. }) => "unknown user",
            None => "from several addresses",
        };
        let event = Event::new(EventKind::Login, self.last, &origin);
        Event { subject, text: Some(text.to_owned()), count: self.count, ..event }
    }
}

impl State {
    fn add(&mut self, login: Option<FailedLogin>, count: u32, time: u64) {
        let is_full = self.waiting.len() >= GROUPS;
        let known = self.waiting.iter().position(|group| group.login == login);
        let group = match known {
            Some(known) => &mut self.waiting[known],
            None if is_full && login.is_some() => return self.add(None, count, time),
            None => {
                self.waiting.push(Group { login, count: 0, last: time });
                let last = self.waiting.len() - 1;
                &mut self.waiting[last]
            }
        };
        group.count = group.count.saturating_add(count);
        group.last = group.last.max(time);
    }
}

impl FailedLogins {
    /// Counts a failed log-in.
    pub(super) fn note(&self, login: FailedLogin, time: u64) {
        self.0.lock().add(Some(login), 1, time);
    }

    /// Returns the events of the next transaction.
    pub(super) fn take_due(&self, now: Instant) -> Vec<Event> {
        let state = &mut *self.0.lock();
        let is_due = state.last_write.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if state.waiting.is_empty() || !(is_due || state.is_flushed) {
            return Vec::new();
        }
        state.writing = std::mem::take(&mut state.waiting);
        state.writing.iter().map(Group::event).collect()
    }

    /// Notes that the events of [`FailedLogins::take_due`] are committed.
    pub(super) fn written(&self, now: Instant) {
        let state = &mut *self.0.lock();
        if !state.writing.is_empty() {
            state.writing.clear();
            state.last_write = Some(now);
            state.is_flushed = false;
        }
    }

    /// Lets the events of a failed transaction wait again.
    pub(super) fn give_back(&self) {
        let state = &mut *self.0.lock();
        for Group { login, count, last } in std::mem::take(&mut state.writing) {
            state.add(login, count, last);
        }
    }

    /// Makes the waiting log-ins due.
    pub(super) fn flush(&self) {
        self.0.lock().is_flushed = true;
    }

    /// Returns the log-ins that are not in the feed yet.
    pub(super) fn waiting(&self) -> Vec<Event> {
        let state = self.0.lock();
        state.writing.iter().chain(&state.waiting).map(Group::event).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: Option<&str>, address: u8) -> FailedLogin {
        let client = IpAddr::from([192, 0, 2, address]);
        FailedLogin { user: user.map(str::to_owned), client, cause: Cause::Api }
    }

    #[test]
    fn log_ins_are_counted_in_few_groups() {
        let logins = FailedLogins::default();
        for _ in 0..1000 {
            logins.note(login(Some("alice"), 1), 5);
        }
        for address in 0..200 {
            logins.note(login(None, address), 6);
        }
        let events = logins.take_due(Instant::now());
        assert_eq!(events.len(), GROUPS + 1);
        assert_eq!((events[0].subject.as_deref(), events[0].count), (Some("alice"), 1000));
        assert_eq!(events[0].client.as_deref(), Some("192.0.2.1"));
        assert_eq!(events.iter().map(|event| event.count).sum::<u32>(), 1200);
        assert_eq!((events[GROUPS].client.as_ref(), events[GROUPS].time), (None, 6));
    }

    #[test]
    fn log_ins_are_written_once_an_hour_or_when_flushed() {
        let (logins, now) = (FailedLogins::default(), Instant::now());
        logins.note(login(None, 1), 5);
        assert_eq!(logins.take_due(now).len(), 1);
        assert_eq!(logins.waiting().len(), 1);
        logins.written(now);
        assert!(logins.waiting().is_empty());
        logins.note(login(None, 1), 5);
        assert!(logins.take_due(now + Duration::from_mins(59)).is_empty());
        logins.flush();
        assert_eq!(logins.take_due(now + Duration::from_mins(59)).len(), 1);
        logins.written(now + Duration::from_mins(59));
        logins.note(login(None, 1), 5);
        assert!(logins.take_due(now + Duration::from_hours(1)).is_empty());
        assert_eq!(logins.take_due(now + Duration::from_hours(2)).len(), 1);
    }

    #[test]
    fn log_ins_of_a_failed_transaction_wait_again() {
        let (logins, now) = (FailedLogins::default(), Instant::now());
        logins.note(login(None, 1), 5);
        logins.take_due(now);
        logins.note(login(None, 1), 6);
        logins.give_back();
        let events = logins.take_due(now);
        assert_eq!((events.len(), events[0].count, events[0].time), (1, 2, 6));
    }
}
