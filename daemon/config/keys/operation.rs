//! The keys of `[log]`, `[gc]` and `[uploads]`.

use crate::config::access_log::AccessLogPlace;
use crate::config::format::{Choice, Number, Optional, OrOff};
use crate::config::key::{Initial, Key, Section, key};
use crate::config::settings::Config;
use crate::config::text_formats::{DURATION, DURATION_ABOVE_ZERO, LOG_LEVEL, SIZE};

pub(in crate::config) const LOG: Section<Config> = Section { name: "log", doc: "", keys: LOG_KEYS };

const LOG_KEYS: &[Key<Config>] = &[
    key!(
        "log.level",
        Initial::Value("\"info\""),
        log.level,
        LOG_LEVEL,
        "The least important lines that are written: off, error, warn, info, debug or trace."
    ),
    key!(
        "log.lines_per_address",
        Initial::Value("500"),
        log.lines_per_address,
        Number(1, 1_000_000),
        "The number of lines that one address can cause in a burst; the budget refills by a 25th per second. Warnings and \
         errors have a separate budget, a fifth of it. Behind a proxy that is not in http.trusted_proxies all clients \
         have one address.",
        restart: true
    ),
    key!(
        "log.format",
        Initial::Value("\"text\""),
        log.json,
        Choice(&[("text", false), ("json", true)]),
        "The format of lines on stderr: \"text\", or \"json\" for one JSON object per line. The journal always gets \
         fields.",
        restart: true
    ),
    key!(
        "log.access",
        Initial::Value("true"),
        log.access,
        AccessLogPlace,
        "The access log, a line for each request; those for blobs are at level debug unless they fail. true writes it with the \
         other lines, false nowhere, and a path to a file of its own, which a reload (SIGHUP) opens again after logrotate has \
         renamed it.",
        restart: true
    ),
];

pub(in crate::config) const GC: Section<Config> = Section {
    name: "gc",
    doc: "Garbage collection frees content that no manifest references any more, while pushes and pulls continue.",
    keys: GC_KEYS,
};

const GC_KEYS: &[Key<Config>] = &[
    key!(
        "gc.interval",
        Initial::Value("\"1h\""),
        gc.interval,
        OrOff(DURATION_ABOVE_ZERO),
        "The interval of collections; \"off\" leaves them to `holdfast gc`."
    ),
    key!(
        "gc.grace",
        Initial::Value("\"1d\""),
        gc.policy.grace,
        DURATION,
        "The grace period: how long content stays after its last use. A running push may rely on it, and pushes over slow \
         links take long. Only time in which the machine is on counts."
    ),
];

pub(in crate::config) const CHECK: Section<Config> = Section {
    name: "check",
    doc: "A check reads all stored content, compares it with its digests, and changes nothing.",
    keys: CHECK_KEYS,
};

const CHECK_KEYS: &[Key<Config>] = &[
    key!(
        "check.interval",
        Initial::Value("\"off\""),
        check.interval,
        OrOff(DURATION_ABOVE_ZERO),
        "The interval of checks, such as \"30d\"; \"off\" leaves them to `holdfast check`. Faults are in the log, on the \
         admin page and in the metrics."
    ),
    key!(
        "check.rate",
        Initial::Unset("\"10MiB\""),
        check.rate,
        Optional(SIZE),
        "The most bytes that a check by this interval reads per second, so that pulls stay fast. Without it a check reads as \
         fast as the disk allows."
    ),
];

pub(in crate::config) const UPLOADS: Section<Config> =
    Section { name: "uploads", doc: "", keys: UPLOADS_KEYS };

const UPLOADS_KEYS: &[Key<Config>] = &[key!(
    "uploads.expire",
    Initial::Value("\"1d\""),
    gc.policy.uploads_expire,
    DURATION,
    "The time without a new byte after which an unfinished upload is removed."
)];
