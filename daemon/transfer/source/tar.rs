//! Members of a tar archive: headers, long names and PAX records.
//!
//! Parsers of tar disagree about the size of a member if its header and its PAX records differ, so that one archive has
//! two contents. Such a member ends the archive with an error. All text and all sizes are untrusted and bounded; the
//! content of a member is never kept.

use std::io::{self, Read};

use ::tar::{EntryType, Header};

use super::limits;
use super::member::MemberName;

const BLOCK: u64 = 512;
/// Maximum length of a PAX header in bytes.
const PAX: u64 = 1 << 20;
/// The smallest size that the header of ustar cannot hold.
const USTAR_MAX: u64 = 8 << 30;

/// The bytes of an archive, in order.
pub trait Input: Read {
    /// Skips bytes.
    ///
    /// # Errors
    /// Fails if the archive ends before.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// A member of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarMember {
    /// Its name.
    pub name: MemberName,
    /// Its kind.
    pub kind: TarKind,
    /// The length of its content.
    pub size: u64,
    /// The position of its content in the archive.
    pub position: u64,
}

/// The kind of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TarKind {
    /// A regular file.
    File,
    /// A link to another member.
    Link(MemberName),
    /// A member that is not imported, with a remark unless it is a directory.
    Skipped(Option<String>),
}

/// Input that does not begin with the header of a tar archive.
#[derive(Debug, thiserror::Error)]
#[error("it is not a tar archive")]
pub struct NotTar;

/// Walks through an archive.
pub struct Walk<I> {
    input: I,
    /// The position in the archive, behind the last header or the content that was read.
    position: u64,
    /// The position of the next header.
    next: u64,
    /// Bytes of the current member that have not been read.
    rest: u64,
    members: usize,
}

/// The fields of the extension headers before a member.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

impl<I: Input> Walk<I> {
    /// Begins at the first header.
    pub fn new(input: I) -> Self {
        Walk { input, position: 0, next: 0, rest: 0, members: 0 }
    }

    /// Returns the next member; `None` at the end of the archive. Members whose names are not usable are skipped.
    ///
    /// # Errors
    /// Fails if the archive is truncated or malformed.
    pub fn next(&mut self) -> io::Result<Option<TarMember>> {
        let mut extensions = Extensions::default();
        let mut is_extended = false;
        loop {
            let Some(header) = self.header()? else {
                return if is_extended {
                    Err(invalid("the archive ends after a long name"))
                } else {
                    Ok(None)
                };
            };
            self.members += 1;
            if self.members > limits::MEMBERS * 2 {
                return Err(invalid(format!("the archive has more than {} members", limits::MEMBERS)));
            }
            let size = header.entry_size().map_err(|_| invalid("a header has no valid size"))?;
            match header.entry_type() {
                EntryType::GNULongName => {
                    is_extended = true;
                    let text = self.text(size, limits::NAME as u64 + 1)?;
                    once(&mut extensions.long_name, without_end(text))?;
                }
                EntryType::GNULongLink => {
                    is_extended = true;
                    let text = self.text(size, limits::NAME as u64 + 1)?;
                    once(&mut extensions.long_link, without_end(text))?;
                }
                EntryType::XHeader => {
                    is_extended = true;
                    let text = self.text(size, PAX)?;
                    once(&mut extensions.pax, Pax::parse(&text)?)?;
                }
                EntryType::XGlobalHeader => {
                    let text = self.text(size, PAX)?;
                    let global = Pax::parse(&text)?;
                    if global.size.is_some() || global.path.is_some() || global.link.is_some() {
                        return Err(invalid("a global header sets the size or the name of all members"));
                    }
                }
                kind => {
                    if let Some(member) = self.member(&header, kind, size, &extensions)? {
                        return Ok(Some(member));
                    }
                    (extensions, is_extended) = (Extensions::default(), false);
                }
            }
        }
    }

    /// Returns the content of the current member, which may be read once.
    pub fn content(&mut self) -> Content<'_, I> {
        Content(self)
    }

    fn member(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: u64,
        extensions: &Extensions,
    ) -> io::Result<Option<TarMember>> {
        let pax = extensions.pax.as_ref();
        let stated = pax.and_then(|pax| pax.size);
        let size = match stated {
            Some(stated) if stated == size || (size == 0 && stated >= USTAR_MAX) => stated,
            Some(_) => return Err(invalid("a member has two sizes that differ")),
            None => size,
        };
        // A link or a device has no content, whatever its size says.
        let has_content = !matches!(
            kind,
            EntryType::Link
                | EntryType::Symlink
                | EntryType::Char
                | EntryType::Block
                | EntryType::Directory
                | EntryType::Fifo
        );
        if !has_content && stated.is_some_and(|size| size > 0) {
            return Err(invalid("a member without content has a size"));
        }
        if kind == EntryType::GNUSparse {
            self.sparse_headers(header)?;
        }
        let size = if has_content { size } else { 0 };
        let position = self.position;
        self.begin_content(size)?;
        let name = pax.and_then(|pax| pax.path.clone()).or_else(|| extensions.long_name.clone());
        let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
        let Some(name) = MemberName::parse(&name) else { return Ok(None) };
        let link = pax.and_then(|pax| pax.link.clone()).or_else(|| extensions.long_link.clone());
        let link = link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let kind = kind_of(&name, kind, link, pax.is_some_and(|pax| pax.is_sparse));
        Ok(Some(TarMember { name, kind, size, position }))
    }

    /// Reads the next header; `None` at the end of the archive.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let is_first = self.next == 0;
        let gap = self.next - self.position;
        self.input.skip(gap)?;
        (self.position, self.rest) = (self.next, 0);
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                // Some programs end an archive without the two empty blocks.
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) if is_first => return Err(invalid(NotTar)),
                Ok(0) => return Err(truncated()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += BLOCK;
        self.next = self.position;
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = header.as_bytes().iter().enumerate();
        let sum: u32 =
            sum.map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
        if header.cksum().ok() != Some(sum) {
            if is_first {
                return Err(invalid(NotTar));
            }
            return Err(invalid("a header has a wrong checksum; the archive is damaged"));
        }
        Ok(Some(header))
    }

    /// Reads the content of an extension header.
    fn text(&mut self, size: u64, limit: u64) -> io::Result<Vec<u8>> {
        if size > limit {
            return Err(invalid(format!("a header of {size} bytes exceeds the limit of {limit}")));
        }
        self.begin_content(size)?;
        let mut text = Vec::new();
        self.content().read_to_end(&mut text)?;
        Ok(text)
    }

    /// Skips the headers that continue the list of a sparse file.
    fn sparse_headers(&mut self, header: &Header) -> io::Result<()> {
        let mut is_extended = header.as_gnu().is_some_and(::tar::GnuHeader::is_extended);
        while is_extended {
            let mut block = [0; 512];
            self.input.read_exact(&mut block)?;
            self.position += BLOCK;
            is_extended = block[504] == 1;
        }
        self.next = self.position;
        Ok(())
    }

    fn begin_content(&mut self, size: u64) -> io::Result<()> {
        let blocks = size.checked_next_multiple_of(BLOCK).and_then(|size| self.next.checked_add(size));
        self.next = blocks
            .filter(|next| i64::try_from(*next).is_ok())
            .ok_or_else(|| invalid("a member is too large"))?;
        self.rest = size;
        Ok(())
    }
}

/// The content of the current member.
pub struct Content<'a, I>(&'a mut Walk<I>);

impl<I: Input> Read for Content<'_, I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.0.rest).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.0.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(truncated());
        }
        self.0.rest -= count as u64;
        self.0.position += count as u64;
        Ok(count)
    }
}

impl Pax {
    /// Parses records `LENGTH KEY=VALUE\n`.
    fn parse(text: &[u8]) -> io::Result<Self> {
        let mut pax = Pax::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (key, value, after) = record(rest).ok_or_else(|| invalid("a PAX record is malformed"))?;
            rest = after;
            match key {
                b"path" => once(&mut pax.path, value.to_vec())?,
                b"linkpath" => once(&mut pax.link, value.to_vec())?,
                b"size" => {
                    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    once(&mut pax.size, number.ok_or_else(|| invalid("a PAX size is no number"))?)?;
                }
                key => pax.is_sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Ok(pax)
    }
}

/// Splits off a PAX record: key, value, and the records after it.
fn record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = text.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&text[..space]).ok()?.parse().ok()?;
    let (line, after) = text.split_at_checked(length)?;
    let line = line.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = line.iter().position(|byte| *byte == b'=')?;
    Some((&line[..equals], &line[equals + 1..], after))
}

fn kind_of(name: &MemberName, kind: EntryType, link: Option<Vec<u8>>, is_sparse: bool) -> TarKind {
    let skipped = |what: &str| TarKind::Skipped(Some(format!("skipped {name}: {what}")));
    match kind {
        EntryType::Directory => TarKind::Skipped(None),
        EntryType::Regular | EntryType::Continuous if is_sparse => skipped("a sparse file"),
        EntryType::Regular | EntryType::Continuous => TarKind::File,
        EntryType::GNUSparse => skipped("a sparse file"),
        EntryType::Symlink => match link.and_then(|target| name.link_target(&target)) {
            Some(target) => TarKind::Link(target),
            None => skipped("a link out of the archive"),
        },
        EntryType::Link => match link.and_then(|target| MemberName::parse(&target)) {
            Some(target) => TarKind::Link(target),
            None => skipped("a link out of the archive"),
        },
        EntryType::Char | EntryType::Block => skipped("a device"),
        EntryType::Fifo => skipped("a pipe"),
        _ => skipped("a member of a kind that is not known"),
    }
}

fn without_end(mut text: Vec<u8>) -> Vec<u8> {
    while text.last() == Some(&0) {
        text.pop();
    }
    text
}

/// Sets a value that may be stated once.
fn once<T: PartialEq>(slot: &mut Option<T>, value: T) -> io::Result<()> {
    match slot {
        Some(known) if *known != value => Err(invalid("a member is described twice")),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

impl PartialEq for Pax {
    fn eq(&self, _: &Self) -> bool {
        // Two PAX headers before one member are never the same statement.
        false
    }
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Returns the error of an archive that ends within a member.
pub fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is truncated")
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
