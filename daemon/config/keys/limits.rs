//! The keys of `[limits]`.

use crate::config::format::{Number, Optional};
use crate::config::key::{Initial, Key, Section, key};
use crate::config::settings::Config;
use crate::config::text_formats::{BUFFER_SIZE, DURATION_ABOVE_ZERO, HEADER_SIZE, SIZE};

pub(in crate::config) const LIMITS: Section<Config> = Section {
    name: "limits",
    doc: "docs/reference/limits.md explains how the limits work together.",
    keys: LIMITS_KEYS,
};

/// A number of objects in memory.
const COUNT: Number = Number(1, 1_000_000);
/// A number of objects on the disk.
const MANY: Number = Number(1, 100_000_000);

const LIMITS_KEYS: &[Key<Config>] = &[
    key!(
        "limits.connections",
        Initial::Value("512"),
        limits.connections,
        COUNT,
        "The largest number of connections. It is lower if the process may not open enough files, which the log reports \
         at startup.",
        restart: true
    ),
    key!(
        "limits.connections_per_address",
        Initial::Unset("128"),
        limits.server.connections_per_address,
        Optional(COUNT),
        "The number of connections that one address (a /64 network with IPv6) keeps while other addresses wait for a \
         slot. Free slots are for all addresses, except for an eighth that is kept for addresses that have recently \
         logged in. The default is a quarter of all slots. Behind a proxy in http.trusted_proxies each client counts by \
         itself; behind any other proxy all clients share the slots of one address."
    ),
    key!(
        "limits.header_bytes",
        Initial::Value("\"64KiB\""),
        limits.server.header_bytes,
        HEADER_SIZE,
        "The largest size of a request before its body, from the request line to the empty line. A larger one gets 431, \
         and so does a request with more than 100 header fields."
    ),
    key!(
        "limits.header_time",
        Initial::Value("\"30s\""),
        limits.server.header_time,
        DURATION_ABOVE_ZERO,
        "The time that a TLS handshake may take, and the headers of a request."
    ),
    key!(
        "limits.body_stall",
        Initial::Value("\"1m\""),
        limits.server.body_stall,
        DURATION_ABOVE_ZERO,
        "The longest pause of a request body, and the longest time for which a client may take nothing of a response."
    ),
    key!(
        "limits.minimum_rate",
        Initial::Value("\"256B\""),
        limits.server.minimum_rate,
        SIZE,
        "The bytes per second that a client must send or take, averaged over body_stall. Time that the registry spends \
         on its disk does not count. \"0\" switches the check off, for links that are slower still."
    ),
    key!(
        "limits.socket_buffer",
        Initial::Value("\"128KiB\""),
        limits.server.socket_buffer,
        BUFFER_SIZE,
        "The buffer that the system keeps for each direction of a connection. Larger buffers are faster over links with \
         a high latency; the buffers of all connections count against the memory of the service."
    ),
    key!(
        "limits.list_max",
        Initial::Value("1000"),
        limits.list_max,
        COUNT,
        "The largest number of items in a page of a list."
    ),
    key!(
        "limits.manifest_descriptors",
        Initial::Value("10000"),
        limits.manifest_descriptors,
        COUNT,
        "The largest number of descriptors in a pushed manifest, and of annotations; a larger manifest is refused. It is \
         also the number of entries that are read of a list of referrers that a client keeps under a tag."
    ),
    key!(
        "limits.uploads",
        Initial::Value("1000"),
        limits.uploads,
        COUNT,
        "The number of unfinished uploads that are kept in memory; the files of further ones are read again.",
        restart: true
    ),
    key!(
        "limits.unfinished_uploads",
        Initial::Value("10000"),
        storage.capacity.unfinished_uploads,
        Optional(MANY),
        "The largest number of unfinished uploads on the disk. At the limit a new upload replaces the one that was \
         written to least recently, empty ones first."
    ),
    key!(
        "limits.tags_per_repository",
        Initial::Value("100000"),
        storage.capacity.names.tags_per_repository,
        MANY,
        "The largest number of tags in one repository. A push beyond it gets 403; moving a tag stays possible."
    ),
    key!(
        "limits.names",
        Initial::Value("1000000"),
        storage.capacity.names.names,
        MANY,
        "The largest number of tags and manifests in all repositories together. A push beyond it gets 403; moving a tag \
         stays possible."
    ),
];
