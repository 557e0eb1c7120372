#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "an instruction by pointer"))]
//! Asks for memory before it is needed.

/// Has the line that begins there brought near; the program goes on meanwhile. Nothing elsewhere.
#[inline]
pub(super) fn fetch<T>(at: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it asks for SSE, which is part of x86-64, and touches no memory that the program could
    // tell from what was there before: any address would do, and this one is borrowed.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
