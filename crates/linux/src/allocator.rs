//! The system's allocator behind a small cache for each thread.
//!
//! A request takes and frees some hundred small blocks on one thread, many more of a size than the C library keeps at hand
//! for a thread (seven); past those it sorts and merges what is soon wanted again. [`Cached`] keeps more of them, in lists by
//! size without locks. Larger blocks, and small ones beyond [`KEEP`] bytes of a size, go to the system's allocator as ever.
//! What a thread keeps ends with it, and goes back before that when it is asked to ([`let_go`]).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// What sizes are counted in, and what every block is aligned to.
const GRAIN: usize = 16;
/// What glibc writes before each block; sizes are chosen so that they leave no room unused with it.
const HEAD: usize = 8;
/// Blocks up to this size are kept.
const LARGEST: usize = CLASSES * GRAIN + HEAD;
const CLASSES: usize = 64;
/// A thread keeps so many bytes of one size, and a few blocks at least.
const KEEP: usize = 4096;
const KEEP_BLOCKS: usize = 8;

/// The allocator; to be made the program's `#[global_allocator]`.
pub struct Cached;

/// A block that nobody uses: it holds the way to the next one.
struct Free {
    next: Option<NonNull<Free>>,
}

/// The blocks of one size that a thread keeps.
#[derive(Clone, Copy)]
struct List {
    first: Option<NonNull<Free>>,
    count: usize,
}

struct Cache {
    lists: [List; CLASSES],
    /// How often threads had been asked to let go when this one did.
    let_go: u32,
}

/// How often threads were asked to let go.
static LET_GO: AtomicU32 = AtomicU32::new(0);

/// Asks every thread to give back what it keeps: it does when it takes or frees its next block. Kept blocks lie scattered
/// over pages that could go back to the system without them.
pub fn let_go() {
    LET_GO.fetch_add(1, Relaxed);
}

thread_local! {
    static CACHE: UnsafeCell<Cache> = const { UnsafeCell::new(Cache::new()) };
}

/// The class of a block, if it is one that is kept.
fn class_of(layout: Layout) -> Option<usize> {
    let small = layout.size() <= LARGEST && layout.align() <= GRAIN;
    small.then(|| layout.size().saturating_sub(HEAD + 1) / GRAIN)
}

/// All blocks of a class are of this size.
fn block(class: usize) -> Layout {
    let size = (class + 1) * GRAIN + HEAD;
    // SAFETY: the alignment is a power of two, and the size is far from overflowing.
    unsafe { Layout::from_size_align_unchecked(size, GRAIN) }
}

impl Cache {
    const fn new() -> Self {
        let none = List {
            first: None,
            count: 0,
        };
        Self {
            lists: [none; CLASSES],
            let_go: 0,
        }
    }

    fn take(&mut self, class: usize) -> Option<NonNull<u8>> {
        let list = &mut self.lists[class];
        let first = list.first?;
        // SAFETY: `keep` has put a `Free` there, and nobody has had the block since.
        list.first = unsafe { first.as_ref().next };
        list.count -= 1;
        Some(first.cast())
    }

    /// Keeps a block, unless there are enough of its size.
    fn keep(&mut self, class: usize, freed: NonNull<u8>) -> bool {
        let list = &mut self.lists[class];
        if list.count >= (KEEP / block(class).size()).max(KEEP_BLOCKS) {
            return false;
        }
        let freed = freed.cast::<Free>();
        // SAFETY: the block is at least as large and as aligned as a `Free`, and it is ours alone: its owner gave it back.
        unsafe { freed.write(Free { next: list.first }) };
        list.first = Some(freed);
        list.count += 1;
        true
    }

    fn empty(&mut self) {
        for class in 0..CLASSES {
            while let Some(kept) = self.take(class) {
                // SAFETY: what is kept was made by the system's allocator with this layout.
                unsafe { System.dealloc(kept.as_ptr(), block(class)) };
            }
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.empty();
    }
}

/// Acts with the thread's cache; there is none any more when the thread ends.
fn with<T>(act: impl FnOnce(&mut Cache) -> T) -> Option<T> {
    let acted = CACHE.try_with(|cache| {
        // SAFETY: only this thread can have the pointer, and neither `empty` nor `act`, which is one of `take` and `keep`,
        // comes back here.
        let cache = unsafe { &mut *cache.get() };
        let asked = LET_GO.load(Relaxed);
        if cache.let_go != asked {
            cache.let_go = asked;
            cache.empty();
        }
        act(cache)
    });
    acted.ok()
}

// SAFETY: blocks come from the system's allocator, of the size of their class, which is at least what was asked for and the
// same for the same layout; a block is in a list only between its `dealloc` and its next `alloc`.
unsafe impl GlobalAlloc for Cached {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        match with(|cache| cache.take(class)) {
            Some(Some(kept)) => kept.as_ptr(),
            // SAFETY: the layout of a class is never empty.
            _ => unsafe { System.alloc(block(class)) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class_of(layout).is_none() {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: it is as large as the layout says.
            unsafe { ptr::write_bytes(block, 0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, freed: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.dealloc(freed, layout) };
        };
        let kept = NonNull::new(freed).and_then(|freed| with(|cache| cache.keep(class, freed)));
        if kept != Some(true) {
            // SAFETY: `alloc` made it with this layout.
            unsafe { System.dealloc(freed, block(class)) };
        }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller has checked the new size.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class_of(layout), class_of(wanted)) {
            // SAFETY: neither is one of ours: the caller's promise.
            (None, None) => unsafe { System.realloc(old, layout, size) },
            (from, to) if from == to => old,
            _ => {
                // SAFETY: the caller's promise; both blocks are as large as what is copied.
                unsafe {
                    let new = self.alloc(wanted);
                    if !new.is_null() {
                        ptr::copy_nonoverlapping(old, new, size.min(layout.size()));
                        self.dealloc(old, layout);
                    }
                    new
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 1).unwrap()
    }

    #[test]
    fn every_small_layout_fits_into_its_class() {
        for size in 1..=LARGEST {
            let class = class_of(layout(size)).unwrap();
            assert!(block(class).size() >= size, "{size}");
            assert!(class == 0 || block(class - 1).size() < size, "{size}");
        }
        assert_eq!(class_of(layout(LARGEST)), Some(CLASSES - 1));
        assert_eq!(class_of(layout(LARGEST + 1)), None);
        assert_eq!(class_of(Layout::from_size_align(32, 64).unwrap()), None);
    }

    #[test]
    fn blocks_come_back_and_no_more_of_them_are_kept_than_should_be() {
        let mut cache = Cache::new();
        let most = KEEP / block(3).size();
        let mut given = Vec::new();
        for i in 0..=most {
            // SAFETY: the layout is not empty.
            let made = NonNull::new(unsafe { System.alloc(block(3)) }).unwrap();
            assert_eq!(cache.keep(3, made), i < most);
            given.push(made);
        }
        let refused = given.pop().unwrap();
        // SAFETY: it was made above and is kept nowhere.
        unsafe { System.dealloc(refused.as_ptr(), block(3)) };
        let taken = cache.take(3).unwrap();
        assert_eq!(Some(taken), given.pop());
        assert_eq!(cache.take(4), None);
        // SAFETY: it was made above and is kept no longer; the cache frees the others.
        unsafe { System.dealloc(taken.as_ptr(), block(3)) };
    }

    #[test]
    fn what_grows_and_shrinks_keeps_its_bytes() {
        let sizes = [1, 24, 25, 500, LARGEST, LARGEST + 1, 5000, LARGEST, 40, 1];
        // SAFETY: each block is used with the layout that it was made with last.
        unsafe {
            let mut held = Cached.alloc(layout(sizes[0]));
            held.write(7);
            for pair in sizes.windows(2) {
                held = Cached.realloc(held, layout(pair[0]), pair[1]);
                assert_eq!(held.read(), 7);
            }
            Cached.dealloc(held, layout(1));
            let zeroed = Cached.alloc_zeroed(layout(24));
            assert!((0..24).all(|i| zeroed.add(i).read() == 0));
            Cached.dealloc(zeroed, layout(24));
        }
    }

    #[test]
    fn nothing_is_kept_when_threads_are_asked_to_let_go() {
        let kept = || with(|cache| cache.lists.iter().map(|list| list.count).sum::<usize>());
        // SAFETY: the block is used with the layout that it was made with.
        unsafe { Cached.dealloc(Cached.alloc(layout(100)), layout(100)) };
        let_go();
        assert_eq!(kept(), Some(0));
    }

    #[test]
    fn blocks_may_be_freed_on_other_threads() {
        let made: Vec<usize> = (0..1000)
            // SAFETY: the layout is not empty.
            .map(|_| unsafe { Cached.alloc(layout(100)) } as usize)
            .collect();
        let freed = std::thread::spawn(move || {
            for block in made {
                // SAFETY: it was made with this layout, and nobody else frees it.
                unsafe { Cached.dealloc(block as *mut u8, layout(100)) };
            }
        });
        freed.join().unwrap();
    }
}
