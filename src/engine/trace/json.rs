//! A trace as Chrome's trace events: a JSON array, an event a line, in the order of time.
//!
//! | event | `ph` | what it is |
//! |---|---|---|
//! | names | `M` | of the process and of each thread |
//! | a span | `X` | `ts` and `dur` in microseconds, with the nanoseconds behind the point |
//! | an arrow | `s`, `t`, `f` | begins, passes, ends; its number is its own in the file |
//! | a level | `C` | of a counter of the process |
//! | what is missing | `i` | on the thread whose ring was full; on the control thread beyond the limit |
//!
//! An arrow begins where its first span begins and ends where its last one ends: what is sent is sent and
//! received between the two, whatever the threads did before they read the clock. Between them it passes
//! as early as its span allows.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use super::{Role, Span, Trace};

/// What is known of a road.
#[derive(Debug, Default)]
struct Road {
    /// When its first span began.
    start: Option<u64>,
    step: bool,
    end: bool,
    /// Its number in the file.
    number: usize,
}

/// The tags of a thread, as they stand behind a span's own numbers.
pub(super) fn tags(tags: &[(&str, u64)]) -> String {
    let tag = |(name, value): &(&str, u64)| format!("{}:{value}", quoted(name));
    tags.iter().map(tag).collect::<Vec<_>>().join(",")
}

pub(super) fn write(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    let mut writer = Writer { trace, process: std::process::id(), text: String::new() };
    writer.names();
    writer.line(out)?;
    let spans = sorted(trace);
    let roads = roads(trace);
    for &at in &spans {
        let (track, span) = &trace.spans[at];
        writer.span(*track, span);
        writer.arrows(*track, span, &roads);
        writer.line(out)?;
    }
    writer.levels();
    writer.line(out)?;
    writer.missing();
    writer.line(out)?;
    out.write_all(b"\n]\n")
}

/// The spans by time; of two that begin at once the outer first.
fn sorted(trace: &Trace) -> Vec<usize> {
    let mut order: Vec<usize> = (0..trace.spans.len()).collect();
    order.sort_unstable_by_key(|&at| {
        let span = &trace.spans[at].1;
        (span.begun, std::cmp::Reverse(span.ended), at)
    });
    order
}

fn roads(trace: &Trace) -> HashMap<u64, Road> {
    let mut roads: HashMap<u64, Road> = HashMap::new();
    for (_, span) in &trace.spans {
        for key in span.mark.flow.roads() {
            let number = roads.len() + 1;
            let road = roads.entry(key).or_insert(Road { number, ..Road::default() });
            match span.mark.flow.role {
                Role::Start => road.start = Some(span.begun),
                Role::Step => road.step = true,
                Role::End => road.end = true,
            }
        }
    }
    roads.retain(|_, road| road.start.is_some() && (road.step || road.end));
    roads
}

struct Writer<'a> {
    trace: &'a Trace,
    process: u32,
    /// What is not written yet; all events but the first have a comma before them.
    text: String,
}

impl Writer<'_> {
    fn line(&mut self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }

    fn thread(&self, track: usize) -> u32 {
        self.trace.tracks[track].thread
    }

    fn names(&mut self) {
        let (process, name) = (self.process, quoted(&self.trace.process));
        let _ = write!(
            self.text,
            "[\n{{\"ph\":\"M\",\"pid\":{process},\"name\":\"process_name\",\"args\":{{\"name\":{name}}}}}"
        );
        // One without an id never began.
        for track in self.trace.tracks.iter().filter(|track| track.thread != 0) {
            let (thread, name) = (track.thread, quoted(&track.name));
            let _ = write!(
                self.text,
                ",\n{{\"ph\":\"M\",\"pid\":{process},\"tid\":{thread},\"name\":\"thread_name\",\"args\":{{\"name\":{name}}}}}"
            );
        }
    }

    /// What every event but a name begins with.
    fn event(&mut self, ph: &str, track: usize, at: u64) {
        let (process, thread) = (self.process, self.thread(track));
        let _ =
            write!(self.text, ",\n{{\"ph\":\"{ph}\",\"pid\":{process},\"tid\":{thread},\"ts\":");
        self.microseconds(at);
    }

    fn microseconds(&mut self, ns: u64) {
        let _ = write!(self.text, "{}.{:03}", ns / 1000, ns % 1000);
    }

    fn span(&mut self, track: usize, span: &Span) {
        self.event("X", track, span.begun);
        self.text.push_str(",\"dur\":");
        self.microseconds(span.ended - span.begun);
        let label = span.mark.label;
        let _ = write!(self.text, ",\"name\":\"{}\",\"args\":{{", label.name);
        let mut comma = "";
        for (name, value) in label.args.iter().zip(span.mark.args).filter(|(n, _)| !n.is_empty()) {
            let _ = write!(self.text, "{comma}\"{name}\":{value}");
            comma = ",";
        }
        let tags = &self.trace.tracks[track].tags;
        if !tags.is_empty() {
            let _ = write!(self.text, "{comma}{tags}");
        }
        self.text.push_str("}}");
    }

    fn arrows(&mut self, track: usize, span: &Span, roads: &HashMap<u64, Road>) {
        for road in span.mark.flow.roads().filter_map(|key| roads.get(&key)) {
            // A viewer takes a span for ended at its last moment.
            let last = span.ended.saturating_sub(1).max(span.begun);
            let (ph, at) = match span.mark.flow.role {
                Role::Start => ("s", span.begun),
                Role::Step if road.end => ("t", road.start.unwrap_or(0).clamp(span.begun, last)),
                // What was to come after it was not recorded.
                Role::Step | Role::End => ("f", last),
            };
            self.event(ph, track, at);
            let bind = if ph == "s" { "" } else { ",\"bp\":\"e\"" };
            let number = road.number;
            let _ =
                write!(self.text, ",\"cat\":\"road\",\"name\":\"road\",\"id\":{number}{bind}}}");
        }
    }

    fn levels(&mut self) {
        for level in &self.trace.levels {
            self.event("C", 0, level.at);
            let (name, value) = (quoted(&self.trace.counters[level.counter].name), level.value);
            let _ = write!(self.text, ",\"name\":{name},\"args\":{{\"items\":{value}}}}}");
        }
    }

    fn missing(&mut self) {
        let end = self.trace.spans.iter().map(|(_, span)| span.ended).max().unwrap_or(0);
        let full = self.trace.tracks.iter().map(super::Track::lost).enumerate();
        let all = full.map(|(track, lost)| (track, "the ring was full", lost));
        for (track, why, count) in all.chain([(0, "the trace was full", self.trace.left_out)]) {
            if count > 0 {
                self.event("i", track, end);
                let _ = write!(
                    self.text,
                    ",\"s\":\"t\",\"name\":\"events missing: {why}\",\"args\":{{\"events\":{count}}}}}"
                );
            }
        }
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
