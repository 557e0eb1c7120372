use super::*;
use crate::engine::crew::Crew;
use crate::engine::shutdown::Wake;
use crate::inject::{Fault, plant, quiet};
use crate::model::adamw::AdamW;
use crate::model::{Config, Isa, Layout, Random, Weights, pack};
use std::time::Duration;

fn plan(batch: usize, micro_batches: usize) -> Plan {
    Plan {
        config: Config { vocab: 37, layers: 2, heads: 3, width: 12, context: 9 },
        batch,
        micro_batches,
        clip: 1.0,
        adamw: AdamW::default(),
        isa: Isa::detect().unwrap(),
        separator: None,
    }
}

fn job(plan: &Plan, step: u64) -> Job {
    let mut random = Random::new(step, 1);
    let mut tokens = |n| (0..n).map(|_| (random.next_u64() % 37) as u32).collect::<Vec<_>>();
    let n = plan.batch * plan.micro_batches * plan.config.context;
    Job { inputs: tokens(n), targets: tokens(n), lr: 1e-2, step }
}

/// Runs `steps` on real threads; gives the last outcome, all parameters' bits and the counts.
fn run(
    plan: Plan,
    leaves: usize,
    awake: Option<usize>,
    steps: u64,
) -> (Vec<u32>, Vec<SphereCount>) {
    run_with(plan, leaves, awake, steps, |_| {})
}

/// [`run`] on jobs that `change` changes.
fn run_with(
    plan: Plan,
    leaves: usize,
    awake: Option<usize>,
    steps: u64,
    change: impl Fn(&mut Job),
) -> (Vec<u32>, Vec<SphereCount>) {
    let spheres = trained(plan, leaves, awake, |spheres| {
        for step in 1..=steps {
            let mut job = job(&plan, step);
            change(&mut job);
            spheres.begin(&mut job);
            let outcome = spheres.wait(&mut job).unwrap();
            assert!(outcome.non_finite().is_none());
        }
    });
    let ledger = spheres.ledger();
    assert_eq!((ledger.made, ledger.lost, ledger.abandoned), (ledger.finished, 0, 0));
    let bits = spheres.with_params(|p| p.iter().map(|v| v.to_bits()).collect());
    let panels_follow =
        |weights: Weights<'_>| weights.panels() == pack(&plan.config, weights.params());
    assert!(spheres.with_weights(panels_follow), "panels of other parameters");
    (bits, spheres.counts())
}

/// Spheres on real threads, after `train` has given them their steps and all have been joined.
fn trained(
    plan: Plan,
    leaves: usize,
    awake: Option<usize>,
    train: impl FnOnce(&mut Spheres),
) -> Spheres {
    let params = Layout::new(&plan.config).init(7);
    on_threads(None, plan, params, (leaves, awake), train)
}

/// The same, from these parameters, and perhaps of one of several ranks.
fn on_threads(
    link: Option<Box<dyn Link>>,
    plan: Plan,
    params: Vec<f32>,
    leaves: (usize, Option<usize>),
    train: impl FnOnce(&mut Spheres),
) -> Spheres {
    let (control, shutdown) = (Arc::new(Event::new()), Arc::new(Shutdown::new()));
    let (mut spheres, bodies) =
        spheres_of(link, plan, params, leaves, control.clone(), shutdown.clone());
    shutdown.register(vec![Wake::Event(control), Wake::Pool(spheres.pool())]);
    let mut crew = Crew::new(shutdown);
    for mut body in bodies {
        let run = move |seat: &Seat| {
            body.run(seat);
            Ok(())
        };
        crew.spawn("tf-sphere", "sphere", 0, run).unwrap();
    }
    train(&mut spheres);
    spheres.close();
    crew.join().unwrap();
    spheres
}

#[test]
fn any_number_of_spheres_writes_the_same_bits() {
    let _quiet = quiet();
    let plan = plan(3, 2);
    let (one, _) = run(plan, 1, None, 3);
    for leaves in [2, 3, 5, 12, 64] {
        assert!(run(plan, leaves, Some(leaves), 3).0 == one, "{leaves} spheres");
    }
}

#[test]
fn small_and_large_trees_run_end_and_free_everything() {
    let _quiet = quiet();
    for leaves in [1, 2, 12, 13, 157, 158, 1_728] {
        let (_, counts) = run(plan(2, 1), leaves, None, 1);
        assert_eq!(counts.len(), leaves);
    }
}

/// That its siblings take the tasks of a slow one is shown where it can be forced: of the pool, in
/// `tests/parallel.rs`.
#[test]
fn the_tasks_of_a_slow_sphere_and_its_siblings_add_up_and_its_bits_are_theirs() {
    let plan = plan(24, 1);
    let slow = plant("sphere", 0, 0, Fault::Slow(Duration::from_millis(3)));
    let (bits, slowed) = run(plan, 4, Some(4), 4);
    drop(slow);
    let tiles = crate::model::tiles(&plan.config).len() as u64;
    let tasks: u64 = slowed.iter().map(|c| c.tasks.finished).sum();
    assert_eq!(plan.sequences_per_task(), 4);
    assert_eq!(tasks, 4 * (24 / 4 + 2 * tiles));
    let _quiet = quiet();
    assert!(run(plan, 1, None, 4).0 == bits);
}

#[test]
fn a_loss_that_is_no_number_is_named_and_leaves_the_parameters_alone() {
    let _quiet = quiet();
    let plan = plan(2, 1);
    let control = Arc::new(Event::new());
    let shutdown = Arc::new(Shutdown::new());
    let mut params = Layout::new(&plan.config).init(7);
    params[40] = f32::NAN;
    let before: Vec<u32> = params.iter().map(|p| p.to_bits()).collect();
    let (mut spheres, mut bodies) = spheres(plan, params, 1, None, control, shutdown.clone());
    shutdown.register(vec![Wake::Pool(spheres.pool())]);
    let mut crew = Crew::new(shutdown);
    let mut body = bodies.remove(0);
    let run = move |seat: &Seat| {
        body.run(seat);
        Ok(())
    };
    crew.spawn("tf-sphere", "sphere", 0, run).unwrap();
    let mut job = job(&plan, 1);
    spheres.begin(&mut job);
    assert_eq!(spheres.wait(&mut job).unwrap().non_finite(), Some("loss"));
    spheres.close();
    crew.join().unwrap();
    let after: Vec<u32> = spheres.with_params(|p| p.iter().map(|v| v.to_bits()).collect());
    assert!(after == before);
}

/// Sizes that no block of a kernel divides: widths, heads, context, vocabulary and batches.
#[test]
fn any_number_of_spheres_writes_the_same_bits_on_odd_shapes_and_batches() {
    let _quiet = quiet();
    for (config, batch, micro_batches) in [
        (Config { vocab: 37, layers: 1, heads: 1, width: 37, context: 1 }, 3, 1),
        (Config { vocab: 257, layers: 2, heads: 5, width: 35, context: 33 }, 1, 3),
        (Config { vocab: 600, layers: 1, heads: 16, width: 48, context: 70 }, 2, 2),
        (Config { vocab: 37, layers: 1, heads: 2, width: 130, context: 19 }, 5, 1),
        // Groups: 7 of 2, the last with one; 6 of 3; 7 of 10, the last with 4.
        (Config { vocab: 37, layers: 2, heads: 2, width: 20, context: 70 }, 13, 2),
        (Config { vocab: 600, layers: 1, heads: 3, width: 33, context: 33 }, 18, 1),
        (Config { vocab: 65, layers: 2, heads: 2, width: 32, context: 1 }, 64, 3),
    ] {
        let plan = Plan { config, ..plan(batch, micro_batches) };
        let (one, _) = run(plan, 1, None, 2);
        for leaves in [2, 3, 5, 12, 64] {
            assert!(run(plan, leaves, Some(leaves), 2).0 == one, "{config:?}, {leaves} spheres");
        }
    }
}

/// The token that stands between documents.
const SEPARATOR: u32 = 36;

/// One row of nine tokens that are two documents, of which the second is trained.
fn two_documents(first: [u32; 4]) -> Job {
    let second = [SEPARATOR, 1, 2, 3, 4];
    let inputs = [&first[..], &second].concat();
    let targets = [&[crate::model::IGNORE; 4][..], &[1, 2, 3, 4, SEPARATOR]].concat();
    Job { inputs, targets, lr: 1e-2, step: 1 }
}

/// What one step on `job` gives.
fn outcome(plan: Plan, mut job: Job) -> Outcome {
    let mut outcome = Outcome::default();
    trained(plan, 1, None, |spheres| {
        spheres.begin(&mut job);
        outcome = spheres.wait(&mut job).unwrap();
    });
    outcome
}

#[test]
fn a_document_does_not_see_the_one_before_it_where_they_are_kept_apart() {
    let open = plan(1, 1);
    let apart = Plan { separator: Some(SEPARATOR), ..open };
    let both = |plan| [[5, 6, 7, 8], [9, 9, 9, 9]].map(|first| outcome(plan, two_documents(first)));
    let [one, other] = both(apart);
    assert_eq!((one.loss_sum, one.grad_norm), (other.loss_sum, other.grad_norm));
    let [one, other] = both(open);
    assert_ne!(one.loss_sum, other.loss_sum);
    // Alone in its row, at the first positions, it gives the same.
    let mut alone = two_documents([0; 4]);
    alone.inputs.rotate_left(4);
    alone.targets.rotate_left(4);
    let [one, _] = both(apart);
    assert_eq!(one.loss_sum, outcome(open, alone).loss_sum);
}

/// As many documents as tokens, and some in between; the last row is all of one.
#[test]
fn documents_that_are_kept_apart_give_the_same_bits_on_any_number_of_spheres() {
    let plan = Plan { separator: Some(SEPARATOR), ..plan(7, 2) };
    let separated = |job: &mut Job| {
        for (i, token) in job.inputs.iter_mut().enumerate() {
            let row = i / plan.config.context;
            if i % (row % 5 + 1) == 0 && row != 13 {
                *token = SEPARATOR;
            }
        }
    };
    let (one, _) = run_with(plan, 1, None, 3, separated);
    for leaves in [2, 3, 5, 12] {
        assert!(run_with(plan, leaves, Some(leaves), 3, separated).0 == one, "{leaves} spheres");
    }
    assert!(run_with(Plan { separator: None, ..plan }, 1, None, 3, separated).0 != one);
}

/// What the ranks of a run gave.
struct Ranked {
    bits: Vec<u32>,
    moments: Vec<u32>,
    outcomes: Vec<Outcome>,
    counts: Vec<RankCount>,
}

/// A run of `steps` from the moments `m` and `v` on, on ranks that are threads with spheres of their own.
fn run_ranks(plan: Plan, ranks: usize, leaves: usize, steps: std::ops::Range<u64>) -> Ranked {
    let params = Layout::new(&plan.config).init(7);
    run_ranks_from(plan, (ranks, leaves), steps, params, None)
}

fn run_ranks_from(
    plan: Plan,
    (ranks, leaves): (usize, usize),
    steps: std::ops::Range<u64>,
    params: Vec<f32>,
    moments: Option<Vec<f32>>,
) -> Ranked {
    let mut links = crate::ranks::tests::local(ranks).into_iter();
    let first = links.next().unwrap();
    std::thread::scope(|scope| {
        for link in links {
            scope.spawn(move || follow(Box::new(link), leaves));
        }
        let mut outcomes = Vec::new();
        let mut after = Vec::new();
        let mut counts = Vec::new();
        let spheres = with_link(Box::new(first), plan, params, leaves, |spheres| {
            if let Some(moments) = &moments {
                spheres.set_moments(moments, moments);
            }
            spheres.begin_run(moments.as_ref().map(|m| (&m[..], &m[..])));
            for step in steps {
                let mut job = job(&plan, step);
                spheres.begin(&mut job);
                outcomes.push(spheres.wait(&mut job).unwrap());
            }
            spheres.visit_moments(|_, m, v| after.extend(m.iter().chain(v).map(|x| x.to_bits())));
            counts = spheres.dismiss();
        });
        let bits = spheres.with_params(|p| p.iter().map(|v| v.to_bits()).collect());
        Ranked { bits, moments: after, outcomes, counts }
    })
}

/// Does what rank 0 says, to its end.
fn follow(mut link: Box<dyn Link>, leaves: usize) {
    let mut start = Start::receive(&mut *link).unwrap().unwrap();
    let params = std::mem::take(&mut start.params);
    with_link(link, start.plan, params, leaves, |spheres| {
        spheres.take_moments(&start);
        assert!(spheres.serve());
    });
}

/// One rank's spheres on threads, while `go` uses them.
fn with_link(
    link: Box<dyn Link>,
    plan: Plan,
    params: Vec<f32>,
    leaves: usize,
    go: impl FnOnce(&mut Spheres),
) -> Spheres {
    let link = Some(link).filter(|link| link.ranks() > 1);
    let spheres = on_threads(link, plan, params, (leaves, None), go);
    let panels_follow =
        |weights: Weights<'_>| weights.panels() == pack(&plan.config, weights.params());
    assert!(spheres.with_weights(panels_follow), "panels of other parameters");
    spheres
}

#[test]
fn any_ranks_and_spheres_write_the_bits_and_give_the_outcomes_of_one() {
    let _quiet = quiet();
    for micro_batches in [5, 8] {
        let plan = plan(2, micro_batches);
        let one = run_ranks(plan, 1, 1, 1..4);
        assert!(one.bits == run(plan, 1, None, 3).0, "a rank alone is no other");
        for (ranks, leaves) in [(1, 2), (2, 1), (2, 2), (3, 1), (4, 1), (5, 2)] {
            let other = run_ranks(plan, ranks, leaves, 1..4);
            let what = format!("{micro_batches} micro-batches on {ranks} x {leaves}");
            assert!(other.bits == one.bits, "the bits of {what}");
            assert!(other.moments == one.moments, "the moments of {what}");
            assert_eq!(other.outcomes, one.outcomes, "{what}");
            if ranks == 1 {
                assert_eq!(other.counts, [], "{what}: there are no ranks");
                continue;
            }
            let shares: usize = other.counts.iter().map(|count| count.micro_batches).sum();
            let owned: usize = other.counts.iter().map(|count| count.parameters).sum();
            assert_eq!((other.counts.len(), shares), (ranks, micro_batches), "{what}");
            assert_eq!(owned, one.bits.len(), "each parameter has one owner");
            assert!(other.counts.iter().all(|count| count.sent_bytes > 0));
        }
    }
}

#[test]
fn ranks_go_on_from_moments_as_one_does() {
    let _quiet = quiet();
    let plan = plan(2, 4);
    let layout = Layout::new(&plan.config);
    let moments: Vec<f32> = (0..layout.len()).map(|i| (i % 17) as f32 * 1e-3).collect();
    let go = |ranks| run_ranks_from(plan, (ranks, 1), 3..5, layout.init(9), Some(moments.clone()));
    let one = go(1);
    for ranks in [2, 3, 4] {
        let other = go(ranks);
        assert!(other.bits == one.bits && other.moments == one.moments, "{ranks} ranks");
    }
    assert!(one.bits != run_ranks_from(plan, (1, 1), 3..5, layout.init(9), None).bits);
}

#[test]
fn a_step_whose_loss_is_no_number_changes_nothing_on_any_rank_and_names_the_place() {
    let _planted = plant("", 1, 2, Fault::NotANumber);
    let plan = plan(2, 4);
    for ranks in [1, 2, 4] {
        let ranked = run_ranks(plan, ranks, 1, 1..4);
        let outcome = ranked.outcomes[1];
        assert_eq!(outcome.non_finite(), Some("loss"));
        assert_eq!(outcome.bad_sequence, Some((0, 1)), "the first of them");
        assert_eq!((outcome.bad_sphere, outcome.bad_rank), (Some(0), 0));
        assert_eq!(ranked.outcomes[0].non_finite(), None);
        assert_eq!(ranked.outcomes[2].non_finite(), None, "it goes on");
        assert!(ranked.bits == run_ranks(plan, 1, 1, 1..4).bits, "{ranks} ranks");
    }
}

#[test]
fn validations_are_shared_out_and_come_back_in_order() {
    let _quiet = quiet();
    let plan = plan(2, 3);
    let jobs = || -> Vec<Job> {
        let of = |step| {
            let mut job = job(&plan, step);
            job.inputs.truncate(2 * plan.config.context);
            job.targets.truncate(2 * plan.config.context);
            job
        };
        (1..=3).map(of).collect()
    };
    let evaluate = |ranks: usize| {
        let mut links = crate::ranks::tests::local(ranks).into_iter();
        let first = links.next().unwrap();
        std::thread::scope(|scope| {
            for link in links {
                scope.spawn(move || follow(Box::new(link), 1));
            }
            let mut outcomes = Vec::new();
            let params = Layout::new(&plan.config).init(7);
            with_link(Box::new(first), plan, params, 1, |spheres| {
                spheres.begin_run(None);
                for jobs in jobs().chunks_mut(ranks) {
                    outcomes.extend(spheres.evaluate(jobs).unwrap());
                }
                spheres.dismiss();
            });
            outcomes
        })
    };
    let one = evaluate(1);
    assert_eq!(one.len(), 3);
    assert!(one[0] != one[1] && one[1] != one[2], "jobs that differ");
    for ranks in [2, 3] {
        assert_eq!(evaluate(ranks), one, "{ranks} ranks");
    }
}

#[test]
fn ranks_that_are_not_needed_are_dismissed() {
    let mut links = crate::ranks::tests::local(3);
    std::thread::scope(|scope| {
        let mut first = links.remove(0);
        for mut link in links {
            scope.spawn(move || assert!(Start::receive(&mut link).unwrap().is_none()));
        }
        dismiss(&mut first);
    });
}

/// A stage may fail while a checkpoint is being saved: what others sent is then not taken for zeros.
#[test]
fn a_stop_between_steps_does_not_cut_the_moments_of_others_short() {
    let _quiet = quiet();
    let plan = plan(2, 4);
    let len = Layout::new(&plan.config).len();
    let moments: Vec<f32> = (0..len).map(|i| (i + 1) as f32).collect();
    let (mut m, mut v, mut heard) = (vec![0.0; len], vec![0.0; len], 0);
    let mut links = crate::ranks::tests::local(3).into_iter();
    let first = links.next().unwrap();
    std::thread::scope(|scope| {
        links.for_each(|link| drop(scope.spawn(move || follow(Box::new(link), 1))));
        let params = Layout::new(&plan.config).init(7);
        with_link(Box::new(first), plan, params, 1, |spheres| {
            spheres.set_moments(&moments, &moments);
            spheres.begin_run(Some((&moments, &moments)));
            spheres.shutdown.cancel();
            spheres.visit_moments(|tile, tile_m, tile_v| {
                let mut at = 0;
                for range in tile.ranges(&plan.config) {
                    let part = at..at + range.len();
                    at = part.end;
                    m[range.clone()].copy_from_slice(&tile_m[part.clone()]);
                    v[range].copy_from_slice(&tile_v[part]);
                }
            });
            heard = spheres.dismiss().len();
        });
    });
    assert!(m == moments && v == moments);
    assert_eq!(heard, 3, "all hear of the end");
}
