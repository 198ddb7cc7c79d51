//! The states of an upload and their legal transitions, as a pure function: [`Phase::after`].
//!
//! The diagram is in `upload.rs`. A session moves from one state to the next only under its lock, and only by this
//! function, which is the one list of transitions.

/// The state of an upload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The request that came last may write.
    #[default]
    Open,
    /// The content is hashed, synced and handed to the index writer.
    Sealed,
    /// The file has lost its name in `uploads/`; final.
    Ended,
}

/// An event in the life of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A request opens the file: the one that created it, or one that takes the upload over.
    Open,
    /// Bytes are appended, or a hash catches up.
    Write,
    /// The digest matches, and the content is on the medium.
    Seal,
    /// The file became a blob.
    Commit,
    /// The file could not become a blob; the client may try again.
    Reopen,
    /// The file of refused content is removed.
    Discard,
    /// The file is removed: by DELETE, by expiry, because its content has another digest, or by another process.
    Remove,
}

impl Phase {
    /// Returns the state after an event; `None` if the event is not legal in this state. Requests get 404 then.
    pub(super) const fn after(self, event: Event) -> Option<Phase> {
        match (self, event) {
            (Phase::Open, Event::Open | Event::Write) | (Phase::Sealed, Event::Reopen) => Some(Phase::Open),
            (Phase::Open, Event::Seal) => Some(Phase::Sealed),
            (Phase::Open, Event::Remove) | (Phase::Sealed, Event::Commit | Event::Discard) => {
                Some(Phase::Ended)
            }
            (Phase::Open, Event::Commit | Event::Reopen | Event::Discard)
            | (Phase::Sealed, Event::Open | Event::Write | Event::Seal | Event::Remove)
            | (
                Phase::Ended,
                Event::Open
                | Event::Write
                | Event::Seal
                | Event::Commit
                | Event::Reopen
                | Event::Discard
                | Event::Remove,
            ) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 7] =
        [Event::Open, Event::Write, Event::Seal, Event::Commit, Event::Reopen, Event::Discard, Event::Remove];

    #[test]
    fn nothing_follows_the_end() {
        for event in EVENTS {
            assert_eq!(Phase::Ended.after(event), None);
        }
    }

    #[test]
    fn requests_and_expiry_leave_a_sealed_upload_alone() {
        let legal = EVENTS.into_iter().filter(|event| Phase::Sealed.after(*event).is_some());
        assert_eq!(legal.collect::<Vec<_>>(), [Event::Commit, Event::Reopen, Event::Discard]);
    }

    #[test]
    fn only_a_sealed_upload_becomes_a_blob() {
        for phase in [Phase::Open, Phase::Ended] {
            assert_eq!(phase.after(Event::Commit), None);
        }
        assert_eq!(Phase::Open.after(Event::Seal), Some(Phase::Sealed));
        assert_eq!(Phase::Sealed.after(Event::Commit), Some(Phase::Ended));
        assert_eq!(Phase::Sealed.after(Event::Reopen), Some(Phase::Open));
    }
}
