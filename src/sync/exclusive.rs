//! A value that is only ever reached by its owner, and may therefore be `Sync` whatever it is.

#![expect(unsafe_code, reason = "`Sync` for a value that no shared reference leads to")]

/// Gives its value to whoever owns it or holds it exclusively, and to nobody else.
///
/// The standard library has this type as the unstable `std::sync::Exclusive`.
///
/// ```
/// use std::cell::Cell;
/// use twelvefold::sync::Exclusive;
///
/// fn share<T: Sync>(_: &T) {}
/// let locked = Exclusive::new(Cell::new(1)); // A cell alone is not `Sync`.
/// share(&locked);
/// assert_eq!(locked.into_inner().get(), 1);
/// ```
#[derive(Default)]
pub struct Exclusive<T>(T);

// SAFETY: a `&Exclusive<T>` gives no access to the `T` at all, so sharing it between threads shares
// nothing.
unsafe impl<T> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    /// Locks the value away.
    pub const fn new(value: T) -> Self {
        Exclusive(value)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> std::fmt::Debug for Exclusive<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exclusive(..)")
    }
}
