//! A vector register, one type per path.
#![expect(unsafe_code, reason = "loads and stores by pointer, and instructions by processor")]

/// As many f32 as the path's registers hold.
///
/// The functions that make a value are unsafe: they need the path's instructions. A value is then the
/// evidence that the processor has them.
pub(super) trait Lanes: Copy {
    /// f32 in a register.
    const N: usize;

    /// # Safety
    /// The processor has the path's instructions.
    unsafe fn zero() -> Self;

    /// All lanes are the f32 at `from`.
    ///
    /// # Safety
    /// As [`Lanes::zero`]; `from` is valid for a read.
    unsafe fn spread(from: *const f32) -> Self;

    /// # Safety
    /// As [`Lanes::zero`]; `from` is valid for a read of `N` f32.
    unsafe fn load(from: *const f32) -> Self;

    /// The first `n` lanes; the others are 0. `n` is at most `N`.
    ///
    /// # Safety
    /// As [`Lanes::zero`]; `from` is valid for a read of `n` f32.
    unsafe fn load_part(from: *const f32, n: usize) -> Self;

    /// # Safety
    /// `to` is valid for a write of `N` f32.
    unsafe fn store(self, to: *mut f32);

    /// The first `n` lanes, at most `N`.
    ///
    /// # Safety
    /// `to` is valid for a write of `n` f32.
    unsafe fn store_part(self, to: *mut f32, n: usize);

    /// Says that the line at `at` will be read; any address will do. Where a path has no instruction
    /// for it, nothing happens.
    #[inline(always)]
    fn fetch(_at: *const f32) {}

    /// self + a b, rounded once where the path has the instruction.
    fn add_product(self, a: Self, b: Self) -> Self;

    /// self + a.
    fn plus(self, a: Self) -> Self;
}

/// Four lanes of whatever the build targets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plain<const FMA: bool>([f32; 4]);

impl<const FMA: bool> Lanes for Plain<FMA> {
    const N: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Plain([0.0; 4])
    }

    #[inline(always)]
    unsafe fn spread(from: *const f32) -> Self {
        // SAFETY: the caller promises a valid f32.
        Plain([unsafe { from.read() }; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller promises four f32; an array of them needs no other alignment.
        Plain(unsafe { from.cast::<[f32; 4]>().read() })
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; 4];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: the caller promises n f32, and i is less.
            *lane = unsafe { from.wrapping_add(i).read() };
        }
        Plain(lanes)
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller promises room for four f32.
        unsafe { to.cast::<[f32; 4]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            // SAFETY: the caller promises room for n f32, and i is less.
            unsafe { to.wrapping_add(i).write(*lane) }
        }
    }

    #[inline(always)]
    fn add_product(self, a: Self, b: Self) -> Self {
        let mut lanes = self.0;
        for (lane, (a, b)) in lanes.iter_mut().zip(a.0.into_iter().zip(b.0)) {
            *lane = if FMA { a.mul_add(b, *lane) } else { a * b + *lane };
        }
        Plain(lanes)
    }

    #[inline(always)]
    fn plus(self, a: Self) -> Self {
        let mut lanes = self.0;
        for (lane, a) in lanes.iter_mut().zip(a.0) {
            *lane += a;
        }
        Plain(lanes)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Ymm, Zmm};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::{
        __m256, __m256i, __m512, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_cmpgt_epi32,
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_maskload_ps, _mm256_maskstore_ps,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_storeu_ps,
        _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    /// AVX-512: sixteen lanes.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Zmm(__m512);

    /// AVX2 with FMA: eight lanes.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Ymm(__m256);

    impl Lanes for Zmm {
        const N: usize = 16;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the caller promises AVX-512F.
            Zmm(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn spread(from: *const f32) -> Self {
            // SAFETY: the caller promises a valid f32.
            let x = unsafe { from.read() };
            // SAFETY: the caller promises AVX-512F.
            Zmm(unsafe { _mm512_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller promises AVX-512F and sixteen f32.
            Zmm(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_part(from: *const f32, n: usize) -> Self {
            // SAFETY: the caller promises AVX-512F and n f32; lanes that are masked are not read.
            Zmm(unsafe { _mm512_maskz_loadu_ps(first(n), from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: a `Zmm` is the evidence of AVX-512F; the caller promises room for sixteen f32.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn store_part(self, to: *mut f32, n: usize) {
            // SAFETY: as above, for n f32; lanes that are masked are not written.
            unsafe { _mm512_mask_storeu_ps(to, first(n), self.0) }
        }

        #[inline(always)]
        fn fetch(at: *const f32) {
            // SAFETY: every x86-64 processor has the instruction, and it reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: a `Zmm` is the evidence of AVX-512F.
            Zmm(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        fn plus(self, a: Self) -> Self {
            // SAFETY: a `Zmm` is the evidence of AVX-512F.
            Zmm(unsafe { _mm512_add_ps(self.0, a.0) })
        }
    }

    /// The mask of the first `n` lanes of sixteen.
    #[inline(always)]
    fn first(n: usize) -> u16 {
        ((1u32 << n) - 1) as u16
    }

    impl Lanes for Ymm {
        const N: usize = 8;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: the caller promises AVX2.
            Ymm(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn spread(from: *const f32) -> Self {
            // SAFETY: the caller promises a valid f32.
            let x = unsafe { from.read() };
            // SAFETY: the caller promises AVX2.
            Ymm(unsafe { _mm256_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller promises AVX2 and eight f32.
            Ymm(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn load_part(from: *const f32, n: usize) -> Self {
            // SAFETY: the caller promises AVX2.
            let mask = unsafe { half(n) };
            // SAFETY: the caller promises AVX2 and n f32; lanes that are masked are not read.
            Ymm(unsafe { _mm256_maskload_ps(from, mask) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: a `Ymm` is the evidence of AVX2; the caller promises room for eight f32.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn store_part(self, to: *mut f32, n: usize) {
            // SAFETY: a `Ymm` is the evidence of AVX2.
            let mask = unsafe { half(n) };
            // SAFETY: as above, for n f32; lanes that are masked are not written.
            unsafe { _mm256_maskstore_ps(to, mask, self.0) }
        }

        #[inline(always)]
        fn fetch(at: *const f32) {
            // SAFETY: every x86-64 processor has the instruction, and it reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }

        #[inline(always)]
        fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: a `Ymm` is made only where AVX2 and FMA are.
            Ymm(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }

        #[inline(always)]
        fn plus(self, a: Self) -> Self {
            // SAFETY: a `Ymm` is the evidence of AVX2.
            Ymm(unsafe { _mm256_add_ps(self.0, a.0) })
        }
    }

    /// The mask of the first `n` lanes of eight.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn half(n: usize) -> __m256i {
        // SAFETY: the caller promises AVX2.
        let lanes = unsafe { _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7) };
        // SAFETY: the caller promises AVX2.
        let n = unsafe { _mm256_set1_epi32(n as i32) };
        // SAFETY: the caller promises AVX2.
        unsafe { _mm256_cmpgt_epi32(n, lanes) }
    }
}
