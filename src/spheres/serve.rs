//! What rank 0 says to the others, and how they do it.
//!
//! Rank 0 alone knows the run: it reads the text, decides, saves and reports. The others are told the plan
//! and the parameters once, and then one command after another.

use super::Spheres;
use super::plan::{Job, Outcome, Plan};
use super::tally::{VERDICT_WORDS, read_outcome, write_outcome};
use super::team::{ANSWER, BEGINNING, COMMAND, MOMENTS, Team};
use crate::model::adamw::AdamW;
use crate::model::{Config, Isa, Layout};
use crate::ranks::{Done, Link, Patience, Read, Words, Write};

const CLOSE: u64 = 0;
const START: u64 = 1;
pub(super) const STEP: u64 = 2;
const EVALUATE: u64 = 3;
const SEND_MOMENTS: u64 = 4;

/// Words of a command without its tokens.
const COMMAND_WORDS: usize = 64;
/// Words of what a rank did.
const COUNT_WORDS: usize = 256;

/// What a rank did in a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RankCount {
    /// Its number.
    pub(crate) rank: usize,
    /// Its machine.
    pub(crate) host: String,
    /// Its spheres.
    pub(crate) spheres: usize,
    /// Its micro-batches in each step.
    pub(crate) micro_batches: usize,
    /// Parameters that it owns: it keeps their moments and updates them.
    pub(crate) parameters: usize,
    /// Tasks that its spheres finished.
    pub(crate) tasks: u64,
    /// Time inside tasks, all its spheres together, in seconds.
    pub(crate) busy_seconds: f64,
    /// Time in which it waited for other ranks with nothing to compute, in seconds.
    pub(crate) waited_seconds: f64,
    /// Bytes that it sent.
    pub(crate) sent_bytes: u64,
}

/// What a rank is told before the first step.
#[derive(Debug)]
pub(crate) struct Start {
    /// What the steps have in common.
    pub(crate) plan: Plan,
    /// The parameters.
    pub(crate) params: Vec<f32>,
    /// Whether the moments follow.
    has_moments: bool,
}

impl Start {
    /// Waits for rank 0's word. `None`: there is nothing to do.
    ///
    /// # Errors
    /// The machine has no kernels to run.
    pub(crate) fn receive(link: &mut dyn Link) -> Result<Option<Start>, crate::Error> {
        let words = receive(link, 0, COMMAND, COMMAND_WORDS);
        let mut read = Read::new(&words);
        if read.number() != START {
            return Ok(None);
        }
        let has_moments = read.number() == 1;
        let plan = read_plan(&mut read, Isa::detect()?);
        let params = receive(link, 0, BEGINNING, Layout::new(&plan.config).len());
        let params = bytemuck::allocation::cast_vec(params);
        Ok(Some(Start { plan, params, has_moments }))
    }
}

/// Tells the other ranks that there is nothing to do: before they were told to start.
pub(crate) fn dismiss(link: &mut dyn Link) {
    let mut message = Write::default();
    message.number(CLOSE);
    link.send_all(COMMAND, 0, message.words());
    let mut patience = Patience::default();
    while link.progress().is_none() {
        patience.pause();
    }
}

/// Waits for one message, where nothing else is begun.
fn receive(link: &mut dyn Link, from: usize, tag: u32, most: usize) -> Words {
    link.receive(from, tag, 0, vec![0; most]);
    let mut patience = Patience::default();
    loop {
        match link.progress() {
            Some(Done::Received { words, .. }) => return words,
            Some(Done::Sent { .. }) => {}
            None => patience.pause(),
        }
    }
}

fn write_plan(message: &mut Write, plan: &Plan) {
    let Plan { config, batch, micro_batches, clip, adamw, isa: _, separator } = *plan;
    let Config { vocab, layers, heads, width, context } = config;
    for number in [vocab, layers, heads, width, context, batch, micro_batches] {
        message.number(number as u64);
    }
    let AdamW { beta1, beta2, eps, weight_decay } = adamw;
    for float in [clip, beta1, beta2, eps, weight_decay] {
        message.float(float);
    }
    message.number(separator.map_or(u64::MAX, u64::from));
}

fn read_plan(read: &mut Read<'_>, isa: Isa) -> Plan {
    let mut number = || read.number() as usize;
    let config = Config {
        vocab: number(),
        layers: number(),
        heads: number(),
        width: number(),
        context: number(),
    };
    let (batch, micro_batches) = (number(), number());
    let mut float = || read.float();
    let clip = float();
    let adamw = AdamW { beta1: float(), beta2: float(), eps: float(), weight_decay: float() };
    let separator = u32::try_from(read.number()).ok();
    Plan { config, batch, micro_batches, clip, adamw, isa, separator }
}

/// What rank 0 says.
impl Spheres {
    /// Tells the other ranks how the run begins. Where there are none, nothing.
    pub(crate) fn begin_run(&mut self, moments: Option<(&[f32], &[f32])>) {
        if self.team.is_none() {
            return;
        }
        let mut message = self.team().buffer();
        message.number(START).number(moments.is_some().into());
        write_plan(&mut message, self.work.plan());
        self.team().send_all(COMMAND, message);
        let mut message = self.team().buffer();
        self.with_params(|params| message.all(bytemuck::cast_slice(params)));
        self.team().send_all(BEGINNING, message);
        if let Some((m, v)) = moments {
            for tile in self.owned_by_others() {
                let (mut part_m, mut part_v) = self.room(tile);
                self.work.gather(tile, m, &mut part_m);
                self.work.gather(tile, v, &mut part_v);
                self.send_moments(self.work.shares().owner(tile), &part_m, &part_v);
            }
        }
        self.exchange(Team::is_quiet);
        // The steps need small ones.
        self.team().drop_buffers();
    }

    fn room(&self, tile: usize) -> (Vec<f32>, Vec<f32>) {
        let len = self.work.tiles()[tile].len();
        (vec![0.0; len], vec![0.0; len])
    }

    fn owned_by_others(&self) -> impl Iterator<Item = usize> + use<> {
        let shares = self.work.shares();
        let (own, all) = (shares.owned(shares.rank()), self.work.tiles().len());
        (0..all).filter(move |tile| !own.contains(tile))
    }

    /// Sends a tile's moments, and waits until they have left: one tile's are on the way at a time.
    fn send_moments(&mut self, to: usize, m: &[f32], v: &[f32]) {
        let mut message = self.team().buffer();
        message.all(bytemuck::cast_slice(m)).all(bytemuck::cast_slice(v));
        self.team().send(to, MOMENTS, message);
        self.exchange(Team::is_quiet);
    }

    /// Has the other ranks send their moments, in the order of the tiles.
    pub(super) fn ask_for_moments(&mut self) {
        if self.team.is_some() {
            let mut message = self.team().buffer();
            message.number(SEND_MOMENTS);
            self.team().send_all(COMMAND, message);
        }
    }

    /// The moments of a tile of another rank, which was asked for them.
    pub(super) fn moments_of(&mut self, tile: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut m, mut v) = self.room(tile);
        let owner = self.work.shares().owner(tile);
        self.team().expect(owner, MOMENTS, 2 * m.len());
        let words = self.message();
        let (first, second) = words.split_at(m.len());
        m.copy_from_slice(bytemuck::cast_slice(first));
        v.copy_from_slice(bytemuck::cast_slice(second));
        self.team().give_back(words);
        (m, v)
    }

    /// Evaluates as many jobs as there are ranks, or fewer: each rank one, of at most a micro-batch. The
    /// outcomes in the jobs' order; `None` when this rank was stopped.
    ///
    /// # Panics
    /// When a step is open, there are more jobs than ranks, or a job is empty.
    pub fn evaluate(&mut self, jobs: &mut [Job]) -> Option<Vec<Outcome>> {
        assert!(jobs.len() <= self.ranks(), "{} jobs for {} ranks", jobs.len(), self.ranks());
        let Some((own, others)) = jobs.split_first_mut() else {
            return Some(Vec::new());
        };
        for (rank, job) in (1..).zip(&*others) {
            let mut message = self.team().buffer();
            message.number(EVALUATE).number(job.inputs.len() as u64);
            message.all(&job.inputs).all(&job.targets);
            self.team().send(rank, COMMAND, message);
            self.team().expect(rank, ANSWER, VERDICT_WORDS);
        }
        let answers = others.len();
        if let Some(team) = &mut self.team {
            team.is_shared = true;
        }
        self.begin_evaluation(own);
        if answers > 0 && !self.drive(|_, team| team.is_quiet() && team.messages() == answers) {
            return None;
        }
        let mut outcomes = vec![self.publisher.wait().then(|| self.work.close(own))?];
        outcomes.resize(1 + answers, Outcome::default());
        if let Some(team) = &mut self.team {
            team.is_shared = false;
            while let Some((from, words)) = team.message() {
                outcomes[from] = read_outcome(&mut Read::new(&words));
                team.give_back(words);
            }
        }
        Some(outcomes)
    }

    /// How many ranks share the run.
    pub fn ranks(&self) -> usize {
        self.work.shares().ranks()
    }

    /// Tells the other ranks that the run is over; what each did, this one first. Nothing where there are
    /// none, or a second time.
    pub(crate) fn dismiss(&mut self) -> Vec<RankCount> {
        let ranks = self.ranks();
        if self.team.as_ref().is_none_or(|team| team.is_dismissed) {
            return Vec::new();
        }
        let Some(mut counts) = self.own_count().map(|own| vec![own]) else {
            return Vec::new();
        };
        let mut message = self.team().buffer();
        message.number(CLOSE);
        self.team().send_all(COMMAND, message);
        (1..ranks).for_each(|rank| self.team().expect(rank, ANSWER, COUNT_WORDS));
        self.exchange(|team| team.is_quiet() && team.messages() == ranks - 1);
        while let Some((_, words)) = self.team().message() {
            counts.push(read_count(&mut Read::new(&words)));
        }
        counts.sort_by_key(|count| count.rank);
        self.team().is_dismissed = true;
        counts
    }

    fn own_count(&self) -> Option<RankCount> {
        let team = self.team.as_ref()?;
        let (shares, counts) = (self.work.shares(), self.counts());
        let rank = shares.rank();
        Some(RankCount {
            rank,
            host: team.host(),
            spheres: counts.len(),
            micro_batches: shares.block(rank).len(),
            parameters: shares.owned(rank).map(|tile| self.work.tiles()[tile].len()).sum(),
            tasks: counts.iter().map(|count| count.tasks.finished).sum(),
            busy_seconds: counts.iter().map(|count| count.busy_seconds).sum(),
            waited_seconds: team.waited.as_secs_f64(),
            sent_bytes: 4 * team.sent,
        })
    }
}

impl Drop for Spheres {
    /// Leaves no rank waiting, where nothing is open that they all share. Else the link stays open, and the
    /// caller ends the ranks.
    fn drop(&mut self) {
        let is_first = self.work.shares().rank() == 0;
        if is_first && !self.is_shared() && !std::thread::panicking() {
            self.dismiss();
        }
        if let Some(team) = self.team.take().filter(|team| team.is_dismissed) {
            team.close();
        }
    }
}

/// What another rank does.
impl Spheres {
    /// Takes what rank 0 sends before the first step.
    pub(crate) fn take_moments(&mut self, start: &Start) {
        let shares = self.work.shares();
        if !start.has_moments {
            return;
        }
        for tile in shares.owned(shares.rank()) {
            let len = self.work.tiles()[tile].len();
            self.team().expect(0, MOMENTS, 2 * len);
            let words = self.message();
            self.work.with_state(tile, |state| {
                state.m.copy_from_slice(bytemuck::cast_slice(&words[..len]));
                state.v.copy_from_slice(bytemuck::cast_slice(&words[len..]));
            });
            self.team().give_back(words);
        }
    }

    /// Does what rank 0 says until it ends the run. False when this rank was stopped before.
    pub(crate) fn serve(&mut self) -> bool {
        let plan = *self.work.plan();
        let micro = plan.batch * plan.config.context;
        let block = self.work.shares().block(self.work.shares().rank()).len();
        let most = COMMAND_WORDS + 2 * micro * block;
        let mut job = Job::default();
        loop {
            self.team().expect(0, COMMAND, most);
            let Some(words) = self.next_message() else {
                return false;
            };
            let mut read = Read::new(&words);
            let goes_on = match read.number() {
                STEP => {
                    (job.step, job.lr) = (read.number(), read.float());
                    let targets = read.number();
                    take_tokens(&mut job, read);
                    self.expect_nodes();
                    self.open_step(&mut job, targets);
                    let is_done = self.share();
                    if is_done {
                        // Of a stopped step the spheres may still be at work on the job.
                        self.work.close(&mut job);
                    }
                    is_done
                }
                EVALUATE => {
                    take_tokens(&mut job, read);
                    self.begin_evaluation(&mut job);
                    self.answer_evaluation(&mut job)
                }
                SEND_MOMENTS => {
                    self.answer_moments();
                    true
                }
                _ => {
                    self.answer_count();
                    return true;
                }
            };
            self.team().give_back(words);
            if !goes_on {
                return false;
            }
        }
    }

    fn answer_evaluation(&mut self, job: &mut Job) -> bool {
        if !self.publisher.wait() {
            return false;
        }
        let outcome = self.work.close(job);
        let mut message = self.team().buffer();
        write_outcome(&mut message, &outcome);
        self.team().send(0, ANSWER, message);
        true
    }

    fn answer_moments(&mut self) {
        let shares = self.work.shares();
        for tile in shares.owned(shares.rank()) {
            let (m, v) = self.work.with_state(tile, |state| (state.m.clone(), state.v.clone()));
            self.send_moments(0, &m, &v);
        }
    }

    fn answer_count(&mut self) {
        let mut message = self.team().buffer();
        if let Some(count) = self.own_count() {
            write_count(&mut message, &count);
        }
        self.team().send(0, ANSWER, message);
        self.exchange(Team::is_quiet);
        self.team().is_dismissed = true;
    }
}

fn take_tokens(job: &mut Job, mut read: Read<'_>) {
    let tokens = read.number() as usize;
    job.inputs.clear();
    job.inputs.extend_from_slice(read.all(tokens));
    job.targets.clear();
    job.targets.extend_from_slice(read.all(tokens));
}

fn write_count(message: &mut Write, count: &RankCount) {
    let host: String = count.host.chars().take(128).collect();
    message.number(count.rank as u64).text(&host).number(count.spheres as u64);
    message.number(count.micro_batches as u64).number(count.parameters as u64).number(count.tasks);
    message.float(count.busy_seconds).float(count.waited_seconds).number(count.sent_bytes);
}

fn read_count(read: &mut Read<'_>) -> RankCount {
    RankCount {
        rank: read.number() as usize,
        host: read.text(),
        spheres: read.number() as usize,
        micro_batches: read.number() as usize,
        parameters: read.number() as usize,
        tasks: read.number(),
        busy_seconds: read.float(),
        waited_seconds: read.float(),
        sent_bytes: read.number(),
    }
}
