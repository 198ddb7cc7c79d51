//! The keys of `[events]`: how much of the event feed is kept.

use crate::config::format::Number;
use crate::config::key::{Initial, Key, Section, key};
use crate::config::settings::Config;
use crate::config::text_formats::DURATION_ABOVE_ZERO;

pub(in crate::config) const EVENTS: Section<Config> = Section {
    name: "events",
    doc: "The feed of events: pushes, deletes, changes of users, failed log-ins, jobs. The activity page shows it. The \
          oldest events go with the next change or collection. Pulls are kept in memory only.",
    keys: EVENTS_KEYS,
};

const EVENTS_KEYS: &[Key<Config>] = &[
    key!(
        "events.keep",
        Initial::Value("10000"),
        events.keep,
        Number(100, 100_000),
        "The most events that are kept; ten thousand take about 4 MiB of the index."
    ),
    key!(
        "events.age",
        Initial::Value("\"30d\""),
        events.age,
        DURATION_ABOVE_ZERO,
        "The age after which an event goes. Only time in which the machine is on counts."
    ),
];
