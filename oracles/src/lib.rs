//! What the tests against other tokenizers share: the vocabularies, and text that trips tokenizers.

use std::fmt::Write as _;

use tiktoken_rs::CoreBPE;
use twelvefold::corpus::tokenizer::{Tokenizer, TokenizerSpec};

/// The well-known vocabularies.
pub const NAMES: [&str; 3] = ["gpt2", "cl100k", "o200k"];

/// tiktoken's own tokenizer of this name.
///
/// # Panics
/// It has none.
pub fn theirs(name: &str) -> CoreBPE {
    let shipped = match name {
        "gpt2" => tiktoken_rs::r50k_base(),
        "cl100k" => tiktoken_rs::cl100k_base(),
        _ => tiktoken_rs::o200k_base(),
    };
    shipped.expect("tiktoken-rs ships it")
}

/// Ours with the same vocabulary, from a file in tiktoken's format.
///
/// # Panics
/// The file cannot be written or read.
pub fn ours(name: &str) -> Tokenizer {
    let (theirs, mut text) = (theirs(name), String::new());
    // Special tokens have no place in such a file; they come after all others.
    let count = [("gpt2", 50_256), ("cl100k", 100_256), ("o200k", 199_998)];
    let count = count.iter().find(|known| known.0 == name).map_or(0, |known| known.1);
    for token in 0..count {
        let bytes = theirs.decode_bytes(&[token]).expect("every number is a token");
        writeln!(text, "{} {token}", base64(&bytes)).expect("a string takes all");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vocabulary.tiktoken");
    std::fs::write(&path, text).expect("a file");
    let spec: TokenizerSpec = format!("{}:{name}", path.display()).parse().expect("it is a name");
    spec.load().expect("it is a vocabulary")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = char::from(DIGITS[(word >> (18 - 6 * i)) as usize & 63]);
            out.push(if i <= group.len() { digit } else { '=' });
        }
    }
    out
}

/// A small generator, so that a failing case comes again.
#[derive(Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }

    /// Any character but a surrogate; each script's plane as likely as the others.
    pub fn character(&mut self) -> char {
        let (start, size) = [
            (0, 0x80),
            (0, 0x300),
            (0x300, 0x500),
            (0x800, 0x1800),
            (0x2000, 0x1000),
            (0x3000, 0x7000),
            (0xA000, 0x6000),
            (0x1_0000, 0x1_0000),
            (0x1_F000, 0x1000),
            (0, 0x11_0000),
        ][self.below(10)];
        char::from_u32(start + self.below(size) as u32).unwrap_or('\u{FFFD}')
    }
}

/// What trips tokenizers, by kind.
const PARTS: &[&str] = &[
    // White space, line ends, control characters.
    " ",
    " ",
    " ",
    "  ",
    "    ",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\t",
    "\u{b}",
    "\u{c}",
    "\u{85}",
    "\u{a0}",
    "\u{3000}",
    "\u{2028}",
    "\u{1680}",
    "\u{1c}",
    "\u{180e}",
    "\u{0}",
    "\u{7f}",
    // Contractions in all cases.
    "'s",
    "'t",
    "'re",
    "'ve",
    "'m",
    "'ll",
    "'d",
    "'S",
    "'LL",
    "'Ve",
    "'ſ",
    "'K",
    "'",
    "’",
    "don't",
    // Words in all cases, letters without case and from compatibility blocks.
    "the",
    "The",
    "THE",
    "quick",
    "camelCase",
    "HTTPServer",
    "a",
    "B",
    "Straße",
    "ΣΑΣ",
    "İ",
    "ǅ",
    "ʰ",
    "ª",
    "é",
    "e\u{301}",
    "\u{301}",
    "\u{20dd}",
    "中文字",
    "日本",
    "한국어",
    "ไทย",
    "हिन्दी",
    "العربية",
    "שלום",
    "Привет",
    // Numbers and signs.
    "1",
    "23",
    "456",
    "7890",
    "½",
    "Ⅷ",
    "٣",
    "²",
    "x1y2",
    "!",
    "...",
    "/",
    "//",
    "_",
    "-",
    "。",
    "(",
    ")",
    "{}",
    "==",
    "!\n",
    "/\n",
    "…\r\n",
    // Emoji with joiners, skin tones and flags; a mark of byte order; special tokens spelled out.
    "😀",
    "👩‍👩‍👧‍👦",
    "👍🏽",
    "🇩🇪",
    "\u{200d}",
    "\u{feff}",
    "\u{fe0f}",
    "\u{FFFD}",
    "<|endoftext|>",
    "<|fim_prefix|>",
    "<|endofprompt|>",
];

/// About `len` bytes of such parts, with a random character now and then.
pub fn nasty_text(rng: &mut Rng, len: usize) -> String {
    let mut text = String::new();
    while text.len() < len {
        match rng.below(8) {
            0 => text.push(rng.character()),
            _ => text.push_str(PARTS[rng.below(PARTS.len())]),
        }
    }
    text
}

/// Texts of one kind each, and long runs of one character.
pub fn nasty_files() -> Vec<(&'static str, String)> {
    let mut rng = Rng(11);
    let mut all: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        (
            "english",
            "The quick brown fox jumps over the lazy dog. It's 1,234 o'clock!\n".repeat(50),
        ),
        ("code", include_str!("lib.rs").repeat(2)),
        ("cjk", "中文字符很多，日本語もあります。한국어도 있습니다。\n\n".repeat(50)),
        ("arabic", "مرحبا بالعالم، هذا نص عربي ١٢٣٤.\n".repeat(50)),
        ("hindi", "नमस्ते दुनिया, यह हिन्दी में एक पाठ है। १२३\n".repeat(50)),
        ("emoji", "👩‍👩‍👧‍👦👍🏽🇩🇪 ok 👨‍💻!\n".repeat(50)),
        ("marks", format!("a{} b", "\u{301}\u{302}".repeat(3000))),
        ("controls", (0..32_u8).cycle().take(2000).map(char::from).collect()),
        ("special tokens", "<|endoftext|><|endofprompt|> <|im_start|>\n".repeat(50)),
        ("no case before upper case", "中AB中Ab ªABCd\u{301}AB \u{301}ab!\u{301}AB".repeat(20)),
    ];
    for (name, part) in
        [("a", "a"), ("spaces", " "), ("newlines", "\n"), ("tabs", "\t"), ("A", "A"), ("ones", "1")]
    {
        all.push((name, part.repeat(20_000)));
    }
    let letters = (0..20_000).map(|_| char::from(b'a' + rng.below(26) as u8)).collect();
    all.push(("letters", letters));
    all.push(("characters", (0..20_000).map(|_| rng.character()).collect()));
    let bytes: Vec<u8> = (0..20_000).map(|_| rng.below(256) as u8).collect();
    all.push(("bytes", String::from_utf8_lossy(&bytes).into_owned()));
    let mut fuzzed = nasty_text(&mut rng, 20_000).into_bytes();
    for _ in 0..1000 {
        let at = rng.below(fuzzed.len());
        fuzzed[at] = rng.below(256) as u8;
    }
    all.push(("fuzzed", String::from_utf8_lossy(&fuzzed).into_owned()));
    all.push(("nasty", nasty_text(&mut rng, 50_000)));
    all
}
