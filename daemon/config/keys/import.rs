//! The keys of `[import]`: how archives of images come in.

use crate::config::format::{Choice, Optional};
use crate::config::key::{Initial, Key, Section, key};
use crate::config::settings::{Config, ImportCompression, ImportNames};
use crate::config::text_formats::{ABSOLUTE_DIRECTORY, ABSOLUTE_FILE};

pub(in crate::config) const IMPORT: Section<Config> = Section {
    name: "import",
    doc: "Imports of images from archives and directories, with `holdfast import` and `holdfast adopt`.",
    keys: IMPORT_KEYS,
};

const IMPORT_KEYS: &[Key<Config>] = &[
    key!(
        "import.names",
        Initial::Value("\"short\""),
        import.names,
        Choice(&[("short", ImportNames::Short), ("full", ImportNames::Full)]),
        "The names that images get: \"short\" leaves out the host, and the library/ of Docker Hub, so that \
         docker.io/library/alpine becomes alpine; \"full\" keeps the host."
    ),
    key!(
        "import.compress",
        Initial::Value("\"auto\""),
        import.compress,
        Choice(&[
            ("auto", ImportCompression::Auto),
            ("gzip", ImportCompression::Gzip),
            ("none", ImportCompression::None),
        ]),
        "Which uncompressed layers are compressed: \"auto\" those for which a manifest has to be made anyway, as for an \
         archive of docker save; \"gzip\" all of them, which changes the digests of their images; \"none\" none."
    ),
    key!(
        "import.signers",
        Initial::Unset("\"/etc/holdfast/allowed_signers\""),
        import.signers,
        Optional(ABSOLUTE_FILE),
        "A file of allowed signers in the format of ssh-keygen(1). If set, only exports are imported that one of these \
         keys has signed for the namespace holdfast-export. Pushes are not affected."
    ),
    key!(
        "import.folder",
        Initial::Unset("\"/var/lib/holdfast/import\""),
        import.folder,
        Optional(ABSOLUTE_DIRECTORY),
        "A folder whose archives are imported once they are unchanged for a minute. Then they are moved to done/ or failed/ \
         in it, with a report beside them. Anyone who can write to it can set tags."
    ),
];
