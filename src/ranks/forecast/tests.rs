use super::*;

const COSTS: Costs =
    Costs { phase_a: 0.5, phase_b: 0.25, add: 2e-9, square: 1e-9, update: 3e-9, adopt: 1.5e-9 };
const SLOW: Network = Network { name: "slow", latency: 1e-3, bandwidth: 2e7, overhead: 1e-4 };
const ORDERS: [Order; 2] = [Order::Staggered, Order::Numbered];

/// Tiles of several sizes, as models have them.
fn tiles() -> Vec<usize> {
    (0..23).map(|i| if i % 7 == 6 { 900 } else { 40_000 + i * 1_000 }).collect()
}

fn step(tiles: &[usize], micro_batches: usize) -> Step<'_> {
    Step { tiles, micro_batches, tokens: 512, costs: COSTS }
}

fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

#[test]
fn one_rank_computes_squares_and_updates_and_nothing_else() {
    let tiles = tiles();
    let n = tiles.iter().sum::<usize>() as f64;
    let alone = 6.0 * 0.75 + n * (COSTS.square + COSTS.update);
    for network in Network::PRESETS.iter().chain([&SLOW]) {
        for order in ORDERS {
            let parts = simulate(&step(&tiles, 6), 1, network, order);
            assert!(is_near(parts.total(), alone), "{parts:?}");
            assert_eq!([parts.feed, parts.gradients, parts.tally, parts.params], [0.0; 4]);
        }
        assert!(is_near(paper(&step(&tiles, 6), 1, network).total(), alone));
    }
}

/// Nothing is adopted and no sum costs anything: what is left is the largest block and the largest owner.
#[test]
fn without_a_network_a_step_is_the_largest_block_and_the_largest_owners_update() {
    let tiles = tiles();
    let costs = Costs { add: 0.0, square: 0.0, adopt: 0.0, ..COSTS };
    for (ranks, micro_batches) in [(2, 8), (3, 8), (5, 5), (12, 30), (40, 64)] {
        let step = Step { costs, ..step(&tiles, micro_batches) };
        let shares = Shares::new(0, ranks, micro_batches, &tiles);
        let own = |rank: usize| tiles[shares.owned(rank)].iter().sum::<usize>();
        let most = (0..ranks).map(own).max().unwrap() as f64;
        let wanted = micro_batches.div_ceil(ranks) as f64 * 0.75 + most * COSTS.update;
        for order in ORDERS {
            let parts = simulate(&step, ranks, &Network::IDEAL, order);
            assert!(is_near(parts.total(), wanted), "{ranks}: {parts:?} for {wanted}");
        }
        let paper = paper(&step, ranks, &Network::IDEAL);
        assert!(is_near(paper.total(), wanted));
        assert!(is_near(paper.compute, micro_batches.div_ceil(ranks) as f64 * 0.75));
        assert!(is_near(paper.update, most * COSTS.update));
    }
}

const NO_COSTS: Costs =
    Costs { phase_a: 0.0, phase_b: 0.0, add: 0.0, square: 0.0, update: 0.0, adopt: 0.0 };

/// Rank 1 owns the one tile: tokens and a node go there, then tally, verdict and parameters each wait for
/// the one before. Rank 0's hands send the node after the tokens.
#[test]
fn a_message_costs_both_hands_the_overhead_and_the_way_the_latency() {
    let step = Step { costs: NO_COSTS, ..step(&[1_000], 2) };
    let network = Network { latency: 1.0, overhead: 0.125, ..Network::IDEAL };
    for order in ORDERS {
        assert_eq!(simulate(&step, 2, &network, order).total(), 4.0 + 9.0 * 0.125);
    }
}

/// The last rank has a micro-batch more than the others, so that their messages are long there, and the
/// owner of the one tile, which is not the last, waits for its node alone.
#[test]
fn the_verdict_takes_a_way_there_a_way_back_and_an_answer_for_each_rank() {
    let costs = Costs { phase_a: 100.0, ..NO_COSTS };
    let step = Step { costs, ..step(&[1_000], 17) };
    let network = Network { latency: 1.0, overhead: 0.125, ..Network::IDEAL };
    let wanted = 2.0 + (16.0 + 2.0) * 0.125;
    for order in ORDERS {
        assert_eq!(simulate(&step, 16, &network, order).tally, wanted);
    }
    assert!(is_near(paper(&step, 16, &network).tally, wanted));
}

/// Equal owners, all of the work done at once: the wires alone decide.
#[test]
fn a_step_bound_by_bandwidth_takes_its_bytes_over_the_bandwidth() {
    let tiles = [10_000; 24];
    let costs =
        Costs { phase_a: 1.0, phase_b: 0.0, add: 0.0, square: 0.0, update: 0.0, adopt: 0.0 };
    let network = Network { bandwidth: 1e6, ..Network::IDEAL };
    for ranks in [2, 3, 4, 8, 12, 24] {
        let step = Step { costs, tokens: 0, ..step(&tiles, ranks) };
        let bytes = 4.0 * 240_000.0 * (ranks - 1) as f64 / ranks as f64;
        let parts = simulate(&step, ranks, &network, Order::Staggered);
        assert!(is_near(parts.gradients, bytes / 1e6), "{ranks}: {parts:?}");
        assert!((parts.params - bytes / 1e6).abs() < 1e-3, "{ranks}: {parts:?}");
        let paper = paper(&step, ranks, &network);
        assert!(is_near(paper.gradients, bytes / 1e6) && is_near(paper.params, bytes / 1e6));
        assert!(is_near(halving(&step, ranks, &network).gradients, bytes / 1e6));
    }
}

/// By number, all ranks send to owner 0 first, while the others' wires are idle.
#[test]
fn tiles_in_one_order_everywhere_stand_in_each_others_way() {
    let tiles = [10_000; 64];
    let costs =
        Costs { phase_a: 1.0, phase_b: 1.0, add: 0.0, square: 0.0, update: 0.0, adopt: 0.0 };
    // The exchange needs just as long as a phase B, behind which it could hide.
    let network = Network { bandwidth: 4.0 * 640_000.0, ..Network::IDEAL };
    let step = Step { costs, tokens: 0, ..step(&tiles, 16) };
    let exposed = |order| simulate(&step, 16, &network, order).gradients;
    assert!(exposed(Order::Numbered) > 0.85, "{}", exposed(Order::Numbered));
    assert!(exposed(Order::Staggered) < 0.05, "{}", exposed(Order::Staggered));
}

#[test]
fn no_simulated_step_is_shorter_than_on_paper() {
    let tiles = tiles();
    let free = Costs { phase_b: 0.0, add: 0.0, adopt: 0.0, ..COSTS };
    let slow_sum = Costs { phase_a: 1e-3, phase_b: 2e-3, add: 1e-6, ..COSTS };
    for network in Network::PRESETS.iter().chain([&SLOW, &Network::IDEAL]) {
        for (ranks, micro_batches) in [
            (1, 1),
            (2, 2),
            (2, 3),
            (3, 8),
            (4, 32),
            (6, 7),
            (12, 48),
            (23, 23),
            (48, 100),
            (64, 64),
        ] {
            for costs in [COSTS, free, slow_sum] {
                let step = Step { costs, ..step(&tiles, micro_batches) };
                let least = paper(&step, ranks, network).total();
                for order in ORDERS {
                    let parts = simulate(&step, ranks, network, order);
                    let message = format!("{ranks} of {micro_batches} on {network:?}: {parts:?}");
                    assert!(parts.total() >= least * (1.0 - 1e-12), "{message} under {least}");
                }
            }
        }
    }
}

#[test]
fn a_worse_network_makes_no_step_shorter() {
    let tiles = tiles();
    let worse: [fn(&mut Network, f64); 3] = [
        |network, by| network.latency *= by,
        |network, by| network.overhead *= by,
        |network, by| network.bandwidth /= by,
    ];
    for ranks in [2, 5, 16, 64] {
        let step = step(&tiles, 64);
        for make in worse {
            let mut before = [0.0; 3];
            for by in [1.0, 3.0, 10.0, 100.0] {
                let mut network = Network::PRESETS[2];
                make(&mut network, by);
                let simulated = ORDERS.map(|order| simulate(&step, ranks, &network, order).total());
                let [staggered, numbered] = simulated;
                let now = [staggered, numbered, paper(&step, ranks, &network).total()];
                for (now, before) in now.iter().zip(before) {
                    assert!(*now >= before * (1.0 - 1e-12), "{ranks} {network:?}: {now} {before}");
                }
                before = now;
            }
        }
    }
}

#[test]
fn the_same_numbers_give_the_same_bits() {
    let tiles = tiles();
    let once = simulate(&step(&tiles, 50), 12, &SLOW, Order::default());
    assert_eq!(once, simulate(&step(&tiles, 50), 12, &SLOW, Order::default()));
}

#[test]
fn more_ranks_than_tiles_leave_the_owners_with_more_to_receive() {
    let tiles = [100_000; 8];
    let parts = |ranks| {
        let costs = Costs { phase_b: 0.0, ..COSTS };
        let parts = paper(&Step { costs, ..step(&tiles, 64) }, ranks, &SLOW);
        [parts.gradients, parts.params]
    };
    // Up to a rank a tile an owner gets (R - 1) / R of the model, beyond it R - 1 tiles.
    for ((few, some), many) in parts(4).iter().zip(parts(8)).zip(parts(64)) {
        assert!(some < 1.2 * few && many > 7.0 * some, "{few} {some} {many}");
    }
}

/// 3 ranks of 8 micro-batches have 5 nodes or more: whoever owns a tile gets more than two.
#[test]
fn blocks_that_are_no_subtrees_send_more() {
    let tiles = [100_000; 6];
    let gradients = |micro_batches| {
        let network = Network { bandwidth: 2e5, ..SLOW };
        simulate(&step(&tiles, micro_batches), 3, &network, Order::Staggered).gradients
    };
    assert!(gradients(8) > 1.3 * gradients(6), "{} {}", gradients(8), gradients(6));
}

/// Rows of up to 64 ranks: more take long unoptimised.
#[test]
fn the_guides_table_is_what_comes_out() {
    use crate::model::{Config, Tile, tiles};
    let config = Config { vocab: 4096, layers: 6, heads: 6, width: 384, context: 256 };
    let tiles: Vec<usize> = tiles(&config).iter().map(Tile::len).collect();
    let costs = Costs {
        phase_a: 0.5153,
        phase_b: 0.2443,
        add: 4.23e-10,
        square: 1.98e-10,
        update: 1.42e-9,
        adopt: 1.57e-9,
    };
    let costs = costs.sped_up(16.0);
    let step = Step { tiles: &tiles, micro_batches: 1024, tokens: 1024, costs };
    let ms = |seconds: f64| {
        let ms = 1e3 * seconds;
        if ms >= 100.0 { format!("{ms:.0}") } else { format!("{ms:.1}") }
    };
    let mut seen = 0;
    for line in include_str!("../../guide/ranks.md").lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Some(ranks @ 1..=64) = cells[0].parse().ok().filter(|_| cells.len() == 17) else {
            continue;
        };
        let network = &Network::PRESETS[2];
        let on_paper = paper(&step, ranks, network);
        let mut wanted: Vec<String> = on_paper.named().map(|(_, part)| ms(part)).to_vec();
        let simulated = simulate(&step, ranks, network, Order::default());
        wanted.extend([ms(on_paper.total()), ms(simulated.total())]);
        assert_eq!(cells[4..13], wanted, "{ranks} ranks");
        assert_eq!(cells[15], simulated.limit());
        seen += 1;
    }
    assert_eq!(seen, 12, "rows of the table");
}
