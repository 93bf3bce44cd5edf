//! A window onto a file that is written again and again: bytes go into the kernel's pages without a system
//! call, and past the CPU's caches.
//!
//! A copy into pages that are in no cache first reads what it overwrites, and pushes out what the CPU
//! would have needed next; streaming stores do neither. `perf/notes/0006` has what that saves.
//!
//! ```text
//!  store ─▶ pages of the file ─▶ the disk, when the kernel or a sync says so
//!    └─ SIGBUS: the file system has no page to write to ─▶ memory of our own in its place ─▶ false
//! ```
//!
//! A system call says that a disk is full or failing; a mapped page says it by a signal that would end the
//! process. So a store marks what it writes to, and a handler that finds the fault there puts anonymous
//! memory over the whole window: the store goes on to its end, into nothing, and reports that it failed.
//! The window is never used again, and the same bytes are written by a system call, which has words for
//! what is wrong. A fault anywhere else is none of ours, and ends the process as ever.

use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence};

use libc::{c_int, c_void, sigaction, siginfo_t};
use memmap2::{MmapOptions, MmapRaw};

use crate::limits;

/// The first bytes of a file, as memory.
#[derive(Debug)]
pub(super) struct Window {
    map: MmapRaw,
    /// Somebody writes, or its file has failed: nobody else may.
    taken: AtomicBool,
}

impl Window {
    /// A window onto the first `bytes` of a file.
    ///
    /// # Errors
    /// The file is shorter, the file system cannot, or the process may not.
    pub(super) fn open(file: &File, bytes: u64) -> io::Result<Self> {
        guard()?;
        if file.metadata()?.len() < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into()); // it grows as it is written
        }
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        Ok(Self {
            map: MmapOptions::new().len(bytes).map_raw(file)?,
            taken: AtomicBool::new(false),
        })
    }

    /// Writes the pieces one behind the other, from `at` on. `false` where it did not, or not all: they do
    /// not lie in the window, somebody else is writing, or the file has failed.
    pub(super) fn store<const N: usize>(&self, pieces: [&[u8]; N], at: u64) -> bool {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let range = usize::try_from(at)
            .ok()
            .and_then(|at| Some(at..at.checked_add(bytes)?));
        let Some(range) = range.filter(|range| range.end <= self.map.len()) else {
            return false;
        };
        if self.taken.swap(true, Ordering::Acquire) {
            return false;
        }
        let is_whole = STORING.with(|storing| {
            storing.begin(self.map.as_ptr() as usize, self.map.len());
            let mut at = range.start;
            for piece in pieces {
                // SAFETY: `at` and all of the piece lie in the map, which lives as long as `self`; nobody
                // else writes to it, since `taken` was ours to take, and nobody reads it as memory.
                #[allow(unsafe_code)]
                unsafe {
                    copy(piece, self.map.as_mut_ptr().add(at));
                }
                at += piece.len();
            }
            storing.end()
        });
        if is_whole {
            self.taken.store(false, Ordering::Release);
        }
        is_whole
    }
}

/// Copies a piece; a large one past the caches.
///
/// # Safety
/// `to` is valid for writes of so many bytes, and they do not overlap.
#[allow(unsafe_code)]
unsafe fn copy(piece: &[u8], to: *mut u8) {
    const LINE: usize = 64;
    let mut from = piece;
    let mut to = to;
    if piece.len() >= limits::STREAM_BYTES_MIN {
        let (edge, rest) = piece.split_at(to.align_offset(LINE).min(piece.len()));
        let (lines, tail) = rest.split_at(rest.len() / LINE * LINE);
        // SAFETY: the three parts are the piece, one behind the other.
        unsafe {
            edge.as_ptr().copy_to_nonoverlapping(to, edge.len());
            stream(lines, to.add(edge.len()));
            to = to.add(edge.len() + lines.len());
        }
        from = tail;
    }
    // SAFETY: what is left of the piece has room behind what is written.
    unsafe { from.as_ptr().copy_to_nonoverlapping(to, from.len()) };
}

/// Copies whole cache lines past the caches.
///
/// # Safety
/// `to` is aligned to a cache line and valid for writes of so many bytes, which do not overlap `lines`.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
unsafe fn stream(lines: &[u8], to: *mut u8) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};
    let from = lines.as_ptr().cast::<__m128i>();
    let to = to.cast::<__m128i>();
    // SAFETY: SSE2 is part of x86-64; each 16 bytes lie in both ranges, and `to` is aligned to them. The
    // fence orders the stores before all that comes after.
    unsafe {
        for i in (0..lines.len() / size_of::<__m128i>()).step_by(4) {
            let line = [0, 1, 2, 3].map(|part| _mm_loadu_si128(from.add(i + part)));
            for (part, bytes) in line.into_iter().enumerate() {
                _mm_stream_si128(to.add(i + part), bytes);
            }
        }
        _mm_sfence();
    }
}

/// The same, as this machine can.
#[cfg(not(target_arch = "x86_64"))]
#[allow(unsafe_code)]
unsafe fn stream(lines: &[u8], to: *mut u8) {
    // SAFETY: as promised by the caller.
    unsafe { lines.as_ptr().copy_to_nonoverlapping(to, lines.len()) };
}

// ---- Faults ------------------------------------------------------------------------------------

/// Where a thread is storing. Its own signal handler reads it: hence atomics.
struct Storing {
    base: AtomicUsize,
    bytes: AtomicUsize,
    failed: AtomicBool,
}

thread_local! {
    static STORING: Storing = const {
        Storing {
            base: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        }
    };
}

impl Storing {
    fn begin(&self, base: usize, bytes: usize) {
        self.failed.store(false, Ordering::Relaxed);
        self.base.store(base, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst); // the handler finds it before the first store
    }

    /// Whether all stores went where they belong.
    fn end(&self) -> bool {
        compiler_fence(Ordering::SeqCst);
        self.bytes.store(0, Ordering::Relaxed);
        !self.failed.load(Ordering::Relaxed)
    }

    /// Puts memory in the place of the window if `fault` lies in it; whether it did.
    fn mend(&self, fault: usize) -> bool {
        let base = self.base.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        if fault.wrapping_sub(base) >= bytes {
            return false;
        }
        // SAFETY: the range is that of a map which the interrupted store holds on to, and which nobody reads.
        #[allow(unsafe_code)]
        let put = unsafe {
            libc::mmap(
                base as *mut c_void,
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        self.failed.store(true, Ordering::Relaxed);
        put != libc::MAP_FAILED
    }
}

/// What handled SIGBUS before; nothing where it could not be asked.
static BEFORE: OnceLock<Option<sigaction>> = OnceLock::new();

/// Has faults of windows mended from now on.
fn guard() -> io::Result<()> {
    match BEFORE.get_or_init(install) {
        Some(_) => Ok(()),
        None => Err(io::Error::other("SIGBUS cannot be handled")),
    }
}

fn install() -> Option<sigaction> {
    // SAFETY: zeros are a valid value of this plain structure, and the call only reads and writes such.
    #[allow(unsafe_code)]
    unsafe {
        let (mut ours, mut before): (sigaction, sigaction) = zeroed();
        ours.sa_sigaction = on_sigbus as *const () as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let done = sigaction(libc::SIGBUS, &raw const ours, &raw mut before);
        (done == 0).then_some(before)
    }
}

/// Runs in the middle of a store: it may only do what signal-safety(7) lists. It stays in force whatever came.
#[allow(unsafe_code)]
extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands over a valid structure.
    let code = unsafe { (*info).si_code };
    // Somebody has sent it (sigaction(2): codes of kill, sigqueue and tgkill are not positive), or the kernel tells of
    // a bad page that nobody has touched: there is no fault.
    if code <= 0 || code == libc::BUS_MCEERR_AO {
        return;
    }
    // SAFETY: a fault has an address.
    let fault = unsafe { (*info).si_addr() } as usize;
    if STORING.with(|storing| storing.mend(fault)) {
        return;
    }
    let Some(Some(before)) = BEFORE.get() else {
        return;
    };
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: both calls are signal-safe, and `before` is what sigaction(2) gave. The process ends on return.
            unsafe {
                sigaction(signal, before, null_mut());
                libc::raise(signal);
            }
        }
        // SAFETY: it is a handler that was in force, and it is given what the kernel would give it.
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => unsafe {
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                std::mem::transmute(handler);
            handler(signal, info, context);
        },
        // SAFETY: the same, for a handler of one argument.
        handler => unsafe {
            let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
            handler(signal);
        },
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::sync::atomic::Ordering;

    use memmap2::MmapRaw;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    use rustix::process::Signal;

    use super::Window;
    use crate::limits;

    const BYTES: usize = 1 << 16;

    /// A file of [`BYTES`], on a real file system, that nobody else sees.
    fn file() -> File {
        let file = tempfile();
        file.set_len(BYTES as u64).unwrap();
        file
    }

    fn tempfile() -> File {
        let name = format!(
            "window-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let path = env::temp_dir().join(name);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        fs::remove_file(&path).unwrap();
        file
    }

    fn read(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn what_is_stored_is_in_the_file_and_nothing_else_has_changed() {
        let file = file();
        let window = Window::open(&file, BYTES as u64).unwrap();
        let mut expected = vec![0; BYTES];
        for seed in 0..2000 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let whole: Vec<u8> = (0..rng.random_range(0..3 * limits::STREAM_BYTES_MIN))
                .map(|_| rng.random())
                .collect();
            let at = rng.random_range(0..=BYTES - whole.len());
            let (one, rest) = whole.split_at(rng.random_range(0..=whole.len().min(70)));
            let (two, three) = rest.split_at(rng.random_range(0..=rest.len()));
            assert!(window.store([one, two, three], at as u64), "seed {seed}");
            expected[at..at + whole.len()].copy_from_slice(&whole);
            assert!(read(&file) == expected, "seed {seed}");
        }
    }

    #[test]
    fn what_does_not_lie_in_it_is_not_stored() {
        let file = file();
        let window = Window::open(&file, BYTES as u64).unwrap();
        assert!(!window.store([b"ab", b"c"], BYTES as u64 - 2));
        assert!(!window.store([b"a"], BYTES as u64));
        assert!(!window.store([b"a"], u64::MAX));
        assert_eq!(read(&file), [0; BYTES]);
        assert!(window.store([b"abc"], BYTES as u64 - 3));
    }

    #[test]
    fn a_file_that_is_too_short_has_none() {
        assert!(Window::open(&file(), BYTES as u64 + 1).is_err());
    }

    #[test]
    fn one_writes_at_a_time() {
        let window = Window::open(&file(), BYTES as u64).unwrap();
        window.taken.store(true, Ordering::Relaxed);
        assert!(!window.store([b"a"], 0));
    }

    #[test]
    fn a_file_that_is_gone_is_an_answer_and_never_used_again() {
        for large in [16, 3 * limits::STREAM_BYTES_MIN] {
            let (file, other) = (file(), file());
            let window = Window::open(&file, BYTES as u64).unwrap();
            let sound = Window::open(&other, BYTES as u64).unwrap();
            file.set_len(4096).unwrap();
            assert!(window.store([b"a"], 0), "that part of it is there");
            let bytes = vec![7; large];
            assert!(!window.store([b"head", &bytes], 5000), "this one is not");
            assert!(!window.store([b"a"], 0), "nobody knows what else is wrong");
            file.set_len(BYTES as u64).unwrap();
            assert!(!window.store([b"a"], 5000));
            assert_eq!(read(&file)[1..], [0; BYTES - 1]);
            assert!(sound.store([&bytes], 5000), "what is another's goes on");
            assert_eq!(read(&other)[5000..5000 + large], bytes);
        }
    }

    #[test]
    fn a_fault_anywhere_else_ends_the_process() {
        const CHILD: &str = "FAULT_OUTSIDE_OF_A_WINDOW";
        const NAME: &str = "spool::window::tests::a_fault_anywhere_else_ends_the_process";
        if env::var_os(CHILD).is_none() {
            let mut again = Command::new(env::current_exe().unwrap());
            let ended = again.args(["--exact", NAME]).env(CHILD, "1").output();
            assert_eq!(ended.unwrap().status.signal(), Some(libc::SIGBUS));
            return;
        }
        let file = file();
        let window = Window::open(&file, BYTES as u64).unwrap();
        assert!(window.store([b"a"], 0));
        let map = MmapRaw::map_raw(&file).unwrap();
        file.set_len(0).unwrap();
        // SAFETY: the map is there; its file is not, and the fault is what this is about.
        #[allow(unsafe_code)]
        let byte = unsafe { map.as_ptr().read_volatile() };
        unreachable!("read {byte}");
    }

    #[test]
    fn a_signal_that_somebody_sent_changes_nothing() {
        const CHILD: &str = "SIGBUS_THAT_SOMEBODY_SENT";
        const NAME: &str = "spool::window::tests::a_signal_that_somebody_sent_changes_nothing";
        if env::var_os(CHILD).is_none() {
            let mut again = Command::new(env::current_exe().unwrap());
            let ended = again.args(["--exact", NAME]).env(CHILD, "1").output();
            assert!(ended.unwrap().status.success(), "it lives");
            return;
        }
        for _ in 0..3 {
            let file = file();
            let window = Window::open(&file, BYTES as u64).unwrap();
            assert!(window.store([b"a"], 0));
            let signals = [
                || rustix::process::kill_process(rustix::process::getpid(), Signal::BUS).unwrap(),
                || assert_eq!(raise(), 0),
            ];
            signals.iter().for_each(|send| send());
            assert!(window.store([b"b"], 0));
            // A fault in a window is mended as before.
            file.set_len(0).unwrap();
            assert!(!window.store([b"c"], 0));
        }
    }

    /// Sends SIGBUS to this thread.
    fn raise() -> i32 {
        // SAFETY: it sends a signal that is handled.
        #[allow(unsafe_code)]
        unsafe {
            libc::raise(libc::SIGBUS)
        }
    }
}
