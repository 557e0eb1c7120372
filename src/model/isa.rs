//! Kernels per instruction set, chosen when the program runs.
//!
//! A kernel is written once, as an `#[inline(always)]` function over `const FMA: bool`. The macro
//! `dispatch!` compiles it three times: for AVX-512, for AVX2 with FMA, and for whatever the build
//! targets (`FMA = false`), and writes the function that chooses. So a plain
//! `cargo build --release` is fast on every machine that it runs on.
//!
//! The two vector paths give the same bits as each other: the order of every sum is written out in
//! the kernel, over 16 lanes. `portable` rounds a product before it is added and differs in the last
//! bits; a run must therefore stay on the path that it began with.
//!
//! The only unsafe blocks are the two calls that `dispatch!` writes, below.

use crate::error::Error;

/// The environment variable that overrides the choice.
const VARIABLE: &str = "TWELVEFOLD_KERNELS";

/// An instruction set that this machine has. A value is the evidence: it comes from a check of the
/// processor, and nothing else makes one.
///
/// ```
/// use twelvefold::model::Isa;
/// assert_eq!(Isa::named("portable")?.name(), "portable");
/// assert!(Isa::named("mmx").is_err());
/// assert!(Isa::available().contains(&Isa::detect()?));
/// # Ok::<(), twelvefold::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Path);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The best that the processor has, or the one that `TWELVEFOLD_KERNELS` names
    /// (`avx512`, `avx2` or `portable`).
    ///
    /// # Errors
    /// [`Error::Setting`] where the variable names an unknown path, or one that the processor lacks.
    pub fn detect() -> Result<Isa, Error> {
        match std::env::var_os(VARIABLE) {
            Some(name) => Isa::named(&name.to_string_lossy()),
            None => Ok(Isa::available()[0]),
        }
    }

    /// The path of this name, as [`Isa::name`] gives it.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is no such path, or the processor lacks it.
    pub fn named(name: &str) -> Result<Isa, Error> {
        let available = Isa::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
            let allowed = format!("this machine has {}", names.join(", "));
            Error::Setting { name: VARIABLE, value: name.to_string(), allowed }
        })
    }

    /// What this processor has, the fastest first; `portable` is always the last.
    pub fn available() -> Vec<Isa> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("avx512f") {
                found.push(Isa(Path::Avx512));
            }
            if avx2 {
                found.push(Isa(Path::Avx2));
            }
        }
        found.push(Isa(Path::Portable));
        found
    }

    /// `avx512`, `avx2` or `portable`: what a checkpoint records.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "avx2",
            Path::Portable => "portable",
        }
    }

    pub(crate) fn path(self) -> Path {
        self.0
    }
}

/// Compiles a kernel for every path and writes the function that chooses among them.
///
/// `dispatch! { /// docs  pub(crate) fn name(arg: Type, ..) = body; }` makes
/// `name(isa: Isa, arg: Type, ..)` of `#[inline(always)] fn body<const FMA: bool>(arg: Type, ..)`.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $body:ident;) => {
        $(#[$meta])*
        #[expect(unsafe_code, reason = "the block is checked in isa.rs, where it is written")]
        $vis fn $name(isa: $crate::model::isa::Isa, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn avx512($($arg: $type),*) $(-> $ret)? {
                $body::<true>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) $(-> $ret)? {
                $body::<true>($($arg),*)
            }
            match isa.path() {
                // SAFETY: an `Isa` of this path exists only where `Isa::available` found avx512f,
                // avx2 and fma on the running processor; the function needs nothing else.
                #[cfg(target_arch = "x86_64")]
                $crate::model::isa::Path::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above, with avx2 and fma.
                #[cfg(target_arch = "x86_64")]
                $crate::model::isa::Path::Avx2 => unsafe { avx2($($arg),*) },
                $crate::model::isa::Path::Portable => $body::<false>($($arg),*),
            }
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_path_is_refused_with_the_names_of_those_there_are() {
        let message = Isa::named("sse9").unwrap_err().to_string();
        assert!(message.starts_with("TWELVEFOLD_KERNELS sse9 is not possible"), "{message}");
        assert!(message.ends_with("portable"), "{message}");
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.name()).unwrap(), isa);
        }
    }
}
