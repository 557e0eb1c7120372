//! Tests of the whole model.

use super::slot;
use super::twin::{self, assert_close, cross_entropy, narrow, normal};
use super::{
    Config, IGNORE, Isa, Layout, Scratch, Sequence, Slot, Weights, forward_backward,
    forward_logits, forward_loss, pack, tiles, weight_gradient,
};

/// No size is a multiple of a vector; 3 heads of width 7.
const ODD: Config = Config { vocab: 13, layers: 2, heads: 3, width: 21, context: 9 };

fn best() -> Isa {
    Isa::available()[0]
}

/// Parameters that are far from the initial ones: every gradient is of some size.
fn lively(config: &Config) -> Vec<f64> {
    let layout = Layout::new(config);
    // The padded rows are 0 in a real model; here they show it if anything reads them.
    let mut params = vec![5.0; layout.len()];
    for (i, tensor) in layout.tensors().iter().enumerate() {
        let gain =
            if tensor.name.contains("ln_") && tensor.name.ends_with("weight") { 1.0 } else { 0.0 };
        let values = normal(tensor.range.len(), 0.3, i as u64);
        for (p, x) in params[tensor.range.clone()].iter_mut().zip(values) {
            *p = f64::from((gain + x) as f32);
        }
    }
    params
}

fn tokens(config: &Config, n: usize, seed: u32) -> Vec<u32> {
    let v = config.vocab as u32;
    (0..n as u32).map(|i| (i * i * 7 + i * 3 + seed * 5 + 1) % v).collect()
}

fn borrow((inputs, targets): &(Vec<u32>, Vec<u32>)) -> Sequence<'_> {
    (inputs, targets)
}

/// [`step_of`] groups of one sequence.
fn step(
    config: &Config,
    params: &[f32],
    sequences: &[(Vec<u32>, Vec<u32>)],
    scale: f32,
    isa: Isa,
    reverse: bool,
) -> (f64, Vec<f32>) {
    step_of(1, config, params, sequences, scale, isa, reverse)
}

/// Runs phase A on each group of sequences and phase B on each tile, in the order given.
fn step_of(
    group: usize,
    config: &Config,
    params: &[f32],
    sequences: &[(Vec<u32>, Vec<u32>)],
    scale: f32,
    isa: Isa,
    reverse: bool,
) -> (f64, Vec<f32>) {
    let panels = pack(config, params);
    let weights = Weights::new(config, params, &panels);
    let groups: Vec<_> = sequences.chunks(group).collect();
    let mut scratch = Scratch::new(config, group, isa);
    let mut slots: Vec<Slot> = groups.iter().map(|_| Slot::new(config, group)).collect();
    let mut order: Vec<usize> = (0..slots.len()).collect();
    if reverse {
        order.reverse();
    }
    let mut losses = vec![0.0; slots.len()];
    for i in order {
        let (sequences, slot) = (groups[i].iter().map(borrow), &mut slots[i]);
        losses[i] = forward_backward(config, weights, sequences, scale, slot, &mut scratch);
    }
    let mut gradient = vec![f32::NAN; params.len()];
    let mut list = tiles(config);
    if reverse {
        list.reverse();
    }
    for tile in list {
        let mut grad = vec![f32::NAN; tile.len()];
        weight_gradient(config, &tile, slots.iter(), &mut grad, &mut scratch);
        let mut rest = &grad[..];
        for range in tile.ranges(config) {
            let (part, tail) = rest.split_at(range.len());
            gradient[range].copy_from_slice(part);
            rest = tail;
        }
    }
    (losses.iter().sum(), gradient)
}

/// Two sequences, one shorter than the context, with ignored targets and a repeated token.
fn two_sequences(config: &Config) -> Vec<(Vec<u32>, Vec<u32>)> {
    let long = (tokens(config, config.context, 1), tokens(config, config.context, 2));
    let short = config.context.div_ceil(2);
    let mut second = (tokens(config, short, 3), tokens(config, short, 4));
    second.1[0] = IGNORE;
    vec![long, second]
}

#[test]
fn the_gradient_of_every_parameter_is_that_of_the_plain_twin() {
    let config = ODD;
    let params = lively(&config);
    let sequences = two_sequences(&config);
    let scale = 0.125;
    let loss = |params: &[f64]| {
        let of =
            |(x, y): &(Vec<u32>, Vec<u32>)| cross_entropy(&twin::logits(&config, params, x), y);
        scale * sequences.iter().map(of).sum::<f64>()
    };
    let crews = Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, 2)]);
    for (isa, group) in crews {
        let narrowed = narrow(&params);
        let (sum, gradient) =
            step_of(group, &config, &narrowed, &sequences, scale as f32, isa, false);
        let want = loss(&params);
        assert!((sum * scale / want - 1.0).abs() < 1e-6, "{isa:?}: loss {sum} for {want}");
        for tensor in Layout::new(&config).tensors() {
            // Every element of the small tensors, a spread of the large ones.
            let stride = tensor.range.len().div_ceil(60) | 1;
            let chosen: Vec<usize> = tensor.range.clone().step_by(stride).collect();
            let at: Vec<f64> = chosen.iter().map(|&i| params[i]).collect();
            let want = twin::differences(&at, |moved| {
                let mut params = params.clone();
                for (&i, &x) in chosen.iter().zip(moved) {
                    params[i] = x;
                }
                loss(&params)
            });
            let got: Vec<f32> = chosen.iter().map(|&i| gradient[i]).collect();
            assert_close(&format!("{} {}", isa.name(), tensor.name), &got, &want, 2e-5);
        }
        let padding = config.vocab * config.width..config.padded_vocab() * config.width;
        assert!(gradient[padding].iter().all(|&g| g == 0.0), "padded rows stay as they are");
    }
}

#[test]
fn odd_sizes_give_the_loss_of_the_plain_twin() {
    for config in [
        Config { vocab: 257, layers: 1, heads: 1, width: 5, context: 1 },
        Config { vocab: 2, layers: 1, heads: 1, width: 1, context: 3 },
        Config { vocab: 1100, layers: 1, heads: 2, width: 34, context: 130 },
        Config { vocab: 64, layers: 3, heads: 4, width: 64, context: 65 },
        Config { vocab: 3, layers: 1, heads: 1, width: 8, context: 1000 },
    ] {
        let params = lively(&config);
        let (inputs, targets) =
            (tokens(&config, config.context, 1), tokens(&config, config.context, 2));
        let want = cross_entropy(&twin::logits(&config, &params, &inputs), &targets);
        let params = narrow(&params);
        let panels = pack(&config, &params);
        let weights = Weights::new(&config, &params, &panels);
        for isa in Isa::available() {
            let (mut slot, mut scratch) = (Slot::new(&config, 1), Scratch::new(&config, 1, isa));
            let sequence: Sequence<'_> = (&inputs, &targets);
            let got = forward_backward(&config, weights, [sequence], 1.0, &mut slot, &mut scratch);
            assert!((got / want - 1.0).abs() < 1e-5, "{config:?}: {got} for {want}");
            let again = forward_loss(&config, weights, [sequence], &mut slot, &mut scratch);
            assert_eq!(got, again, "{config:?}: evaluation");
        }
    }
}

#[test]
fn logits_are_those_of_the_plain_twin() {
    let config = ODD;
    let params = lively(&config);
    let narrowed = narrow(&params);
    let panels = pack(&config, &narrowed);
    let weights = Weights::new(&config, &narrowed, &panels);
    let (mut slot, mut scratch) = (Slot::new(&config, 1), Scratch::new(&config, 1, best()));
    for n in 1..=config.context {
        let inputs = tokens(&config, n, 1);
        let want = twin::logits(&config, &params, &inputs);
        let mut got = vec![0.0; config.vocab];
        forward_logits(&config, weights, &inputs, &mut got, &mut slot, &mut scratch);
        assert_close("logits", &got, &want[(n - 1) * config.vocab..], 1e-5);
    }
}

/// The slot's `prob` and the final norm are compared bit by bit, over a block border of attention.
#[test]
fn a_changed_token_changes_nothing_before_it() {
    let config = Config { vocab: 40, layers: 2, heads: 2, width: 24, context: 150 };
    let params = narrow(&lively(&config));
    let panels = pack(&config, &params);
    let weights = Weights::new(&config, &params, &panels);
    let mut scratch = Scratch::new(&config, 1, best());
    let inputs = tokens(&config, config.context, 1);
    let run = |inputs: &[u32], scratch: &mut Scratch| {
        let mut slot = Slot::new(&config, 1);
        forward_loss(&config, weights, [(inputs, inputs)], &mut slot, scratch);
        let at = 2 * config.layers * config.context * config.width;
        slot.normed[at..].to_vec()
    };
    let before = run(&inputs, &mut scratch);
    for changed in [0, 1, 63, 64, 127, 149] {
        let mut inputs = inputs.clone();
        inputs[changed] = (inputs[changed] + 1) % 40;
        let after = run(&inputs, &mut scratch);
        let edge = changed * config.width;
        assert!(before[..edge] == after[..edge], "token {changed} changed something before it");
        assert!(before[edge..] != after[edge..], "token {changed} changed nothing");
    }
}

#[test]
fn ignored_targets_contribute_nothing() {
    let config = ODD;
    let params = narrow(&lively(&config));
    let (x, y) = (tokens(&config, 9, 1), tokens(&config, 9, 2));
    let all = vec![IGNORE; 9];
    let (loss, gradient) = step(&config, &params, &[(x.clone(), all.clone())], 1.0, best(), false);
    assert_eq!(loss, 0.0);
    assert!(gradient.iter().all(|&g| g == 0.0));
    // The second half of a sequence ignored: as if the sequence were shorter.
    let mut half = y.clone();
    half[5..].fill(IGNORE);
    let (loss, gradient) = step(&config, &params, &[(x.clone(), half)], 1.0, best(), false);
    let short = (x[..5].to_vec(), y[..5].to_vec());
    let (short_loss, short_gradient) = step(&config, &params, &[short], 1.0, best(), false);
    assert!((loss / short_loss - 1.0).abs() < 1e-12);
    let want: Vec<f64> = short_gradient.iter().map(|&g| f64::from(g)).collect();
    assert_close("gradient", &gradient, &want, 1e-5);
    // A sequence without targets beside one with: the gradient of that one.
    let both = [(x.clone(), all), (x.clone(), y.clone())];
    let (_, gradient) = step(&config, &params, &both, 1.0, best(), false);
    let (_, alone) = step(&config, &params, &[(x, y)], 1.0, best(), false);
    assert_eq!(gradient, alone);
}

#[test]
fn an_empty_sequence_and_no_sequence_give_a_gradient_of_zero() {
    let params = narrow(&lively(&ODD));
    for sequences in [vec![], vec![(vec![], vec![])]] {
        let (loss, gradient) = step(&ODD, &params, &sequences, 1.0, best(), false);
        assert_eq!(loss, 0.0);
        assert!(gradient.iter().all(|&g| g == 0.0));
    }
}

#[test]
fn the_order_in_which_tasks_run_changes_no_bit() {
    let config = Config { vocab: 700, layers: 2, heads: 2, width: 48, context: 70 };
    let params = narrow(&lively(&config));
    let mut sequences = two_sequences(&config);
    sequences.extend(two_sequences(&config));
    for isa in Isa::available() {
        let forward = step(&config, &params, &sequences, 0.01, isa, false);
        let backward = step(&config, &params, &sequences, 0.01, isa, true);
        assert!(forward == backward, "{}", isa.name());
    }
}

/// A slot that held a longer sequence gives the bits of a new one.
#[test]
fn a_slot_remembers_nothing_of_the_sequence_before() {
    let config = ODD;
    let params = narrow(&lively(&config));
    let panels = pack(&config, &params);
    let weights = Weights::new(&config, &params, &panels);
    let sequences = two_sequences(&config);
    let [long, short] = [0, 1].map(|i| borrow(&sequences[i]));
    let mut scratch = Scratch::new(&config, 1, best());
    let mut used = Slot::new(&config, 1);
    forward_backward(&config, weights, [long], 0.5, &mut used, &mut scratch);
    let mut fresh = Slot::new(&config, 1);
    for slot in [&mut used, &mut fresh] {
        forward_backward(&config, weights, [short], 0.5, slot, &mut scratch);
    }
    for tile in tiles(&config) {
        let [a, b] = [&used, &fresh].map(|slot| {
            let mut grad = vec![f32::NAN; tile.len()];
            weight_gradient(&config, &tile, std::iter::once(slot), &mut grad, &mut scratch);
            grad
        });
        assert_eq!(a, b, "{tile:?}");
    }
}

/// Losses and the gradients of the residual stream, row by row; of the parameters', sums are made in
/// another order.
#[test]
fn sequences_of_a_group_do_not_see_each_other() {
    let config = Config { vocab: 700, layers: 2, heads: 2, width: 48, context: 70 };
    let params = narrow(&lively(&config));
    let panels = pack(&config, &params);
    let weights = Weights::new(&config, &params, &panels);
    let mut sequences = two_sequences(&config);
    sequences.push((vec![], vec![]));
    sequences.extend(two_sequences(&config));
    for isa in Isa::available() {
        let mut scratch = Scratch::new(&config, 5, isa);
        let mut group = Slot::new(&config, 5);
        let all = sequences.iter().map(borrow);
        let sum = forward_backward(&config, weights, all.clone(), 0.5, &mut group, &mut scratch);
        assert_eq!(sum, group.losses().iter().sum::<f64>());
        let mut alone = Slot::new(&config, 1);
        for ((rows, &loss), sequence) in slot::sequences(&group.ends).zip(group.losses()).zip(all) {
            let (inputs, targets) = sequence;
            let one = [(inputs, targets)];
            forward_backward(&config, weights, one, 0.5, &mut alone, &mut scratch);
            assert_eq!(alone.losses(), [loss], "{rows:?}, {}", isa.name());
            for i in 0..=2 * config.layers {
                let [all, one] = [&group, &alone].map(|slot| &slot.residual[i * slot.room * 48..]);
                let all = &all[rows.start * 48..rows.end * 48];
                assert!(*all == one[..all.len()], "part {i} of {rows:?}, {}", isa.name());
            }
            let one = [sequence];
            forward_loss(&config, weights, one, &mut alone, &mut scratch);
            assert_eq!(alone.losses(), [loss], "evaluation of {rows:?}");
        }
        let (_, gradient) = step_of(5, &config, &params, &sequences, 0.5, isa, false);
        let (_, one_by_one) = step(&config, &params, &sequences, 0.5, isa, false);
        let want: Vec<f64> = one_by_one.iter().map(|&g| f64::from(g)).collect();
        assert_close(isa.name(), &gradient, &want, 1e-5);
    }
}

#[test]
#[should_panic(expected = "more than 18 tokens")]
fn more_tokens_than_there_is_room_for_are_refused() {
    let sequences = [vec![(vec![1; 9], vec![1; 9])], vec![(vec![1; 5], vec![1; 5]); 2]].concat();
    Slot::new(&ODD, 2).load(&ODD, sequences.iter().map(borrow), 1.0);
}

#[test]
fn the_paths_agree_within_rounding_and_the_vector_paths_to_the_bit() {
    let config = Config { vocab: 700, layers: 2, heads: 2, width: 48, context: 70 };
    let params = narrow(&lively(&config));
    let sequences = two_sequences(&config);
    let portable = Isa::named("portable").unwrap();
    let (loss, gradient) = step(&config, &params, &sequences, 0.01, portable, false);
    let want: Vec<f64> = gradient.iter().map(|&g| f64::from(g)).collect();
    let mut vector: Option<Vec<f32>> = None;
    for isa in Isa::available().into_iter().filter(|&isa| isa != portable) {
        let (other_loss, other) = step(&config, &params, &sequences, 0.01, isa, false);
        assert!((loss / other_loss - 1.0).abs() < 1e-6, "{}", isa.name());
        assert_close(isa.name(), &other, &want, 1e-5);
        assert!(vector.is_none_or(|v| v == other), "avx2 and avx512 differ");
        vector = Some(other);
    }
}

#[test]
fn the_tiles_cover_every_parameter_exactly_once() {
    for config in [
        ODD,
        Config { vocab: 50257, layers: 2, heads: 4, width: 128, context: 1000 },
        Config { vocab: 4096, layers: 1, heads: 6, width: 384, context: 256 },
        Config { vocab: 257, layers: 1, heads: 1, width: 1, context: 1 },
        Config { vocab: 600, layers: 1, heads: 2, width: 2050, context: 3 },
    ] {
        let mut covered = vec![0u8; Layout::new(&config).len()];
        for tile in tiles(&config) {
            let mut len = 0;
            for range in tile.ranges(&config) {
                len += range.len();
                covered[range].iter_mut().for_each(|n| *n += 1);
            }
            assert_eq!(len, tile.len(), "{tile:?}");
        }
        assert!(covered.iter().all(|&n| n == 1), "{config:?}");
    }
}

#[test]
fn decay_applies_to_matrices_and_embeddings_only() {
    let config = ODD;
    let mut decays = vec![false; Layout::new(&config).len()];
    for tile in tiles(&config) {
        for range in tile.ranges(&config) {
            decays[range].fill(tile.decays());
        }
    }
    for tensor in Layout::new(&config).tensors() {
        let matrix = tensor.shape.len() == 2;
        assert!(decays[tensor.range.clone()].iter().all(|&d| d == matrix), "{}", tensor.name);
    }
}

#[test]
#[should_panic(expected = "a token outside the vocabulary")]
fn a_token_outside_the_vocabulary_is_refused_even_within_the_padding() {
    let params = narrow(&lively(&ODD));
    let panels = pack(&ODD, &params);
    let weights = Weights::new(&ODD, &params, &panels);
    let (mut slot, mut scratch) = (Slot::new(&ODD, 1), Scratch::new(&ODD, 1, best()));
    let sequence: Sequence<'_> = (&[13], &[1]);
    forward_loss(&ODD, weights, [sequence], &mut slot, &mut scratch);
}

#[test]
fn a_parameter_that_is_no_number_shows_in_the_loss() {
    let mut params = narrow(&lively(&ODD));
    let last = params.len() - 1;
    params[last] = f32::NAN;
    let x = tokens(&ODD, 9, 1);
    let (loss, _) = step(&ODD, &params, &[(x.clone(), x)], 1.0, best(), false);
    assert!(loss.is_nan());
}
