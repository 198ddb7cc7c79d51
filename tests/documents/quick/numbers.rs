//! The numbers of the pages about limits, each with the definition in the source that it comes from.

use std::fs;

use crate::documents::source;

const LIMITS: &str = "docs/reference/limits.md";
const THREATS: &str = "docs/explanation/threat-model.md";

/// The page, its words, the file of the definition, and the definition.
const NUMBERS: [(&str, &str, &str, &str); 72] = [
    // Connections.
    (LIMITS, "an eighth of the slots is reserved", "server/admission.rs", "let reserve = slots / 8;"),
    (
        LIMITS,
        "successful log-in within the last hour",
        "server/admission.rs",
        "TRUST: Duration = Duration::from_hours(1)",
    ),
    (LIMITS, "Half of this reserve", "server/admission.rs", "slots - reserve / 2"),
    (LIMITS, "with at most four connections", "server/admission.rs", "FEW: usize = 4;"),
    (
        LIMITS,
        "which have five seconds for their first request",
        "server/admission.rs",
        "FRESH: Duration = Duration::from_secs(5)",
    ),
    (
        LIMITS,
        "waits for one for five seconds",
        "server/accept.rs",
        "SLOT_WAIT: Duration = Duration::from_secs(5)",
    ),
    (
        LIMITS,
        "While three quarters of the slots are taken",
        "server/admission.rs",
        "self.settings.slots - self.settings.slots / 4",
    ),
    (
        LIMITS,
        "Three quarters of the slots may receive uploads",
        "service/descriptors.rs",
        "uploads: (connections * 3 / 4)",
    ),
    (LIMITS, "While half of these are taken", "registry/upload_slots.rs", "self.slots.div_ceil(2)"),
    (LIMITS, "has a quarter of them gets no more", "registry/upload_slots.rs", "SHARE: usize = 4;"),
    (
        LIMITS,
        "retries every 100 ms",
        "server/accept.rs",
        "ACCEPT_BACK_OFF: Duration = Duration::from_millis(100)",
    ),
    // The disk.
    (LIMITS, "160 waiting lists of the API", "store/work.rs", "WAITING_LISTS: usize = 160;"),
    (LIMITS, "4096 waiting writes", "store/work.rs", "WAITING_WRITES: usize = 4096;"),
    (LIMITS, "A manifest above 64 KiB", "registry/manifests.rs", "LARGE: u64 = 64 << 10;"),
    (
        LIMITS,
        "64 at once, 16 of one holder",
        "store/spool.rs",
        "SPOOLS: (usize, usize, usize) = (64, 16, 8);",
    ),
    (LIMITS, "last eight free places", "store/spool.rs", "SPOOLS: (usize, usize, usize) = (64, 16, 8);"),
    (
        LIMITS,
        "Two manifests are in memory at once, one of each holder",
        "store/spool.rs",
        "LARGE: (usize, usize, usize) = (2, 1, 0);",
    ),
    (
        LIMITS,
        "gets no place within five seconds",
        "store/spool.rs",
        "SPOOL_TIMEOUT: Duration = Duration::from_secs(5)",
    ),
    (
        LIMITS,
        "at most 8 MiB each and 16 MiB together",
        "transfer/source/limits.rs",
        "DAEMON: Bounds = Bounds { document: 8 << 20,",
    ),
    (LIMITS, "at most 8 MiB each and 16 MiB together", "transfer/source/limits.rs", "2 * self.document"),
    (
        LIMITS,
        "10,000 images and 20,000 names",
        "transfer/source/limits.rs",
        "document: 8 << 20, images: 10_000, references: 50_000",
    ),
    (LIMITS, "10,000 images and 20,000 names", "transfer/source/limits.rs", "2 * self.images"),
    (
        LIMITS,
        "may list 50,000 layers and manifests",
        "transfer/source/limits.rs",
        "document: 8 << 20, images: 10_000, references: 50_000",
    ),
    (
        LIMITS,
        "ends at 20,000 names, manifests and layers",
        "admin/download.rs",
        "MAX_ENTRIES: usize = 20_000;",
    ),
    (
        LIMITS,
        "above 16 KiB needs one of 16 places",
        "admin/state.rs",
        "places: 16, places_per_holder: 4, reserved: 2",
    ),
    (
        LIMITS,
        "at most 4, and the last two free places",
        "admin/state.rs",
        "places: 16, places_per_holder: 4, reserved: 2",
    ),
    // The control socket.
    (LIMITS, "has 32 connections of its own", "control/service.rs", "CONNECTIONS: usize = 32;"),
    (
        LIMITS,
        "A JSON body has at most 1 MiB there (`DELETE names`)",
        "control/deletes.rs",
        "MAX_BODY: usize = 1 << 20;",
    ),
    (LIMITS, "the options of a job at most 64 KiB", "control/jobs.rs", "MAX_OPTIONS: usize = 64 << 10;"),
    (LIMITS, "the images of an import 32 MiB", "control/request.rs", "MAX_JSON: usize = 32 << 20;"),
    (LIMITS, "32 transfers can be open", "store/transfer_leases.rs", "MAX_TRANSFERS: usize = 32;"),
    (
        LIMITS,
        "together hold 1,000,000 digests",
        "store/transfer_leases.rs",
        "MAX_DIGESTS: usize = 1_000_000;",
    ),
    // Log-ins and the end.
    (LIMITS, "Two passwords are verified at once", "access/verify_queue.rs", "AT_ONCE: usize = 2;"),
    (
        LIMITS,
        "requests whose head has arrived have 30 seconds",
        "server/accept.rs",
        "DRAIN_TIMEOUT: Duration = Duration::from_secs(30)",
    ),
    (
        LIMITS,
        "has one second from its accept",
        "server/connection.rs",
        "PARTIAL_HEAD_GRACE: Duration = Duration::from_secs(1)",
    ),
    (
        LIMITS,
        "or five seconds if it has sent nothing",
        "server/connection.rs",
        "FIRST_REQUEST_GRACE: Duration = Duration::from_secs(5)",
    ),
    (
        LIMITS,
        "within 15 seconds, the daemon exits",
        "cli/serve/mod.rs",
        "CLOSE_TIMEOUT: Duration = Duration::from_secs(15)",
    ),
    // The threat model.
    (THREATS, "64 scopes, 4 KiB per token", "access/scope.rs", "MAX_SCOPES: usize = 64;"),
    (THREATS, "64 scopes, 4 KiB per token", "access/token.rs", "MAX_LENGTH: usize = 4096;"),
    (
        THREATS,
        "at most 32 names that are missing in the certificate",
        "tls/names.rs",
        "MAX_LOGGED: usize = 32;",
    ),
    (THREATS, "its 4 MiB", "oci/manifest.rs", "MAX_MANIFEST: usize = 4 << 20;"),
    (THREATS, "among 100,000 tags", "config/keys/limits.rs", "Initial::Value(\"100000\")"),
    (THREATS, "one upload at a time", "admin/state.rs", "places: 4, places_per_holder: 1,"),
    (THREATS, "64 KiB of headers", "egress/client.rs", "HEADERS: usize = 64 << 10;"),
    (THREATS, "4 MiB for a manifest", "oci/manifest.rs", "MAX_MANIFEST: usize = 4 << 20;"),
    (THREATS, "8 MiB for a page of a list", "client/lists.rs", "MAX_PAGE: usize = 8 << 20;"),
    (THREATS, "5 redirects", "egress/client.rs", "REDIRECTS: usize = 5;"),
    (THREATS, "10 s to connect", "egress/connector.rs", "CONNECT: Duration = Duration::from_secs(10)"),
    (THREATS, "30 s to the first byte", "egress/client.rs", "FIRST_BYTE: Duration = Duration::from_secs(30)"),
    (THREATS, "60 s without progress", "egress/response.rs", "STALL: Duration = Duration::from_mins(1)"),
    (THREATS, "60 s without progress", "client/upload.rs", "STALL: Duration = Duration::from_mins(1)"),
    (THREATS, "| 512, a quarter of them |", "config/keys/limits.rs", "Initial::Value(\"512\")"),
    (THREATS, "| 512, a quarter of them |", "server/services.rs", "(slots / 4).max(1)"),
    (THREATS, "| 64 KiB, 30 s |", "config/keys/limits.rs", "Initial::Value(\"\\\"64KiB\\\"\")"),
    (THREATS, "| 64 KiB, 30 s |", "config/keys/limits.rs", "Initial::Value(\"\\\"30s\\\"\")"),
    (THREATS, "| 1 min, 256 B/s |", "config/keys/limits.rs", "Initial::Value(\"\\\"1m\\\"\")"),
    (THREATS, "| 1 min, 256 B/s |", "config/keys/limits.rs", "Initial::Value(\"\\\"256B\\\"\")"),
    (THREATS, "4 MiB for a manifest | 10,000 |", "config/keys/limits.rs", "Initial::Value(\"10000\")"),
    (THREATS, "| 100,000, 1,000,000 |", "config/keys/limits.rs", "Initial::Value(\"1000000\")"),
    (THREATS, "| 1,000 in memory, 10,000 on disk |", "config/keys/limits.rs", "Initial::Value(\"1000\")"),
    (THREATS, "| `limits.list_max` | 1,000 |", "config/keys/limits.rs", "Initial::Value(\"1000\")"),
    (THREATS, "| 16, 2, 2, 24 |", "store/work.rs", "POOLED_THREADS: usize = 44;"),
    (THREATS, "| 16, 2, 2, 24 |", "store/work.rs", "READERS: usize = 16;"),
    (THREATS, "each has at most 160 waiting lists", "store/work.rs", "WAITING_LISTS: usize = 160;"),
    (
        THREATS,
        "| 64, 16 per client, the last 8 for clients that have none; 2, 1 per client |",
        "store/spool.rs",
        "(64, 16, 8);",
    ),
    (
        THREATS,
        "| 16, 4 per client, the last 2 for clients that have none |",
        "admin/state.rs",
        "places: 16, places_per_holder: 4, reserved: 2",
    ),
    (
        THREATS,
        "| 40, then 1/s; 20, then 1 in 3 s |",
        "access/throttle.rs",
        "PER_ADDRESS: (u32, Duration) = (40, Duration::from_secs(1))",
    ),
    (
        THREATS,
        "28,800 passwords a day",
        "access/throttle.rs",
        "PER_NAME: (u32, Duration) = (20, Duration::from_secs(3))",
    ),
    (THREATS, "| `auth.token` | 5 min |", "config/keys/access.rs", "Initial::Value(\"\\\"5m\\\"\")"),
    (
        THREATS,
        "| 500, then 20/s; warnings 100, then 5/s |",
        "service/client_limit.rs",
        "Budget { burst: lines, rate: lines / 25.0 }",
    ),
    (
        THREATS,
        "| 500, then 20/s; warnings 100, then 5/s |",
        "service/client_limit.rs",
        "burst: (lines / 5.0).max(1.0), rate: lines / 100.0",
    ),
    (THREATS, "| 5 %, at most 256 MiB |", "store/capacity.rs", "RESERVE: (u64, u64) = (20, 256 << 20);"),
];

/// A change of a definition has to change the page, and then this list.
#[test]
fn limits_in_the_documents_are_those_of_the_source() {
    let mut faults = Vec::new();
    for (page, words, file, definition) in NUMBERS {
        let text = fs::read_to_string(source().join(page)).unwrap();
        // A sentence may go on in the next line.
        if !text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words) {
            faults.push(format!("{page} does not say: {words}"));
        }
        let code = fs::read_to_string(source().join("daemon").join(file)).unwrap();
        if !code.split_whitespace().collect::<Vec<_>>().join(" ").contains(definition) {
            faults.push(format!("daemon/{file} has no longer: {definition}; {page} says: {words}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
