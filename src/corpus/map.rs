#![expect(
    unsafe_code,
    reason = "copies out of a map that other processes may change; SIGBUS handler"
)]
//! Maps large files, and survives a file that shrinks under its map.
//!
//! Mapped bytes can change or vanish at any time. So they are never borrowed: `Mapped::copy`
//! copies them into an owned buffer, and looks before and after whether the file is still what it
//! was. What it hands out was there, whole, when it was copied, or it is an error.
//!
//! A file that is cut off between the look and the copy makes the copy touch a page that is no more,
//! which is the signal SIGBUS and by default the end of the process. [`install_sigbus_handler`]
//! changes that: the handler puts a page of zeros in the place of the lost one and marks the
//! mapping, so that the copy ends and then says that the file changed. It is opt-in, for binaries;
//! faults outside the maps of this module go to the handler that was there before.
//!
//! The live maps stand in a fixed table, which the handler reads without a lock. A slot goes
//! free (`claimed` false) → claimed (`start` 0) → live (`start` set) → claimed → free.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};
use rustix::fs::{Stat, fstat};

/// How many maps the handler can watch at a time; a source holds one.
const SLOTS: usize = 64;

/// At least what the system maps around a fault, in bytes (64 KiB on Linux unless told otherwise).
const FAULT_AROUND: usize = 256 * 1024;

/// One live map, as the handler sees it.
struct Slot {
    claimed: AtomicBool,
    /// First address; 0 while the slot is not live.
    start: AtomicUsize,
    /// One past the last address of the last page.
    end: AtomicUsize,
    /// Set by the handler: a page of this map was lost.
    fault: AtomicBool,
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        claimed: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        fault: AtomicBool::new(false),
    }
}; SLOTS];

impl Slot {
    /// Makes a free slot live, or says `None` when all are taken.
    fn claim(start: usize, end: usize) -> Option<&'static Slot> {
        // Acquire pairs with the Release in `free`: the slot's earlier life is over.
        let slot = TABLE.iter().find(|slot| {
            slot.claimed.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
        })?;
        slot.fault.store(false, Ordering::Relaxed);
        // Release, for `holds` on another thread: it must not pair an old `start` with this `end`
        // without then seeing that `start` has changed.
        slot.end.store(end, Ordering::Release);
        // Release pairs with the first load in `holds`: who sees `start` sees its `end`.
        slot.start.store(start, Ordering::Release);
        Some(slot)
    }

    fn free(&self) {
        self.start.store(0, Ordering::Release);
        self.claimed.store(false, Ordering::Release);
    }

    /// Whether the slot is live and holds `address`. Called in the signal handler.
    ///
    /// The thread that faults in a map of ours has claimed its slot before, so it sees it live. Other
    /// slots may change meanwhile: `start` is read again after `end` (whose Acquire keeps the order),
    /// so that the start of one life is never joined to the end of the next.
    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(Ordering::Acquire);
        let end = self.end.load(Ordering::Acquire);
        start != 0 && (start..end).contains(&address) && self.start.load(Ordering::Relaxed) == start
    }
}

/// What tells that a file is still the one that was opened: size and time of modification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    pub(super) fn of(seen: &Stat) -> Self {
        let (seconds, nanoseconds) = (seen.st_mtime, seen.st_mtime_nsec as i64);
        Stamp { size: seen.st_size as u64, seconds, nanoseconds }
    }

    /// An error if `file` is not as it was.
    pub(super) fn check(&self, file: &File) -> io::Result<()> {
        let now = Stamp::of(&fstat(file)?);
        if now.size != self.size {
            let what = format!("its size was {} bytes and is {} now", self.size, now.size);
            return Err(io::Error::other(what));
        }
        if now != *self {
            return Err(io::Error::other("it was written to while it was read"));
        }
        Ok(())
    }
}

/// A whole file, mapped for reading.
pub(super) struct Mapped {
    map: MmapRaw,
    file: File,
    stamp: Stamp,
    slot: &'static Slot,
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mapped").field("file", &self.file).field("stamp", &self.stamp).finish()
    }
}

impl Mapped {
    /// Maps `file`, or gives it back when it cannot be mapped (it is empty or too large, the system
    /// refuses, or 64 other maps are live): plain reads are the way then.
    /// `stamp` is what the file must remain.
    pub(super) fn new(file: File, stamp: Stamp) -> Result<Self, File> {
        let Some(len) = usize::try_from(stamp.size).ok().filter(|&len| len > 0) else {
            return Err(file);
        };
        let Ok(map) = MmapOptions::new().len(len).map_raw_read_only(&file) else {
            return Err(file);
        };
        let start = map.as_ptr() as usize;
        match Slot::claim(start, start + len.next_multiple_of(page_size())) {
            Some(slot) => Ok(Mapped { map, file, stamp, slot }),
            None => Err(file),
        }
    }

    /// Appends the `len` bytes from `offset` on to `out`.
    ///
    /// # Errors
    /// The file is not what it was when it was mapped; `out` is as before then.
    ///
    /// # Panics
    /// The range does not lie within the file as it was mapped.
    pub(super) fn copy(&self, offset: usize, len: usize, out: &mut Vec<u8>) -> io::Result<()> {
        self.copy_after(offset, len, out, || ())
    }

    /// [`Self::copy`] with a hook between the look and the copy, for tests.
    fn copy_after(
        &self,
        offset: usize,
        len: usize,
        out: &mut Vec<u8>,
        before_copy: impl FnOnce(),
    ) -> io::Result<()> {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.map.len()),
            "{len} bytes at {offset} of a map of {}",
            self.map.len()
        );
        self.stamp.check(&self.file)?;
        before_copy();
        out.reserve(len);
        let spare = out.spare_capacity_mut()[..len].as_mut_ptr().cast::<u8>();
        // SAFETY: `offset <= self.map.len()` was asserted, so the result is within the mapping.
        let from = unsafe { self.map.as_ptr().add(offset) };
        // SAFETY: `from` is good for `len` bytes: the range lies within the mapping (asserted above),
        // which lives as long as `self`. `spare` is good for `len` bytes: the slice was just cut to
        // that length. The two do not overlap: one is a mapping, the other on the heap. Any byte is a
        // valid u8. Another process may write while we copy; no reference to the mapped bytes exists
        // in this program, and a changed file is refused by the check below. If it was cut off, the
        // handler of `install_sigbus_handler` maps zeros there, or the process ends.
        unsafe { ptr::copy_nonoverlapping(from, spare, len) };
        // The same thread ran the handler, if it ran: Relaxed will do.
        if self.slot.fault.load(Ordering::Relaxed) {
            return Err(io::Error::other("it was cut off while it was read"));
        }
        self.stamp.check(&self.file)?;
        // SAFETY: `len` bytes after the old length were written by the copy, within the capacity.
        unsafe { out.set_len(out.len() + len) };
        self.let_go(offset, len);
        Ok(())
    }

    /// Tells the system that this process is done with these pages, so that its memory does not grow
    /// with the file. Only advice: where it is not taken, the pages stay.
    fn let_go(&self, offset: usize, len: usize) {
        // A fault brings in the pages around it too, those behind included.
        let behind = offset.min(FAULT_AROUND);
        let (offset, len) = (offset - behind, len + behind);
        // SAFETY: the range lies within the map (asserted by `copy_after`). The map is shared and
        // read-only, and no reference to its bytes exists, so dropping pages loses nothing: a later
        // copy faults them in again from the file, with the same care.
        let taken =
            unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
        drop(taken);
    }

    /// An error if the file is no longer what it was.
    pub(super) fn check(&self) -> io::Result<()> {
        self.stamp.check(&self.file)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // Before the map goes (fields are dropped after this): its addresses may then be another's.
        self.slot.free();
    }
}

fn page_size() -> usize {
    // SAFETY: sysconf only reads; it takes any number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Whether ours is installed, so that it never becomes its own predecessor.
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// The handler that was there before: its address, SIG_DFL or SIG_IGN, and its flags.
static PREVIOUS: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static PREVIOUS_TAKES_INFO: AtomicBool = AtomicBool::new(false);
/// The page size, found before the handler needs it.
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// Makes a mapped file that shrinks an error instead of the end of the process.
///
/// For binaries: the library never calls it. A second call does nothing. Signals that do not come
/// from a map of this module go to the handler that was installed before.
///
/// # Errors
/// The system refuses to install a handler.
pub fn install_sigbus_handler() -> io::Result<()> {
    if INSTALLED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    PAGE.store(page_size(), Ordering::Relaxed);
    let previous = sigaction(None)?;
    PREVIOUS_TAKES_INFO.store(previous.sa_flags & libc::SA_SIGINFO != 0, Ordering::Relaxed);
    // Installing comes after these stores on the same thread, and the system call orders them for the
    // others: a handler that runs sees them.
    PREVIOUS.store(previous.sa_sigaction, Ordering::Relaxed);
    let handler: extern "C" fn(_, _, _) = on_sigbus;
    sigaction(Some(handler as *const () as usize)).map(|_| ()).inspect_err(|_| {
        INSTALLED.store(false, Ordering::Relaxed);
    })
}

/// Installs a handler for SIGBUS, if one is given, and says what was there.
fn sigaction(handler: Option<usize>) -> io::Result<libc::sigaction> {
    let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
    let action = handler.map(|handler| {
        // SAFETY: a sigaction of zeros is valid: SIG_DFL, an empty mask, no flags.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = handler;
        action.sa_flags =
            if handler == libc::SIG_DFL { 0 } else { libc::SA_SIGINFO | libc::SA_ONSTACK };
        action
    });
    let new = action.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `new` is null or points to a valid action that outlives the call; `previous` is
    // writable. The handlers passed are SIG_DFL and `on_sigbus`, which has the signature that
    // SA_SIGINFO asks for and calls only what is safe in a handler.
    let result = unsafe { libc::sigaction(libc::SIGBUS, new, previous.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeros are valid (above), and the call has filled it.
    Ok(unsafe { previous.assume_init() })
}

/// The handler. Safe in a signal: atomics, mmap, sigaction and raise only, no allocation, no lock.
extern "C" fn on_sigbus(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the system passes a handler installed with SA_SIGINFO a siginfo that is valid while it runs.
    let what = unsafe { &*info };
    let code = what.si_code;
    // Codes above 0 come from the kernel, and only those carry an address.
    if code > 0 {
        // SAFETY: a SIGBUS from the kernel fills in the address.
        let address = unsafe { what.si_addr() } as usize;
        if let Some(slot) = TABLE.iter().find(|slot| slot.holds(address))
            && put_zero_page(address)
        {
            slot.fault.store(true, Ordering::Relaxed);
            return;
        }
    }
    pass_on(signal, info, context, code);
}

/// Puts a page of zeros in the place of the page that holds `address`.
fn put_zero_page(address: usize) -> bool {
    let page = PAGE.load(Ordering::Relaxed);
    let at = ptr::without_provenance_mut::<libc::c_void>(address & !(page - 1));
    // SAFETY: the address lies in a live map of this module (`Slot::holds`), whose thread is in the
    // midst of a copy from it, here, and so cannot unmap it. One page within that map is replaced;
    // nothing in this program holds a reference into it. The interrupted code may be between a
    // failed call and its look at errno: mmap changes errno only if it fails, and then the process
    // ends.
    let result = unsafe {
        libc::mmap(
            at,
            page,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    result != libc::MAP_FAILED
}

/// Does with a foreign signal what would have been done without us.
fn pass_on(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    code: libc::c_int,
) {
    let previous = PREVIOUS.load(Ordering::Relaxed);
    if previous == libc::SIG_DFL || (previous == libc::SIG_IGN && code > 0) {
        // The faulting instruction runs again after we return and meets the default; a signal that was
        // sent is sent again.
        let _ = sigaction(Some(libc::SIG_DFL));
        if code <= 0 {
            // SAFETY: raise takes any signal and is safe in a handler.
            unsafe { libc::raise(signal) };
        }
    } else if previous != libc::SIG_IGN {
        call_previous(previous, signal, info, context);
    }
}

fn call_previous(
    previous: usize,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    type Plain = extern "C" fn(libc::c_int);
    type WithInfo = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
    if PREVIOUS_TAKES_INFO.load(Ordering::Relaxed) {
        // SAFETY: the address was an installed handler, neither SIG_DFL nor SIG_IGN, and its flags
        // said that it takes three arguments.
        let handler = unsafe { std::mem::transmute::<usize, WithInfo>(previous) };
        handler(signal, info, context);
    } else {
        // SAFETY: as above; without SA_SIGINFO a handler takes one argument.
        let handler = unsafe { std::mem::transmute::<usize, Plain>(previous) };
        handler(signal);
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::io::Write;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    use super::*;

    /// Runs the test `name` of this module once more, in a process of its own, where [`is_child`] holds.
    fn in_own_process(name: &str) -> ExitStatus {
        Command::new(env::current_exe().unwrap())
            .args(["--exact", &format!("corpus::map::tests::{name}"), "--nocapture"])
            .env("TWELVEFOLD_TEST_CHILD", name)
            .output()
            .unwrap()
            .status
    }

    fn is_child(name: &str) -> bool {
        env::var("TWELVEFOLD_TEST_CHILD").is_ok_and(|child| child == name)
    }

    fn mapped(file: File) -> Mapped {
        let stamp = Stamp::of(&fstat(&file).unwrap());
        Mapped::new(file, stamp).unwrap()
    }

    fn file_of(len: usize) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'a'; len]).unwrap();
        file
    }

    /// Pages of this process's map that are in memory, from its own accounts.
    fn resident(map: &Mapped) -> u64 {
        let start = format!("{:x}-", map.map.as_ptr() as usize);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mine = smaps.lines().skip_while(|line| !line.starts_with(&start));
        let rss = mine.skip(1).find_map(|line| line.strip_prefix("Rss:")).unwrap();
        rss.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    #[test]
    fn what_was_copied_is_let_go() {
        let map = mapped(file_of(4 << 20));
        let mut out = Vec::new();
        // Steps that end inside pages, as chunks do.
        for offset in (0..4 << 20).step_by(100_000) {
            map.copy(offset, 100_000.min((4 << 20) - offset), &mut out).unwrap();
        }
        assert_eq!(out.len(), 4 << 20);
        assert!(resident(&map) <= 128, "{} KiB of 4 MiB are still held", resident(&map));
    }

    #[test]
    fn a_copy_gives_the_bytes_of_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..100_000).map(|i| (i % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        let map = mapped(file);
        let mut out = b"before".to_vec();
        map.copy(12_345, 54_321, &mut out).unwrap();
        assert_eq!(&out[..6], b"before");
        assert_eq!(out[6..], bytes[12_345..12_345 + 54_321]);
        map.check().unwrap();
    }

    #[test]
    fn a_file_cut_off_between_two_copies_is_an_error() {
        let file = file_of(100_000);
        let map = mapped(file.try_clone().unwrap());
        let mut out = Vec::new();
        map.copy(0, 50_000, &mut out).unwrap();
        file.set_len(60_000).unwrap();
        let error = map.copy(50_000, 50_000, &mut out).unwrap_err();
        assert_eq!(error.to_string(), "its size was 100000 bytes and is 60000 now");
        assert_eq!(out.len(), 50_000);
    }

    /// The last partial page reads as zeros, without a signal: only the look after the copy tells.
    #[test]
    fn a_file_cut_off_within_its_last_page_is_an_error() {
        let file = file_of(100);
        let map = mapped(file.try_clone().unwrap());
        let mut out = Vec::new();
        let cut_off = || file.set_len(50).unwrap();
        assert!(map.copy_after(0, 100, &mut out, cut_off).is_err());
        assert!(out.is_empty());
    }

    #[test]
    fn with_the_handler_a_file_cut_off_before_the_copy_is_an_error() {
        const NAME: &str = "with_the_handler_a_file_cut_off_before_the_copy_is_an_error";
        if !is_child(NAME) {
            assert!(in_own_process(NAME).success());
            return;
        }
        install_sigbus_handler().unwrap();
        install_sigbus_handler().unwrap();
        let file = file_of(100_000);
        let map = mapped(file.try_clone().unwrap());
        let mut out = Vec::new();
        let cut_off = || file.set_len(10_000).unwrap();
        let error = map.copy_after(0, 100_000, &mut out, cut_off).unwrap_err();
        assert_eq!(error.to_string(), "it was cut off while it was read");
        assert!(out.is_empty());
    }

    /// Also shows that the case above is a real one.
    #[test]
    fn without_the_handler_a_file_cut_off_before_the_copy_ends_the_process() {
        const NAME: &str = "without_the_handler_a_file_cut_off_before_the_copy_ends_the_process";
        if !is_child(NAME) {
            assert_eq!(in_own_process(NAME).signal(), Some(libc::SIGBUS));
            return;
        }
        let file = file_of(100_000);
        let map = mapped(file.try_clone().unwrap());
        let cut_off = || file.set_len(10_000).unwrap();
        let _ = map.copy_after(0, 100_000, &mut Vec::new(), cut_off);
    }

    #[test]
    fn a_fault_in_a_foreign_map_ends_the_process_as_before() {
        const NAME: &str = "a_fault_in_a_foreign_map_ends_the_process_as_before";
        if !is_child(NAME) {
            assert_eq!(in_own_process(NAME).signal(), Some(libc::SIGBUS));
            return;
        }
        install_sigbus_handler().unwrap();
        let ours = mapped(file_of(100_000));
        let file = file_of(100_000);
        let map = MmapOptions::new().map_raw_read_only(&file).unwrap();
        file.set_len(0).unwrap();
        // SAFETY: within the mapping.
        let at = unsafe { map.as_ptr().add(50_000) };
        // SAFETY: the map lives; that it faults is the point.
        let byte = unsafe { at.read_volatile() };
        panic!("read {byte} from a page that is no more, beside {ours:?}");
    }

    /// A handler that was there before gets what is not ours.
    #[test]
    fn a_signal_that_was_sent_goes_to_the_handler_before_ours() {
        const NAME: &str = "a_signal_that_was_sent_goes_to_the_handler_before_ours";
        static SEEN: AtomicBool = AtomicBool::new(false);
        extern "C" fn note(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
            SEEN.store(true, Ordering::Relaxed);
        }
        if !is_child(NAME) {
            assert!(in_own_process(NAME).success());
            return;
        }
        let handler: extern "C" fn(_, _, _) = note;
        sigaction(Some(handler as *const () as usize)).unwrap();
        install_sigbus_handler().unwrap();
        // SAFETY: raise takes any signal.
        unsafe { libc::raise(libc::SIGBUS) };
        assert!(SEEN.load(Ordering::Relaxed));
    }

    #[test]
    fn a_slot_is_free_again_when_its_map_is_dropped() {
        for _ in 0..3 * SLOTS {
            mapped(file_of(10));
        }
    }
}
