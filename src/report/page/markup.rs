//! Text that is well-formed, by its type.
//!
//! What comes from outside (paths, samples, settings) enters a page through [`text()`] alone, which escapes it
//! and makes visible what XML forbids and what would move the letters around it. Names of elements and
//! classes are constants of this crate, so a [`Markup`] can neither be left open nor hold a foreign tag.

use std::fmt::{self, Write as _};

/// A piece of a page: each element in it is closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Markup(String);

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<I: IntoIterator<Item = Markup>>(parts: I) -> Self {
        let mut all = Markup::default();
        all.extend(parts);
        all
    }
}

impl Extend<Markup> for Markup {
    fn extend<I: IntoIterator<Item = Markup>>(&mut self, parts: I) {
        for part in parts {
            self.0.push_str(&part.0);
        }
    }
}

/// Any text.
pub(super) fn text(text: &str) -> Markup {
    Markup(escape(text))
}

/// Nothing.
pub(super) fn nothing() -> Markup {
    Markup::default()
}

/// A number as people read it; as it was written, it stands in `value`.
pub(super) fn number(value: f64, shown: &str) -> Markup {
    if !value.is_finite() {
        return text("–");
    }
    Markup(format!("<data value=\"{value}\">{}</data>", escape(shown)))
}

/// A count, with a comma for every thousand.
pub(super) fn count(value: u64) -> Markup {
    Markup(format!("<data value=\"{value}\">{}</data>", grouped(value)))
}

/// An element around its parts.
pub(super) fn element<I: IntoIterator<Item = Markup>>(name: &'static str, parts: I) -> Markup {
    with(name, &[], parts)
}

/// An element with attributes; their values may be any text.
pub(super) fn with<I: IntoIterator<Item = Markup>>(
    name: &'static str,
    attributes: &[(&'static str, &str)],
    parts: I,
) -> Markup {
    let mut all = format!("<{name}");
    for (attribute, value) in attributes {
        // Within an attribute a line end would be read as a blank.
        let value = escape(value).replace('\n', "&#10;").replace('\t', "&#9;");
        let _ = write!(all, " {attribute}=\"{value}\"");
    }
    all.push('>');
    let inner: Markup = parts.into_iter().collect();
    let _ = write!(all, "{inner}</{name}>");
    if ["section", "figure", "table", "tr", "p", "svg", "g", "header"].contains(&name) {
        all.push('\n');
    }
    Markup(all)
}

/// A paragraph of text.
pub(super) fn paragraph(class: &'static str, content: &str) -> Markup {
    with("p", &[("class", class)], [text(content)])
}

/// A table whose first column names its rows.
pub(super) fn table(caption: &str, header: &[&str], rows: Vec<Vec<Markup>>) -> Markup {
    if rows.is_empty() {
        return nothing();
    }
    let head = header.iter().map(|name| with("th", &[("scope", "col")], [text(name)]));
    let body = rows.into_iter().map(|row| {
        let cells = row.into_iter().enumerate().map(|(at, cell)| match at {
            0 => with("th", &[("scope", "row")], [cell]),
            _ => element("td", [cell]),
        });
        element("tr", cells)
    });
    let inner = [
        element("caption", [text(caption)]),
        element("thead", [element("tr", head)]),
        element("tbody", body),
    ];
    // A wide one scrolls by itself, with the keyboard too.
    let attributes = [("class", "scroll"), ("tabindex", "0"), ("role", "group")];
    let label = [("aria-label", caption)];
    with("div", &[&attributes[..], &label[..]].concat(), [element("table", inner)])
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut all = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            all.push(',');
        }
        all.push(digit);
    }
    all
}

/// Escapes what means something to a reader of HTML or XML. A control character becomes its picture
/// (`␛`), and U+FFFD what has none: the other controls, what XML has no place for, and what turns the
/// direction of the text behind it.
fn escape(text: &str) -> String {
    let mut all = String::with_capacity(text.len() + text.len() / 16);
    for c in text.chars() {
        match c {
            '&' => all.push_str("&amp;"),
            '<' => all.push_str("&lt;"),
            '>' => all.push_str("&gt;"),
            '"' => all.push_str("&quot;"),
            '\'' => all.push_str("&#39;"),
            '\n' | '\t' => all.push(c),
            '\0'..='\u{1f}' => all.push(char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}')),
            '\u{7f}' => all.push('\u{2421}'),
            '\u{80}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => all.push('\u{fffd}'),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => all.push('\u{fffd}'),
            _ => all.push(c),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{count, element, grouped, nothing, number, table, text, with};

    #[test]
    fn no_text_from_outside_becomes_a_tag_an_attribute_or_a_control() {
        let evil =
            "<script>a&b</script>\" onload='x'\u{0}\u{1b}[2J\u{7f}\u{85}\u{fffe}\u{202e}\n\t!";
        let seen = "&lt;script&gt;a&amp;b&lt;/script&gt;&quot; onload=&#39;x&#39;␀␛[2J␡\u{fffd}\u{fffd}\u{fffd}";
        assert_eq!(text(evil).to_string(), format!("{seen}\n\t!"));
        let held = with("td", &[("title", evil)], []).to_string();
        assert_eq!(held, format!("<td title=\"{seen}&#10;&#9;!\"></td>"));
        assert_eq!(text("\r").to_string(), "␍");
    }

    #[test]
    fn a_number_stands_there_to_its_last_bit() {
        let third = number(1.0 / 3.0, "0.33").to_string();
        assert_eq!(third, "<data value=\"0.3333333333333333\">0.33</data>");
        assert_eq!(number(f64::NAN, "NaN"), text("–"));
        assert_eq!(count(1_234).to_string(), "<data value=\"1234\">1,234</data>");
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        cases.into_iter().for_each(|(value, text)| assert_eq!(grouped(value), text));
    }

    #[test]
    fn a_table_without_rows_is_none() {
        assert_eq!(table("empty", &["a"], Vec::new()), nothing());
        let rows = vec![vec![text("x"), text("y")]];
        let one = table("c", &["a", "b"], rows).to_string();
        assert!(one.contains("<th scope=\"row\">x</th><td>y</td>"), "{one}");
        assert_eq!(element("b", [text("<")]).to_string(), "<b>&lt;</b>");
    }
}
