use std::io::Cursor;

use ::tar::Builder;
use proptest::prelude::*;

use super::*;

impl Input for Cursor<Vec<u8>> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.by_ref().take(count), &mut io::sink())?;
        if skipped == count { Ok(()) } else { Err(truncated()) }
    }
}

fn header(name: &str, size: u64, kind: EntryType) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_path(name).unwrap();
    header.set_cksum();
    header
}

fn archive(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

/// Returns the members and the content of each.
fn walk(bytes: Vec<u8>) -> io::Result<Vec<(TarMember, Vec<u8>)>> {
    let mut walk = Walk::new(Cursor::new(bytes));
    let mut members = Vec::new();
    while let Some(member) = walk.next()? {
        let mut text = Vec::new();
        walk.content().read_to_end(&mut text)?;
        members.push((member, text));
    }
    Ok(members)
}

fn pax(records: &str) -> Vec<u8> {
    archive(|builder| {
        builder
            .append(&header("PaxHeaders/x", records.len() as u64, EntryType::XHeader), records.as_bytes())
            .unwrap();
        builder.append(&header("x", 3, EntryType::Regular), &b"abc"[..]).unwrap();
    })
}

#[test]
fn members_have_their_names_and_content() {
    let long = format!("{}/x", "d".repeat(300));
    let bytes = archive(|builder| {
        builder.append(&header("./a", 3, EntryType::Regular), &b"abc"[..]).unwrap();
        let mut long_header = Header::new_gnu();
        long_header.set_size(2);
        long_header.set_cksum();
        builder.append_data(&mut long_header, &long, &b"xy"[..]).unwrap();
        builder.append(&header("empty", 0, EntryType::Regular), &b""[..]).unwrap();
    });
    let members = walk(bytes).unwrap();
    let names: Vec<_> =
        members.iter().map(|(member, text)| (member.name.as_str(), text.as_slice())).collect();
    assert_eq!(names, [("a", &b"abc"[..]), (&long, &b"xy"[..]), ("empty", &b""[..])]);
    assert_eq!(members[0].0.position, 512);
}

#[test]
fn links_are_resolved_and_other_kinds_skipped() {
    let bytes = archive(|builder| {
        let mut link = header("a/layer.tar", 0, EntryType::Symlink);
        link.set_link_name("../b/layer.tar").unwrap();
        link.set_cksum();
        builder.append(&link, io::empty()).unwrap();
        let mut out = header("out", 0, EntryType::Symlink);
        out.set_link_name("/etc/passwd").unwrap();
        out.set_cksum();
        builder.append(&out, io::empty()).unwrap();
        builder.append(&header("pipe", 0, EntryType::Fifo), io::empty()).unwrap();
        builder.append(&header("d/", 0, EntryType::Directory), io::empty()).unwrap();
    });
    let kinds: Vec<_> = walk(bytes).unwrap().into_iter().map(|(member, _)| member.kind).collect();
    assert_eq!(kinds[0], TarKind::Link(MemberName::parse(b"b/layer.tar").unwrap()));
    assert_eq!(kinds[1], TarKind::Skipped(Some("skipped out: a link out of the archive".into())));
    assert_eq!(kinds[2], TarKind::Skipped(Some("skipped pipe: a pipe".into())));
    assert_eq!(kinds[3], TarKind::Skipped(None));
}

#[test]
fn conflicting_sizes_are_refused() {
    assert_eq!(walk(pax("10 size=3\n")).unwrap()[0].1, b"abc");
    assert_eq!(walk(pax("15 path=x/long\n")).unwrap()[0].0.name.as_str(), "x/long");
    for records in [
        "10 size=0\n",
        "10 size=4\n",
        "30 size=18446744073709551615\n",
        "11 size=-3\n",
        "8 size=3\n",
        "10 size=3\n10 size=4\n",
        "x",
        "99999999999999999999 a=b\n",
    ] {
        assert!(walk(pax(records)).is_err(), "{records:?}");
    }
    let large = archive(|builder| {
        builder.append(&header("L", 1 << 30, EntryType::GNULongName), io::empty()).unwrap();
    });
    assert!(walk(large).unwrap_err().to_string().contains("exceeds the limit"));
}

#[test]
fn truncated_archives_fail_at_each_position() {
    let bytes = archive(|builder| {
        builder.append(&header("a", 1000, EntryType::Regular), &[7u8; 1000][..]).unwrap();
        builder.append(&header("b", 3, EntryType::Regular), &b"abc"[..]).unwrap();
    });
    // The empty blocks at the end are not needed, nor is the padding of the last member.
    for end in 1..512 + 1024 + 512 + 3 {
        let is_whole = end == 512 + 1024;
        assert_eq!(walk(bytes[..end].to_vec()).is_ok(), is_whole, "{end}");
    }
    assert_eq!(walk(bytes[..2051].to_vec()).map(|members| members.len()).ok(), None);
}

proptest! {
    #[test]
    fn never_panics(changes in prop::collection::vec((0usize..4096, any::<u8>()), 0..20), fix in any::<bool>()) {
        let mut bytes = archive(|builder| {
            let records = "10 size=3\n";
            builder.append(&header("p", 10, EntryType::XHeader), records.as_bytes()).unwrap();
            builder.append(&header("a", 3, EntryType::Regular), &b"abc"[..]).unwrap();
            builder.append(&header("b", 600, EntryType::Regular), &[1u8; 600][..]).unwrap();
        });
        for (at, byte) in changes {
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte;
            }
        }
        if fix {
            for block in bytes.chunks_exact_mut(512) {
                let sum: u32 = block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = walk(bytes);
    }
}
