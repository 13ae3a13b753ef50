//! The allocator of a component: what was freed is kept by its size, for the next call.
//!
//! A step's call takes a few small blocks, gives them back, and the next call takes the same again. The allocator of the C library
//! searches and joins blocks each time, in a third of all instructions of a short call, over two dozen lines of the
//! processor's cache. Lists by size need a few instructions and one line, and ask the C library only for what they lack. They give
//! nothing back to it, so that an instance holds the most that it ever had of each size; blocks of more than [`SIZE_MAX`]
//! octets are the C library's from first to last.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: Recycling<System> = Recycling::new(System);

/// Lists of free blocks in front of another allocator. For one thread.
struct Recycling<A> {
    free: UnsafeCell<[*mut Block; CLASSES]>,
    behind: A,
}

/// A free block: its first octets lead to the next of its size.
struct Block {
    next: *mut Block,
}

// SAFETY: a component without the atomics feature has one thread, and this type is used nowhere else (the tests' is a thread's own).
unsafe impl<A> Sync for Recycling<A> {}

impl<A> Recycling<A> {
    const fn new(behind: A) -> Self {
        Self {
            free: UnsafeCell::new([ptr::null_mut(); CLASSES]),
            behind,
        }
    }
}

/// The list for a block, where there is one.
#[inline]
fn class(size: usize, align: usize) -> Option<usize> {
    (size <= SIZE_MAX && align <= ALIGN).then(|| size.saturating_sub(1) / GRAIN)
}

/// What all blocks of a list have in common.
fn layout_of(class: usize) -> Layout {
    let size = (class + 1) * GRAIN;
    // SAFETY: `ALIGN` is a power of two, and the size is small.
    unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
}

impl<A: GlobalAlloc> Recycling<A> {
    /// A block for which there is none in its list. Apart from the way that is taken nearly always, which is so short that it
    /// needs no stack.
    ///
    /// # Safety
    ///
    /// As of [`GlobalAlloc::alloc`].
    #[cold]
    #[inline(never)]
    unsafe fn alloc_behind(&self, layout: Layout) -> *mut u8 {
        let layout = class(layout.size(), layout.align()).map_or(layout, layout_of);
        // SAFETY: the caller's promise; no list's size is zero.
        unsafe { self.behind.alloc(layout) }
    }

    /// Gives back a block that has no list.
    ///
    /// # Safety
    ///
    /// As of [`GlobalAlloc::dealloc`].
    #[cold]
    #[inline(never)]
    unsafe fn dealloc_behind(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise; it came from there.
        unsafe { self.behind.dealloc(block, layout) }
    }
}

// SAFETY: a block is in a list only while nobody has it, and has the size and the alignment of its list, which are those of all
// layouts with that list or more. `GlobalAlloc` is entered again neither from here nor from the allocator behind.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Recycling<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(class) = class(layout.size(), layout.align()) {
            // SAFETY: one thread, and the reference ends with the call.
            let head = unsafe { &mut (*self.free.get())[class] };
            let block = *head;
            if !block.is_null() {
                // SAFETY: what is in a list is a block.
                *head = unsafe { (*block).next };
                return block.cast();
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.alloc_behind(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = class(layout.size(), layout.align()) else {
            // SAFETY: the caller's promise.
            return unsafe { self.dealloc_behind(block, layout) };
        };
        // SAFETY: one thread, and the reference ends with the call.
        let head = unsafe { &mut (*self.free.get())[class] };
        let block = block.cast::<Block>();
        // SAFETY: it is the caller's no more, and large and aligned enough for a pointer.
        unsafe { block.write(Block { next: *head }) };
        *head = block;
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let new = class(size, layout.align());
        match class(layout.size(), layout.align()) {
            // SAFETY: the caller's promise; it came from there and stays there.
            None if new.is_none() => unsafe { self.behind.realloc(block, layout, size) },
            old if old == new => block,
            // SAFETY: the caller's promise; the new block has room for the shorter of both.
            _ => unsafe {
                let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
                if !moved.is_null() {
                    ptr::copy_nonoverlapping(block, moved, size.min(layout.size()));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

/// All blocks of lists have sizes that are multiples of this.
const GRAIN: usize = 16;
/// And are aligned to this, which costs nothing more.
const ALIGN: usize = 8;
const CLASSES: usize = 32;
/// The largest block that is kept.
const SIZE_MAX: usize = CLASSES * GRAIN;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// The system's allocator, which counts.
    #[derive(Default)]
    struct Counting {
        asked: Cell<usize>,
        given_back: Cell<usize>,
    }

    // SAFETY: it does what the system's does.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            self.asked.set(self.asked.get() + 1);
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            self.given_back.set(self.given_back.get() + 1);
            // SAFETY: the caller's promise.
            unsafe { System.dealloc(block, layout) }
        }
    }

    impl<A> Drop for Recycling<A> {
        fn drop(&mut self) {
            for (class, head) in self.free.get_mut().iter().enumerate() {
                let mut block = *head;
                while !block.is_null() {
                    // SAFETY: what is in a list is a block, which came from the system with this layout.
                    unsafe {
                        let next = (*block).next;
                        System.dealloc(block.cast(), layout_of(class));
                        block = next;
                    }
                }
            }
        }
    }

    #[test]
    fn a_call_that_takes_what_the_one_before_gave_back_asks_for_nothing() {
        let allocator = Recycling::new(Counting::default());
        let sizes = [1, 16, 17, 40, 40, 512].map(|size| Layout::from_size_align(size, 8).unwrap());
        let call = || {
            // SAFETY: the sizes are not zero, and each block is given back with its own.
            unsafe {
                let blocks = sizes.map(|layout| (allocator.alloc(layout), layout));
                for (block, layout) in blocks {
                    assert!(!block.is_null() && block.addr().is_multiple_of(ALIGN));
                    block.write_bytes(0xa5, layout.size());
                }
                for (block, layout) in blocks {
                    allocator.dealloc(block, layout);
                }
            }
        };
        call();
        assert_eq!(allocator.behind.asked.get(), sizes.len());
        (0..100).for_each(|_| call());
        assert_eq!(allocator.behind.asked.get(), sizes.len());
        assert_eq!(allocator.behind.given_back.get(), 0);
    }

    #[test]
    fn large_blocks_and_those_with_an_alignment_of_their_own_go_back_at_once() {
        let allocator = Recycling::new(Counting::default());
        for (size, align) in [(SIZE_MAX + 1, 1), (32, 16)] {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: the size is not zero, and the block is given back with its own layout.
            unsafe {
                let block = allocator.alloc(layout);
                assert!(block.addr().is_multiple_of(align));
                allocator.dealloc(block, layout);
            }
        }
        let counts = (&allocator.behind.asked, &allocator.behind.given_back);
        assert_eq!((counts.0.get(), counts.1.get()), (2, 2));
    }

    /// Blocks of every size that grow and shrink keep what was written to them, and none is anybody else's.
    #[test]
    fn what_was_written_to_a_block_stays_while_others_come_and_go() {
        let allocator = Recycling::new(System);
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut below = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
        // SAFETY: sizes are not zero, and each block is used with the layout that it has.
        unsafe {
            for turn in 0..20_000 {
                let size = 1 + below(if turn % 3 == 0 { 2000 } else { 100 });
                match below(3) {
                    0 => {
                        let layout = Layout::from_size_align(size, 1 << below(6)).unwrap();
                        let block = allocator.alloc(layout);
                        let mark = turn as u8;
                        block.write_bytes(mark, layout.size());
                        blocks.push((block, layout, mark));
                    }
                    1 if !blocks.is_empty() => {
                        let place = below(blocks.len());
                        let (block, layout, mark) = blocks[place];
                        let block = allocator.realloc(block, layout, size);
                        let kept = size.min(layout.size());
                        let octets = std::slice::from_raw_parts(block, kept);
                        assert!(octets.iter().all(|octet| *octet == mark));
                        block.write_bytes(mark, size);
                        let layout = Layout::from_size_align(size, layout.align()).unwrap();
                        blocks[place] = (block, layout, mark);
                    }
                    _ if !blocks.is_empty() => {
                        let (block, layout, mark) = blocks.swap_remove(below(blocks.len()));
                        let octets = std::slice::from_raw_parts(block, layout.size());
                        assert!(octets.iter().all(|octet| *octet == mark));
                        allocator.dealloc(block, layout);
                    }
                    _ => {}
                }
            }
            for (block, layout, _) in blocks {
                allocator.dealloc(block, layout);
            }
        }
    }
}
