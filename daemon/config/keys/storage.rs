//! The keys of `[registry]` and `[storage]`.

use crate::config::format::{Flag, List, Optional};
use crate::config::key::{Initial, Key, Section, key};
use crate::config::settings::Config;
use crate::config::text_formats::{DIRECTORY, FILE, MAP_SIZE, SIZE};

pub(in crate::config) const REGISTRY: Section<Config> =
    Section { name: "registry", doc: "", keys: REGISTRY_KEYS };

const REGISTRY_KEYS: &[Key<Config>] = &[
    key!(
        "registry.read_only",
        Initial::Value("false"),
        registry.read_only,
        Flag,
        "Refuses all pushes and deletes with 405, on the admin page as well. Pulls, collections and the management of \
         users continue."
    ),
    key!(
        "registry.sparse",
        Initial::Value("false"),
        registry.sparse,
        Flag,
        "Accepts an image whose layers or config are missing, and an index whose platforms are missing, so that a \
         registry can have a part of an image only. A pull of the missing part gets 404. Off, a push that lost a layer \
         fails at once; an index still needs only one of its platforms."
    ),
    key!(
        "registry.compatible_files",
        Initial::Value("[]"),
        registry.compatible_files,
        List(FILE, 0),
        "Configuration files of registry:2. The first one that exists is read, and overrides this file. The container \
         image sets this key, so that a file mounted at the usual path of registry:2 works. Use --config FILE.yml for \
         any other file."
    ),
];

pub(in crate::config) const STORAGE: Section<Config> =
    Section { name: "storage", doc: "", keys: STORAGE_KEYS };

const STORAGE_KEYS: &[Key<Config>] = &[
    key!(
        "storage.path",
        Initial::Value("\"./holdfast-data\""),
        storage.path,
        DIRECTORY,
        "The data directory. Whenever no change is being made, it is a valid OCI image layout.",
        restart: true
    ),
    key!(
        "storage.delete",
        Initial::Value("true"),
        storage.delete,
        Flag,
        "Allows clients to delete tags, manifests and blobs."
    ),
    key!(
        "storage.index_map_size",
        Initial::Machine(INDEX_MAP_SIZE, "\"4GiB\""),
        storage.index_map_size,
        MAP_SIZE,
        "The largest size of the index, a multiple of 64KiB. The default is 4GiB on 64-bit machines and 256MiB on 32-bit \
         machines. Deletes may use slightly more.",
        restart: true
    ),
    key!(
        "storage.reserve",
        Initial::Unset("\"256MiB\""),
        storage.capacity.reserve,
        Optional(SIZE),
        "The part of the file system that pushes leave free for deletes, the log and the rest of the machine. The \
         default is 5 % of the file system, at most 256MiB."
    ),
    key!(
        "storage.quota",
        Initial::Unset("\"20GiB\""),
        storage.capacity.quota,
        Optional(SIZE),
        "The largest total size of blobs and unfinished uploads. Without a quota only the reserve limits them."
    ),
];

/// The address space of a 32-bit machine does not fit a larger map. Blobs are files of their own, not part of it.
const INDEX_MAP_SIZE: &str = if usize::BITS >= 64 { "\"4GiB\"" } else { "\"256MiB\"" };
