//! Headers of tar archives: ustar, with a PAX record for a length of 8 GiB or more and for a name that does not fit. Mode, owner
//! and time are always the same, so that the same files have the same archive.

/// The length of a block.
pub(super) const BLOCK: u64 = 512;
/// The length of the end of an archive: two empty blocks.
pub(super) const END: u64 = 2 * BLOCK;

/// The first length that a ustar header cannot hold.
const TOO_LONG: u64 = 1 << 33;
/// The longest name of a header without a prefix.
const NAME: usize = 100;
/// The name of members with PAX records.
const PAX_NAME: &str = "PaxHeader";

/// Returns the headers of a file: one block, or three with a PAX record.
pub(super) fn header(path: &str, size: u64) -> Vec<u8> {
    let mut records = String::new();
    let mut name = path;
    if path.len() > NAME {
        records += &record("path", path);
        name = &path[path.len() - NAME..];
    }
    let mut short = size;
    if size >= TOO_LONG {
        records += &record("size", &size.to_string());
        short = 0;
    }
    let mut bytes = Vec::new();
    if !records.is_empty() {
        bytes.extend(block(PAX_NAME, records.len() as u64, b'x'));
        bytes.extend(records.as_bytes());
        bytes.resize(bytes.len() + padding(records.len() as u64), 0);
    }
    bytes.extend(block(name, short, b'0'));
    bytes
}

/// Returns the number of zeros behind content of this length.
pub(super) fn padding(size: u64) -> usize {
    let over = size % BLOCK;
    // Less than a block.
    usize::try_from((BLOCK - over) % BLOCK).unwrap_or_default()
}

/// Formats a PAX record, whose length counts its own digits.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

fn block(name: &str, size: u64, kind: u8) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    // The checksum is that of the block with spaces in its place.
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn read(path: &str, size: u64) -> (String, u64) {
        let mut archive =
            tar::Archive::new(std::io::Cursor::new(header(path, size)).chain(std::io::repeat(0)));
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!((entry.header().mode().unwrap(), entry.header().mtime().unwrap()), (0o644, 0));
        (entry.path().unwrap().to_str().unwrap().to_owned(), entry.size())
    }

    #[test]
    fn long_names_and_lengths_have_records() {
        let long = format!("blobs/sha512/{}", "a".repeat(128));
        for (path, size, blocks) in [
            ("oci-layout", 0, 1),
            ("oci-layout", TOO_LONG - 1, 1),
            ("oci-layout", TOO_LONG, 3),
            ("oci-layout", 1 << 45, 3),
            (&long, 7, 3),
        ] {
            assert_eq!(header(path, size).len() as u64, blocks * BLOCK, "{path} {size}");
            assert_eq!(read(path, size), (path.to_owned(), size));
        }
    }

    proptest! {
        #[test]
        fn headers_read_back(path in "[a-z]{1,20}/[a-z0-9]{1,140}", size in 0_u64..1 << 50) {
            prop_assert_eq!(read(&path, size), (path, size));
            prop_assert_eq!((size + padding(size) as u64) % BLOCK, 0);
        }

        #[test]
        fn records_count_their_own_length(value in "[a-z]{0,120}") {
            let record = record("path", &value);
            prop_assert_eq!(record.split(' ').next().unwrap().parse::<usize>().unwrap(), record.len());
        }
    }
}
