//! The documents keep their word: nearly every public item has an example that runs, and every link
//! leads somewhere.

#![expect(clippy::unwrap_used, reason = "a tree that cannot be read is a failed test")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Of a hundred public items of each part so many have an example, at least. Nine in ten is the rule;
/// a part that is not there yet stands at what it has, and may only rise.
const FLOORS: &[(&str, usize)] = &[
    ("cli", 90),
    ("corpus", 18),
    ("engine", 90),
    ("error", 90),
    ("model", 90),
    ("ranks", 90),
    ("report", 90),
    ("spheres", 39),
    ("sync", 90),
    ("train", 60),
];

const DOCUMENTS: [&str; 9] = [
    "README.md",
    "DESIGN.md",
    "CHANGELOG.md",
    "benches/README.md",
    "src/guide/train.md",
    "src/guide/engine.md",
    "src/guide/report.md",
    "src/guide/tune.md",
    "src/guide/ranks.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A public item and whether an example shows it.
#[derive(Debug, PartialEq, Eq)]
struct Item {
    /// Its name, after that of its type or trait where it has one.
    name: String,
    shown: bool,
}

/// The examples of a doc comment that run: rustdoc compiles and executes them.
fn examples(docs: &str) -> String {
    let mut text = String::new();
    let mut fence: Option<bool> = None;
    for line in docs.lines() {
        match (line.trim().strip_prefix("```"), fence) {
            (Some(_), Some(_)) => fence = None,
            (Some(info), None) => {
                let runs = |word: &str| ["", "rust", "should_panic"].contains(&word);
                fence = Some(info.split(',').all(runs));
            }
            (None, Some(true)) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    text
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `text` holds `name` as a whole word with `before` in front of it.
fn mentions(text: &str, before: &str, name: &str) -> bool {
    let wanted = format!("{before}{name}");
    text.match_indices(&wanted).any(|(at, _)| {
        let (front, behind) = (&text[..at], &text[at + wanted.len()..]);
        !behind.starts_with(is_word) && (!before.is_empty() || !front.ends_with(is_word))
    })
}

/// What stands between an open brace and its end.
#[derive(Debug, Clone)]
enum Scope {
    Module,
    /// The methods of a type.
    Type(String),
    Trait(String),
    /// What a trait asks of a type, what is of other builds or of tests: not counted.
    Other,
}

/// Reads one source file, which is as rustfmt leaves it.
#[derive(Debug, Default)]
struct Reader {
    /// With the indent of the line that opens each.
    scopes: Vec<(usize, Scope)>,
    module_docs: String,
    /// Of the item to come.
    docs: String,
    /// The item to come is of another build or of tests.
    elsewhere: bool,
    /// Name, its type or trait, and its doc comment.
    found: Vec<(String, Option<String>, String)>,
}

/// What a line declares, and its name.
fn declared(line: &str) -> Option<(&str, &str)> {
    let kinds = ["fn", "struct", "enum", "trait", "const", "type", "static", "union"];
    let mut words = line.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let qualifies = ["const", "unsafe", "async", "extern"].contains(&word);
        if qualifies && ["fn", "unsafe", "trait"].contains(words.peek()?) {
            continue;
        }
        if kinds.contains(&word) {
            let name = words.next()?;
            return Some((word, name.split(|c| !is_word(c)).next()?));
        }
        return None;
    }
    None
}

/// The type that an `impl` is for; none where it implements a trait.
fn inherent(header: &str) -> Option<String> {
    let mut rest = header.strip_prefix("impl")?;
    if rest.starts_with('<') {
        let mut depth = 0;
        let end = rest.find(|c| {
            depth += i32::from(c == '<') - i32::from(c == '>');
            depth == 0
        })?;
        rest = &rest[end + 1..];
    }
    let is_of_trait = rest.contains(" for ");
    let name: String = rest.trim_start().chars().take_while(|&c| is_word(c)).collect();
    (!is_of_trait && !name.is_empty()).then_some(name)
}

impl Reader {
    fn read(text: &str) -> Vec<Item> {
        let mut reader = Reader::default();
        for line in text.lines() {
            let (indent, words) = (line.len() - line.trim_start().len(), line.trim());
            if words == "}" && reader.scopes.last().is_some_and(|(at, _)| *at == indent) {
                reader.scopes.pop();
            } else if indent == reader.scopes.last().map_or(0, |(at, _)| at + 4) {
                reader.line(indent, words);
            }
        }
        reader.judge()
    }

    fn line(&mut self, indent: usize, words: &str) {
        if let Some(doc) = words.strip_prefix("//!") {
            self.module_docs.push_str(&format!("{doc}\n"));
        } else if let Some(doc) = words.strip_prefix("///") {
            self.docs.push_str(&format!("{doc}\n"));
        } else if let Some(of) = words.strip_prefix("#[cfg(") {
            self.elsewhere |= !of.starts_with("not(") && !of.starts_with("feature");
        } else if !words.starts_with("//") && !words.starts_with(['#', ')', ']']) {
            let docs = std::mem::take(&mut self.docs);
            let scope = self.item(words, docs);
            let opens = words.ends_with('{') || words.starts_with("impl") && !words.ends_with('}');
            if let Some(scope) = scope.filter(|_| opens) {
                self.scopes.push((indent, scope));
            }
            self.elsewhere = false;
        }
    }

    /// Takes note of what a line declares; the scope that it opens.
    fn item(&mut self, line: &str, docs: String) -> Option<Scope> {
        let around = self.scopes.last().map_or(Scope::Module, |(_, scope)| scope.clone());
        let is_scope = ["mod ", "pub mod ", "impl", "pub trait ", "trait ", "pub(crate) mod "]
            .iter()
            .any(|start| line.starts_with(start));
        if self.elsewhere || matches!(around, Scope::Other) {
            return is_scope.then_some(Scope::Other);
        }
        if line.starts_with("impl") {
            return Some(inherent(line).map_or(Scope::Other, Scope::Type));
        }
        let (owner, visible) = match around {
            Scope::Type(owner) => (Some(owner), line.strip_prefix("pub ")),
            Scope::Trait(owner) => (Some(owner), Some(line)),
            _ => (None, line.strip_prefix("pub ")),
        };
        let Some((kind, name)) = visible.and_then(declared) else {
            return is_scope.then_some(if line.contains("mod ") {
                Scope::Module
            } else {
                Scope::Other
            });
        };
        self.found.push((name.to_owned(), owner, docs));
        (kind == "trait").then(|| Scope::Trait(name.to_owned()))
    }

    fn judge(self) -> Vec<Item> {
        let of_module = examples(&self.module_docs);
        // A type's page: its own comment and its methods'.
        let mut pages: HashMap<&str, String> = HashMap::new();
        for (name, owner, docs) in &self.found {
            pages.entry(owner.as_ref().unwrap_or(name)).or_default().push_str(&examples(docs));
        }
        let judge = |(name, owner, docs): &(String, Option<String>, String)| {
            let own = !examples(docs).is_empty();
            let Some(owner) = owner else {
                let shown =
                    [&of_module, &pages[name.as_str()]].map(|text| mentions(text, "", name));
                return Item { name: name.clone(), shown: own || shown.contains(&true) };
            };
            let page = &pages[owner.as_str()];
            let by = [".", &format!("{owner}::"), "fn "];
            let shown = own || by.iter().any(|before| mentions(page, before, name));
            Item { name: format!("{owner}::{name}"), shown }
        };
        self.found.iter().map(judge).collect()
    }
}

/// The source files below a folder, tests left out.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

/// The rule:
///
/// - Counted is what a user can name: public functions, types, traits, constants, the public methods
///   of types and all of traits, wherever the file stands (the lint `unreachable_pub` keeps `pub` for
///   what can be reached). Not counted: modules, re-exports, fields, variants, what a trait asks of a
///   type, and what only tests or the model checker see.
/// - An example is a fenced block that `cargo test` compiles and runs.
/// - An item is shown by an example in its own comment. A method is also shown by one elsewhere on its
///   type's page that calls it: `.name`, `Type::name` or, of a trait, `fn name`. A type is also shown
///   by one of a method of its own that names it, and anything that is no method by one of its module
///   that names it.
#[test]
fn public_items_have_examples_that_run() {
    let mut parts: HashMap<String, (usize, Vec<String>)> = HashMap::new();
    let src = root().join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    files.sort();
    for file in files {
        let name = file.strip_prefix(&src).unwrap().display().to_string();
        let part = name.split(['/', '.']).next().unwrap().to_owned();
        let (count, missing) = parts.entry(part).or_default();
        for item in Reader::read(&fs::read_to_string(&file).unwrap()) {
            *count += 1;
            if !item.shown {
                missing.push(format!("{name}: {}", item.name));
            }
        }
    }
    assert!(parts["engine"].0 > 70, "the items were not found");
    let mut wrong = String::new();
    for (part, (count, missing)) in &parts {
        let floor = FLOORS.iter().find(|(name, _)| name == part).map(|(_, floor)| *floor);
        let floor = floor.or((*count == 0).then_some(0));
        let floor = floor.unwrap_or_else(|| panic!("{part} has no floor"));
        if 100 * (count - missing.len()) < floor * count {
            wrong += &format!("{part}: {} of {count} without: {missing:#?}\n", missing.len());
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_rule_counts_what_it_says() {
    let text = r#"//! Text.
//!
//! ```
//! let x = shown_by_module();
//! ```

/// ```
/// Type::new().called(); // Not: only_named
/// ```
pub struct Type;

impl Type {
    /// As above.
    pub fn new() -> Self {}
    pub fn called(&self) {
        pub fn inner() {}
    }
    pub fn only_named(&self) {}
    fn private(&self) {}
}

impl<T: Into<u8>> Clone for Type<T> {
    fn clone(&self) {}
}

pub fn shown_by_module() {}

/// ```no_run
/// bare();
/// ```
pub const fn bare() {}

/// ```
/// impl Asks for u8 { fn asked() {} }
/// ```
pub trait Asks {
    fn asked();
    fn not_asked();
}

pub(crate) struct Inside;

#[cfg(loom)]
mod stand_in {
    pub fn another_build() {}
}

#[cfg(not(loom))]
mod real {
    /// ```
    /// this_build();
    /// ```
    pub fn this_build() {}
}
"#;
    let items = Reader::read(text);
    let names = |shown| {
        let items = items.iter().filter(move |item| item.shown == shown);
        items.map(|item| item.name.as_str()).collect::<Vec<_>>()
    };
    let shown = [
        "Type",
        "Type::new",
        "Type::called",
        "shown_by_module",
        "Asks",
        "Asks::asked",
        "this_build",
    ];
    assert_eq!(names(true), shown);
    assert_eq!(names(false), ["Type::only_named", "bare", "Asks::not_asked"]);
}

/// The text without what stands in code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The targets of `[words](target)`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let behind = prose.split("](").skip(1);
    behind.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchors that GitHub gives to a document's headings: lower case, spaces as hyphens, other signs
/// dropped; one that comes again is numbered.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for line in prose(text).lines() {
        let heading = line.trim_start_matches('#');
        let level = line.len() - heading.len();
        if !(1..=6).contains(&level) || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().chars().filter(|&c| is_word(c) || c == '-' || c == ' ');
        let slug: String =
            kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
        let numbered = |n: usize| if n == 0 { slug.clone() } else { format!("{slug}-{n}") };
        let free = (0..).map(numbered).find(|slug| !anchors.contains(slug)).unwrap();
        anchors.push(free);
    }
    anchors
}

/// What is wrong with the links of the document at `path`.
fn broken(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let mut broken = Vec::new();
    for link in links(&text) {
        if link.contains("://") {
            continue;
        }
        let (file, anchor) = link.split_once('#').map_or((&*link, None), |(f, a)| (f, Some(a)));
        let target =
            if file.is_empty() { path.to_owned() } else { path.parent().unwrap().join(file) };
        if !target.exists() {
            broken.push(format!("{}: {link}: no such file", path.display()));
        } else if let Some(anchor) = anchor
            && !anchors(&fs::read_to_string(&target).unwrap_or_default()).contains(&anchor.into())
        {
            broken.push(format!("{}: {link}: no such heading", path.display()));
        }
    }
    broken
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let wrong: Vec<String> = DOCUMENTS.iter().flat_map(|name| broken(&root().join(name))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.md");
    let text = "# One, `two` & three-four\n## Same\n### Same\n```\n# code [x](missing)\n```\n\
                [a](#one-two--three-four) [b](a.md#same-1) [c\nd](a.md) [e](https://x.y/#z)\n\
                [f](#same-2) [g](b.md) [h](a.md#code)\n";
    fs::write(&path, text).unwrap();
    let found = broken(&path);
    assert_eq!(found.len(), 3, "{found:#?}");
    for (link, found) in ["#same-2", "b.md", "a.md#code"].iter().zip(&found) {
        assert!(found.contains(link), "{found}");
    }
}
