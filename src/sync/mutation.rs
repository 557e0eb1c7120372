//! Planted bugs: every ordering, fence, re-check and wake of the protocol has a name, and under
//! a model checker one of them can be broken by `TWELVEFOLD_MUTANT=name` (several by `one+other`), so
//! that a model can be seen to fail. shuttle knows one order of all accesses only: to it a weaker ordering is no change.
//!
//! In a normal build both functions are constants and cost nothing.

use super::Ordering;

/// Whether the step of the protocol called `site` is to be left out.
#[cfg(any(loom, shuttle))]
pub fn planted(site: &'static str) -> bool {
    use std::sync::OnceLock;
    static MUTANT: OnceLock<Option<String>> = OnceLock::new();
    let mutant = MUTANT.get_or_init(|| std::env::var("TWELVEFOLD_MUTANT").ok());
    mutant.as_deref().is_some_and(|sites| sites.split('+').any(|broken| broken == site))
}

/// Whether the step of the protocol called `site` is to be left out: never, in a normal build.
///
/// ```
/// assert!(!twelvefold::sync::planted("..."));
/// ```
#[cfg(not(any(loom, shuttle)))]
#[inline(always)]
pub const fn planted(_site: &'static str) -> bool {
    false
}

/// The ordering of the access called `site`: `order`, or `Relaxed` where the bug is planted.
///
/// ```
/// use twelvefold::sync::{Ordering, ordering_at};
///
/// assert_eq!(ordering_at("...", Ordering::Acquire), Ordering::Acquire);
/// ```
#[inline(always)]
pub fn ordering_at(site: &'static str, order: Ordering) -> Ordering {
    if planted(site) { Ordering::Relaxed } else { order }
}
