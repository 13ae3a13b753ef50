//! Machine code that several components have in common, in one copy.
//!
//! Plugins of one interpreter differ in the program that they carry, which is data. Their code is the same to the octet, 3.5 MiB
//! for JavaScript, or but for some of what their toolchain generates, of 16 MiB for Python. So the second component with the
//! same piece of code, and every one after it, gets it from one copy, at an address of its own. So it is in memory twice at the
//! most, and hardly more often in the processor's cache, however many plugins take turns.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_lc_rs::digest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::Component;

/// The pieces of all components that are loaded, by their SHA-256.
pub(crate) struct SharedCode {
    known: Mutex<HashMap<[u8; digest::SHA256_OUTPUT_LEN], Weak<Piece>>>,
    /// How many more there may be. Beyond that, code is not shared.
    copies: Arc<Semaphore>,
    mappings: Arc<Semaphore>,
}

/// What a component holds while it is loaded: later ones with the same code find it by that.
pub(crate) struct Code {
    _pieces: Vec<(Arc<Piece>, Option<OwnedSemaphorePermit>)>,
}

/// A piece of code that components have in common. The copy is there from the second one on.
#[derive(Default)]
struct Piece {
    copy: Mutex<Option<(File, OwnedSemaphorePermit)>>,
}

impl Default for SharedCode {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            copies: Arc::new(Semaphore::new(COPIES_MAX)),
            mappings: Arc::new(Semaphore::new(MAPPINGS_MAX)),
        }
    }
}

impl SharedCode {
    /// Takes a component's code from the shared copies, and remembers where it is the first. Where the system has no means for
    /// that, it stays as it is.
    ///
    /// # Errors
    ///
    /// What the system said when the code was to be put in its place: the component is not to be used then.
    pub(crate) fn share(&self, component: &Component) -> io::Result<Code> {
        let text = component.text();
        // SAFETY: it has no requirement.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        if !text.as_ptr().addr().is_multiple_of(page) || !text.len().is_multiple_of(page) {
            return Ok(Code { _pieces: vec![] }); // something else is on its first or last page
        }
        let pieces = text.chunks(PIECE);
        let _pieces = pieces
            .map(|text| self.piece(text))
            .collect::<Result<_, _>>()?;
        Ok(Code { _pieces })
    }

    fn piece(&self, text: &[u8]) -> io::Result<(Arc<Piece>, Option<OwnedSemaphorePermit>)> {
        let hash = digest::digest(&digest::SHA256, text);
        let hash = hash.as_ref().try_into().expect("as long as its name says");
        let piece = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, piece| piece.strong_count() > 0);
            let Some(piece) = known.get(&hash).and_then(Weak::upgrade) else {
                let first = Arc::default();
                known.insert(hash, Arc::downgrade(&first));
                return Ok((first, None));
            };
            piece
        };
        let mapping = self.mappings.clone().try_acquire_owned();
        let mapped = mapping
            .map_err(io::Error::other)
            .and_then(|mapping| Ok((piece.map(text, &self.copies)?, mapping)));
        let mapping = match mapped {
            Ok((mapped, mapping)) => mapped.put_in_place_of(text)?.then_some(mapping),
            Err(error) => {
                tracing::debug!(%error, "the code of a component is not shared");
                None
            }
        };
        Ok((piece, mapping))
    }
}

impl Piece {
    /// Maps the copy, which is made of `text` where there is none yet.
    fn map(&self, text: &[u8], copies: &Arc<Semaphore>) -> io::Result<Mapped> {
        let mut copy = self.copy.lock().unwrap_or_else(PoisonError::into_inner);
        let (copy, _) = match &mut *copy {
            Some(copy) => copy,
            none => {
                let permit = copies.clone().try_acquire_owned();
                let permit = permit.map_err(io::Error::other)?;
                none.insert((sealed(text)?, permit))
            }
        };
        Mapped::new(copy, text.len())
    }
}

/// A file in memory that nobody can change any more. Source: memfd_create(2).
fn sealed(content: &[u8]) -> io::Result<File> {
    // SAFETY: the name lives until the call returns.
    let file = unsafe {
        libc::memfd_create(
            c"tidegate-code".as_ptr(),
            libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
        )
    };
    if file < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened above, and nothing else has it.
    let mut file = unsafe { File::from_raw_fd(file) };
    file.write_all(content)?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: it changes nothing but the file's seals.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A mapping of a whole file that can be read and run, at an address that the system chose.
struct Mapped {
    address: *mut libc::c_void,
    length: usize,
}

impl Mapped {
    fn new(file: &File, length: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_EXEC;
        let descriptor = file.as_raw_fd();
        // SAFETY: a new mapping where there was none; the file is not written to and does not shrink.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                protection,
                libc::MAP_PRIVATE,
                descriptor,
                0,
            )
        };
        match address {
            libc::MAP_FAILED => Err(io::Error::last_os_error()),
            address => Ok(Self { address, length }),
        }
    }

    /// Moves the mapping to where `text` is, or leaves all as it was where the system refuses that. Source: mremap(2).
    ///
    /// # Errors
    ///
    /// It failed, and `text` is no more.
    fn put_in_place_of(self, text: &[u8]) -> io::Result<bool> {
        let place = text.as_ptr().cast_mut().cast::<libc::c_void>();
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: `text` is of the text section of a component that is being loaded: whole pages of wasmtime's own mapping,
        // readable and executable, in which nothing runs yet and nothing will be written. After the call they hold the same octets,
        // with the same protection (wasmtime adds to it for branch targets, which this engine does not ask for); wasmtime unmaps
        // them by their address, as it would have before.
        let moved = unsafe { libc::mremap(self.address, self.length, self.length, flags, place) };
        if moved != libc::MAP_FAILED {
            std::mem::forget(self); // it is the component's now
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        // SAFETY: it changes nothing, and fails where not all of it is mapped.
        match unsafe { libc::msync(place, text.len(), libc::MS_ASYNC) } {
            0 => {
                tracing::debug!(%error, "the code of a component is not shared");
                Ok(false)
            }
            _ => Err(error),
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own, and nothing points into it.
        unsafe { libc::munmap(self.address, self.length) };
    }
}

/// Each has a descriptor.
const COPIES_MAX: usize = 256;
/// Linux gives a process 65,530, of which the pools and the heap need most.
const MAPPINGS_MAX: usize = 16_384;
/// What is compared as a whole, in octets: whole pages, more than most plugins have, and a fraction of an interpreter.
const PIECE: usize = 1 << 20;

/// A component with a function that gives `result`, and a custom section of its own.
#[cfg(test)]
pub(crate) fn component(engine: &wasmtime::Engine, result: u8, custom: u8) -> Component {
    let module = [
        &b"\0asm\x01\0\0\0"[..],
        &[1, 5, 1, 0x60, 0, 1, 0x7f], // a type: of no parameter, an i32
        &[3, 2, 1, 0],                // a function of that type
        &[10, 6, 1, 4, 0, 0x41, result & 0x3f, 0x0b], // its code: i32.const, end
    ]
    .concat();
    let length = u8::try_from(module.len()).unwrap();
    let bytes = [
        &b"\0asm\x0d\0\x01\0"[..],
        &[1, length],
        &module,
        &[0, 3, 1, b'n', custom],
    ]
    .concat();
    Component::new(engine, bytes).expect("a component")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use wasmtime::Engine;

    use super::*;

    /// What is mapped where the component's code is: its protection and its file. Source: proc_pid_maps(5).
    fn mapped(component: &Component) -> (String, String) {
        let at = component.text().as_ptr() as usize;
        let maps = fs::read_to_string("/proc/self/maps").expect("Linux");
        let mapping = maps.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let (first, end) = words.next()?.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).expect("hexadecimal");
            let words: Vec<_> = words.collect();
            (number(first) <= at && at < number(end)).then(|| (words[0].into(), words[3].into()))
        });
        mapping.expect("code is somewhere")
    }

    #[test]
    fn code_that_components_have_in_common_is_once_in_memory_while_one_of_them_is_loaded() {
        const OWN: &str = "0";
        let engine = Engine::default();
        let shared = SharedCode::default();
        let components = [1, 2, 3].map(|custom| component(&engine, 7, custom));
        let before = components[0].text().to_vec();
        let codes: Vec<_> = components
            .iter()
            .map(|component| shared.share(component).expect("it is put in place"))
            .collect();
        let files = components.each_ref().map(|component| mapped(component).1);
        assert_eq!((files[0].as_str(), &files[1]), (OWN, &files[2]));
        assert_ne!(files[1], OWN);
        for component in &components {
            assert_eq!(mapped(component).0, "r-xp");
            assert!(component.text() == before);
        }

        // Other code is its own.
        let other = component(&engine, 8, 1);
        let _other = shared.share(&other).expect("nothing is to be done");
        assert_eq!(mapped(&other).1, OWN);

        // A component that is called still has its code when the others are gone, and what comes then begins anew.
        drop(codes);
        assert_eq!(mapped(&components[2]).1, files[2]);
        let later = component(&engine, 7, 4);
        let _later = shared.share(&later).expect("nothing is to be done");
        assert_eq!(mapped(&later).1, OWN);
        assert_eq!(shared.known.lock().unwrap().len(), 2);
    }
}
