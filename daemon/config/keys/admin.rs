//! The keys of `[admin]` and `[metrics]`.

use crate::config::format::{Choice, Flag, List, Optional};
use crate::config::key::{Initial, Key, Section, key};
use crate::config::settings::Config;
use crate::config::text_formats::{ABSOLUTE_FILE, DURATION_ABOVE_ZERO, TITLE, USER};
use crate::server::MetricsAccess;

pub(in crate::config) const ADMIN: Section<Config> =
    Section { name: "admin", doc: "The admin page, at / of the same port.", keys: ADMIN_KEYS };

const ADMIN_KEYS: &[Key<Config>] = &[
    key!("admin.enabled", Initial::Value("true"), admin.enabled, Flag, "Serves the admin page."),
    key!(
        "admin.title",
        Initial::Value("\"Holdfast\""),
        admin.title,
        TITLE,
        "The title of the page. The variable REGISTRY_TITLE sets it, too."
    ),
    key!(
        "admin.users",
        Initial::Value("[]"),
        admin.users,
        List(USER, 0),
        "The users that may open the page; if empty, every user may, and clients without a log-in see the pages about what \
         they may pull. [\"*\"] means every user, and no client without a log-in."
    ),
    key!(
        "admin.delete",
        Initial::Value("true"),
        admin.delete,
        Flag,
        "Offers deletes on the page, if storage.delete allows them. The variable DELETE_IMAGES sets it, too."
    ),
    key!(
        "admin.session",
        Initial::Value("\"12h\""),
        admin.session,
        DURATION_ABOVE_ZERO,
        "The time after its last use for which a log-in lasts."
    ),
];

pub(in crate::config) const METRICS: Section<Config> = Section {
    name: "metrics",
    doc: "Metrics for Prometheus, at /metrics of the same port, without names of repositories and users; see \
          docs/how-to/monitoring.md.",
    keys: METRICS_KEYS,
};

const METRICS_KEYS: &[Key<Config>] = &[
    key!("metrics.enabled", Initial::Value("true"), metrics.enabled, Flag, "Serves the metrics."),
    key!(
        "metrics.access",
        Initial::Value("\"local\""),
        metrics.access,
        Choice(&[
            ("local", MetricsAccess::Local),
            ("users", MetricsAccess::Users),
            ("open", MetricsAccess::Open)
        ]),
        "The clients that may read the metrics: \"local\", clients on this machine that do not come through a proxy; \
         \"users\", users with full rights, with their password; \"open\", all clients. `holdfast metrics` prints them \
         as well."
    ),
    key!(
        "metrics.file",
        Initial::Unset("\"/var/lib/prometheus/node-exporter/holdfast.prom\""),
        metrics.file,
        Optional(ABSOLUTE_FILE),
        "A file that the metrics are written to each minute and when the daemon exits: for a socket-activated daemon that \
         does not always run, and for the textfile collector of node_exporter. The user that the daemon runs as must be \
         able to write to its directory."
    ),
];
