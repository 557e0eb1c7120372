//! A run that several processes share: rank 0 runs it, the others compute what it says.
//!
//! Rank 0 alone reads the text, writes the outputs and tells how it goes. The micro-batches of a step are
//! the same whatever the number of ranks, and with them the bits.

use super::Cancel;
use super::options::Options;
use super::receive::unfinished;
use super::run::{run, run_with};
use super::safetensors::sha256_hex;
use crate::engine::crew::{Crew, Seat};
use crate::engine::shutdown::{Shutdown, Wake};
use crate::engine::wait::{Event, census};
use crate::error::Error;
use crate::model::Isa;
use crate::ranks::{Credentials, Link, Verdict, agree};
use crate::report::{Observer, RunReport};
use crate::spheres::{Start, dismiss, spheres_of};
use crate::sync::Arc;

/// Settings in which ranks may differ: how many threads of their own they have.
const OF_A_RANK: [&str; 2] = ["spheres", "tokenizers"];

/// Rank 0's link before the run has begun: the others wait for its word, and are told where none comes.
#[derive(Debug)]
pub(super) struct Held(Option<Box<dyn Link>>);

impl Held {
    /// How many ranks there are.
    pub(super) fn ranks(&self) -> usize {
        self.0.as_ref().map_or(1, |link| link.ranks())
    }

    /// For the spheres, which say the first word.
    #[expect(clippy::expect_used, reason = "taken once, here")]
    pub(super) fn into_link(mut self) -> Box<dyn Link> {
        self.0.take().expect("a link that is held")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(mut link) = self.0.take()
            && !std::thread::panicking()
        {
            dismiss(&mut *link);
            link.close();
        }
    }
}

/// Every rank has something to do.
pub(super) fn check(options: &Options, ranks: Option<usize>) -> Result<(), Error> {
    match ranks {
        Some(ranks) if ranks > options.micro_batches => Err(Error::Setting {
            name: "--micro-batches",
            value: options.micro_batches.to_string(),
            allowed: format!("{ranks} ranks need at least {ranks}, one each; or start fewer ranks"),
        }),
        _ => Ok(()),
    }
}

/// Compares what the ranks were started as: this one with these options, or with none that could be used
/// and then with the message and the exit code of that.
///
/// All ranks call it, once each, before [`run_among`].
pub fn verdict_of(link: &mut dyn Link, given: Result<&Options, (String, u8)>) -> Verdict {
    let credentials = match given.and_then(|options| facts(options).map_err(refused)) {
        Ok(facts) => Credentials::ready(facts),
        Err((why, code)) => Credentials::refused(why, code),
    };
    agree(link, &credentials)
}

fn refused(error: Error) -> (String, u8) {
    (error.to_string(), 1)
}

/// What must be the same on all ranks.
fn facts(options: &Options) -> Result<Vec<(String, String)>, Error> {
    let program = std::env::current_exe().map_err(|e| Error::io("find", "the program", e))?;
    let bytes = std::fs::read(&program).map_err(|e| Error::io("read", &program, e))?;
    let mut build = sha256_hex(&bytes);
    build.truncate(16);
    let mut facts = vec![
        ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("build".to_owned(), build),
        ("kernels".to_owned(), Isa::detect()?.name().to_owned()),
    ];
    // By way of text, in which an f32 is as short as it was given.
    let settings: serde_json::Value = serde_json::to_string(options)
        .and_then(|text| serde_json::from_str(&text))
        .map_err(|e| Error::input(format!("these settings cannot be compared: {e}"), ""))?;
    for (name, value) in settings.as_object().into_iter().flatten() {
        if !OF_A_RANK.contains(&name.as_str()) {
            let name = format!("--{}", name.replace('_', "-"));
            facts.push((name, value.to_string()));
        }
    }
    Ok(facts)
}

/// [`run`](super::run()) as rank 0 of several that have agreed ([`verdict_of`]).
///
/// # Errors
/// As of [`run`](super::run()), and more ranks than micro-batches. After an error in the middle of something
/// that all share the link has not been closed, since the others wait for this rank: the caller then ends
/// them.
pub fn run_among(
    link: Box<dyn Link>,
    options: &Options,
    cancel: &Cancel,
    observer: &mut dyn Observer,
) -> Result<RunReport, Error> {
    if link.ranks() == 1 {
        link.close();
        return run(options, cancel, observer);
    }
    run_with(options, cancel, observer, Some(Held(Some(link))))
}

/// Another rank than 0 of a run ([`run_among`]), with so many spheres: computes until rank 0 ends it.
///
/// # Errors
/// A sphere that failed. The link has then not been closed, as above.
pub fn run_as_rank(mut link: Box<dyn Link>, leaves: usize) -> Result<(), Error> {
    let _member = census::Member::enter();
    let Some(mut start) = Start::receive(&mut *link)? else {
        link.close();
        return Ok(());
    };
    let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
    let params = std::mem::take(&mut start.params);
    let (mut spheres, bodies) = spheres_of(
        Some(link),
        start.plan,
        params,
        (leaves, None),
        control.clone(),
        shutdown.clone(),
    );
    shutdown.register(vec![Wake::Event(control), Wake::Pool(spheres.pool())]);
    let mut crew = Crew::new(shutdown);
    for mut sphere in bodies {
        let id = sphere.id();
        let body = move |seat: &Seat| {
            sphere.run(seat);
            Ok(())
        };
        crew.spawn(&format!("tf-sphere-{id:02}"), "sphere", id, body)?;
    }
    spheres.take_moments(&start);
    let is_over = spheres.serve();
    spheres.close();
    crew.join()?;
    if is_over { Ok(()) } else { Err(unfinished("a sphere")) }
}
