//! A file of records, only ever appended to, and removed as a whole.
//!
//! ```text
//! file    "tgcache1" salt[16] check[8] id[4] 0[24] crc[4]   then records
//! record  "TgR1" crc[4] hash[8] bytes[4] kind[1] 0[3] payload-crc[4] 0[4]   then the payload
//! ```
//!
//! Numbers are little-endian. The first checksum of each is of the rest of its header. A payload that is encrypted has no
//! checksum but its tag, which covers the header too.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce};
use bytes::Bytes;
use thiserror::Error;

use super::index::Slot;
use super::keys::Keys;

/// A segment.
pub struct Segment {
    pub id: u32,
    path: PathBuf,
    file: File,
    bytes: AtomicU64,
    key: LessSafeKey,
}

/// Why a file or a record is of no use.
#[derive(Debug, Error)]
pub enum Fault {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Corrupt(&'static str),
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Encrypted,
    /// The key has no entry any more.
    Gone,
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub hash: u64,
    /// Of what follows the header.
    pub bytes: u32,
    pub kind: Kind,
    checksum: u32,
}

impl Segment {
    /// The file of a segment.
    pub fn path(folder: &Path, id: u32) -> PathBuf {
        folder.join(format!("{id:08x}.segment"))
    }

    /// Which segment a file is.
    pub fn id_of(path: &Path) -> Option<u32> {
        let name = path.file_name()?.to_str()?.strip_suffix(".segment")?;
        u32::from_str_radix(name, 16).ok()
    }

    /// Makes a new one.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn create(folder: &Path, id: u32, keys: &Keys) -> io::Result<Self> {
        let mut salt = [0; 16];
        aws_lc_rs::rand::fill(&mut salt).map_err(io::Error::other)?;
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8..24].copy_from_slice(&salt);
        header[24..32].copy_from_slice(&keys.check);
        header[32..36].copy_from_slice(&id.to_le_bytes());
        let checksum = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&checksum.to_le_bytes());
        let path = Self::path(folder, id);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&path)?;
        if let Err(error) = file.write_all_at(&header, 0) {
            let _ = std::fs::remove_file(&path); // it holds nothing
            return Err(error);
        }
        Ok(Self {
            id,
            path,
            file,
            bytes: AtomicU64::new(HEADER as u64),
            key: keys.of_segment(&salt),
        })
    }

    /// Opens one that is there.
    ///
    /// # Errors
    /// Where it cannot be read, and where it is none of these keys.
    pub fn open(path: &Path, id: u32, keys: &Keys) -> Result<Self, Fault> {
        let file = File::open(path)?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)
            .map_err(|_| Fault::Corrupt("its header is cut off"))?;
        if header[..8] != *MAGIC {
            return Err(Fault::Corrupt("it is no segment of this version"));
        }
        if crc32fast::hash(&header[..60]).to_le_bytes() != header[60..] {
            return Err(Fault::Corrupt("its header's checksum is wrong"));
        }
        if header[32..36] != id.to_le_bytes() {
            return Err(Fault::Corrupt("it has another one's name"));
        }
        if header[24..32] != keys.check {
            return Err(Fault::Corrupt("it was written under another key"));
        }
        let (_, salt) = header[..24].split_last_chunk::<16>().expect("24 bytes");
        Ok(Self {
            id,
            path: path.to_owned(),
            bytes: AtomicU64::new(file.metadata()?.len()),
            key: keys.of_segment(salt),
            file,
        })
    }

    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Appends records that [`Self::frame`] made for the end of it.
    ///
    /// # Errors
    /// The disk's. What is there of them then is not looked at.
    pub fn append(&self, records: &[u8]) -> io::Result<()> {
        let end = self.bytes();
        self.file.write_all_at(records, end)?;
        self.bytes
            .store(end + records.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Makes sure that it outlives the machine.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Removes its file; who reads it reads on.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    /// Makes a record of `text[start..]`, a payload with [`RECORD`] bytes of room before it, which will be `at` there.
    pub fn frame(&self, text: &mut Vec<u8>, start: usize, at: u64, hash: u64, kind: Kind) {
        let payload = text.len() - start - RECORD;
        let tag = match kind {
            Kind::Encrypted => AES_256_GCM.tag_len(),
            Kind::Plain | Kind::Gone => 0,
        };
        let header = Header {
            hash,
            bytes: u32::try_from(payload + tag).unwrap_or(u32::MAX),
            kind,
            checksum: match kind {
                Kind::Plain => crc32fast::hash(&text[start + RECORD..]),
                Kind::Encrypted | Kind::Gone => 0,
            },
        };
        let header = header.write();
        text[start..start + RECORD].copy_from_slice(&header);
        if kind == Kind::Encrypted {
            let payload = &mut text[start + RECORD..];
            let sealed = self
                .key
                .seal_in_place_separate_tag(nonce(at), Aad::from(header), payload);
            let tag = sealed.expect("a record is far below 64 GiB");
            text.extend_from_slice(tag.as_ref());
        }
    }

    /// The payload of a record.
    ///
    /// # Errors
    /// The disk's, and where what is there is not what was written.
    pub fn read(&self, slot: Slot) -> Result<Bytes, Fault> {
        let mut text = vec![0; slot.bytes as usize];
        self.file.read_exact_at(&mut text, slot.at.into())?;
        let head = text
            .first_chunk::<RECORD>()
            .ok_or(Fault::Corrupt("it is too short"))?;
        let head = *head;
        let header = Header::read(&head)?;
        if header.bytes as usize != text.len() - RECORD {
            return Err(Fault::Corrupt("it has another length"));
        }
        match header.kind {
            Kind::Gone => return Err(Fault::Corrupt("it is none")),
            Kind::Plain if crc32fast::hash(&text[RECORD..]) != header.checksum => {
                return Err(Fault::Corrupt("its checksum is wrong"));
            }
            Kind::Plain => {}
            Kind::Encrypted => {
                let nonce = nonce(slot.at.into());
                let payload = &mut text[RECORD..];
                let opened = self.key.open_in_place(nonce, Aad::from(head), payload);
                let length = opened
                    .map_err(|_| Fault::Corrupt("it cannot be decrypted"))?
                    .len();
                text.truncate(RECORD + length);
            }
        }
        Ok(Bytes::from(text).slice(RECORD..))
    }

    /// Goes through its records, the first first. `found` is given each.
    ///
    /// # Errors
    /// Where what follows cannot be read; a last record that is not all there is none.
    pub fn scan(&self, mut found: impl FnMut(u32, Header)) -> Result<(), (u64, Fault)> {
        let end = self.bytes();
        let mut at = HEADER as u64;
        let mut window = Window {
            file: &self.file,
            from: 0,
            bytes: Vec::new(),
        };
        while at + RECORD as u64 <= end {
            let head = window.at(at).map_err(|error| (at, error.into()))?;
            let header = Header::read(&head).map_err(|fault| (at, fault))?;
            let next = at + RECORD as u64 + u64::from(header.bytes);
            if next > end {
                break; // the process or the disk's room ended in the midst of it
            }
            found(u32::try_from(at).unwrap_or(u32::MAX), header);
            at = next;
        }
        Ok(())
    }
}

impl Header {
    fn write(self) -> [u8; RECORD] {
        let mut text = [0; RECORD];
        text[..4].copy_from_slice(RECORD_MAGIC);
        text[8..16].copy_from_slice(&self.hash.to_le_bytes());
        text[16..20].copy_from_slice(&self.bytes.to_le_bytes());
        text[20] = match self.kind {
            Kind::Plain => 0,
            Kind::Encrypted => 1,
            Kind::Gone => 2,
        };
        text[24..28].copy_from_slice(&self.checksum.to_le_bytes());
        let checksum = crc32fast::hash(&text[8..]);
        text[4..8].copy_from_slice(&checksum.to_le_bytes());
        text
    }

    fn read(text: &[u8; RECORD]) -> Result<Self, Fault> {
        let number = |at: usize| {
            let bytes = text[at..].first_chunk::<4>().expect("32 bytes");
            u32::from_le_bytes(*bytes)
        };
        if text[..4] != *RECORD_MAGIC {
            return Err(Fault::Corrupt("no record begins there"));
        }
        if crc32fast::hash(&text[8..]) != number(4) {
            return Err(Fault::Corrupt("its header's checksum is wrong"));
        }
        let kind = match text[20] {
            0 => Kind::Plain,
            1 => Kind::Encrypted,
            2 => Kind::Gone,
            _ => return Err(Fault::Corrupt("it is of no known kind")),
        };
        Ok(Self {
            hash: u64::from(number(8)) | (u64::from(number(12)) << 32),
            bytes: number(16),
            kind,
            checksum: number(24),
        })
    }
}

/// A piece of a file: most records are small, and reading each header by itself would cost a system call.
struct Window<'f> {
    file: &'f File,
    from: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    fn at(&mut self, at: u64) -> io::Result<[u8; RECORD]> {
        if let Some(head) = self.held(at) {
            return Ok(head);
        }
        self.bytes.resize(WINDOW, 0);
        let mut filled = 0;
        while filled < RECORD {
            match self
                .file
                .read_at(&mut self.bytes[filled..], at + filled as u64)?
            {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        self.bytes.truncate(filled);
        self.from = at;
        self.held(at).ok_or(io::ErrorKind::UnexpectedEof.into())
    }

    fn held(&self, at: u64) -> Option<[u8; RECORD]> {
        let offset = usize::try_from(at.checked_sub(self.from)?).ok()?;
        self.bytes.get(offset..)?.first_chunk::<RECORD>().copied()
    }
}

/// A record's place: a segment has its own key, and nothing is written to one place twice.
fn nonce(at: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&at.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

const MAGIC: &[u8; 8] = b"tgcache2";
const RECORD_MAGIC: &[u8; 4] = b"TgR1";
/// Bytes of a file's header.
pub const HEADER: usize = 64;
/// Bytes of a record's header.
pub const RECORD: usize = 32;
/// Bytes that are read at once while records are looked for.
const WINDOW: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn put(segment: &Segment, hash: u64, payload: &[u8], kind: Kind) -> Slot {
        let at = segment.bytes();
        let mut text = vec![0; RECORD];
        text.extend_from_slice(payload);
        segment.frame(&mut text, 0, at, hash, kind);
        segment.append(&text).unwrap();
        Slot {
            segment: segment.id,
            at: u32::try_from(at).unwrap(),
            bytes: u32::try_from(text.len()).unwrap(),
        }
    }

    fn scanned(segment: &Segment) -> (Vec<u64>, Option<String>) {
        let mut found = Vec::new();
        let scanned = segment.scan(|_, header| found.push(header.hash));
        (found, scanned.err().map(|(_, fault)| fault.to_string()))
    }

    #[test]
    fn records_are_read_as_they_were_written_also_by_another_process() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::of(b"secret");
        let segment = Segment::create(folder.path(), 7, &keys).unwrap();
        let plain = put(&segment, 1, b"in the clear", Kind::Plain);
        let sealed = put(&segment, 2, b"for few eyes", Kind::Encrypted);
        put(&segment, 3, b"", Kind::Gone);
        let path = Segment::path(folder.path(), 7);
        let raw = std::fs::read(&path).unwrap();
        let holds = |text: &[u8]| raw.windows(text.len()).any(|window| window == text);
        assert!(holds(b"in the clear") && !holds(b"for few eyes"));
        let again = Segment::open(&path, Segment::id_of(&path).unwrap(), &keys).unwrap();
        for segment in [segment, again] {
            assert_eq!(&segment.read(plain).unwrap()[..], b"in the clear");
            assert_eq!(&segment.read(sealed).unwrap()[..], b"for few eyes");
            assert_eq!(scanned(&segment), (vec![1, 2, 3], None));
        }
    }

    #[test]
    fn what_was_damaged_is_told_by_its_cause() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::of(b"secret");
        let path = Segment::path(folder.path(), 1);
        let segment = Segment::create(folder.path(), 1, &keys).unwrap();
        let plain = put(&segment, 1, b"in the clear", Kind::Plain);
        let sealed = put(&segment, 2, b"for few eyes", Kind::Encrypted);
        let raw = std::fs::read(&path).unwrap();
        let damaged = |at: usize| {
            let mut text = raw.clone();
            text[at] ^= 1;
            std::fs::write(&path, text).unwrap();
            Segment::open(&path, 1, &keys)
        };
        let at = |slot: Slot, offset: usize| slot.at as usize + offset;
        let cases = [
            (at(plain, RECORD), Some("its checksum is wrong"), None, None),
            (
                at(sealed, RECORD),
                None,
                Some("it cannot be decrypted"),
                None,
            ),
            (
                at(sealed, 8),
                None,
                Some("its header's checksum is wrong"),
                Some("its header's checksum is wrong"),
            ),
            (
                at(plain, 0),
                Some("no record begins there"),
                None,
                Some("no record begins there"),
            ),
        ];
        for (place, plain_fault, sealed_fault, scan_fault) in cases {
            let segment = damaged(place).unwrap();
            let fault = |slot| segment.read(slot).err().map(|fault| fault.to_string());
            assert_eq!(fault(plain).as_deref(), plain_fault, "{place}");
            assert_eq!(fault(sealed).as_deref(), sealed_fault, "{place}");
            assert_eq!(scanned(&segment).1.as_deref(), scan_fault, "{place}");
        }
        for place in 0..HEADER {
            assert!(damaged(place).is_err(), "{place}");
        }
        std::fs::write(&path, &raw).unwrap();
        let other = Segment::open(&path, 1, &Keys::of(b"other"));
        let told = other.err().map(|fault| fault.to_string());
        assert_eq!(told.as_deref(), Some("it was written under another key"));
        for end in (at(sealed, 0)..raw.len()).rev() {
            std::fs::write(&path, &raw[..end]).unwrap();
            let segment = Segment::open(&path, 1, &keys).unwrap();
            assert_eq!(scanned(&segment), (vec![1], None), "cut at {end}");
        }
    }
}
