//! The weights depend on the text, the settings and the seed; not on who computed them or when.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "common/mixed.rs"]
mod mixed;
#[path = "common/tiny.rs"]
mod tiny;
#[path = "common/watchdog.rs"]
mod watchdog;

use mixed::mixed_folder;
use tiny::{on, tiny, train};
use twelvefold::train::{Cancel, Options};
use watchdog::watchdog;

/// Spheres and tokenizers.
const CREWS: [(usize, usize); 8] =
    [(1, 1), (2, 1), (3, 1), (5, 4), (12, 1), (12, 4), (64, 1), (64, 4)];

/// The digests of the weights of every crew, which must be one.
fn same(options: &Options) -> String {
    let digest = |(spheres, tokenizers)| {
        let report = train(&Options { spheres, tokenizers, ..options.clone() }).unwrap();
        assert_eq!(report.spheres.len(), spheres);
        assert_eq!(report.weights_sha256.len(), 64);
        report.weights_sha256
    };
    let digests: Vec<String> = CREWS.into_iter().map(digest).collect();
    for (crew, digest) in CREWS.iter().zip(&digests) {
        assert_eq!(
            *digest, digests[0],
            "(spheres, tokenizers) = {crew:?} on {}",
            options.tokenizer
        );
    }
    digests[0].clone()
}

const TOKENIZERS: [&str; 3] = ["bytes", "bpe:320", "words:50"];

#[test]
fn any_crew_writes_the_same_weights_on_the_built_in_corpus() {
    let _watchdog = watchdog("the built-in corpus");
    for tokenizer in TOKENIZERS {
        // More than one chunk for each tokenizer, and validations in between.
        let (tokenizer, story_bytes) = (tokenizer.to_owned(), 1_500_000);
        same(&Options { tokenizer, story_bytes, steps: 5, eval_interval: 2, ..tiny() });
    }
}

#[test]
fn any_crew_writes_the_same_weights_on_a_folder_of_mixed_files() {
    let _watchdog = watchdog("the mixed folder");
    let folder = mixed_folder();
    for tokenizer in TOKENIZERS {
        let tokenizer = tokenizer.to_owned();
        same(&on(&[folder.path()], Options { tokenizer, steps: 4, ..tiny() }));
    }
}

/// With a window as wide as the corpus, every step depends on how the whole of it was cut.
#[test]
fn the_order_does_not_depend_on_the_number_of_tokenizers() {
    let _watchdog = watchdog("the order");
    let wide = Options { shuffle_window: 1 << 20, context: 64, steps: 3, ..tiny() };
    for tokenizer in TOKENIZERS {
        let (tokenizer, story_bytes) = (tokenizer.to_owned(), 1_500_000);
        let options = Options { tokenizer, story_bytes, ..wide.clone() };
        let digest =
            |tokenizers| train(&Options { tokenizers, ..options.clone() }).unwrap().weights_sha256;
        let one = digest(1);
        for tokenizers in [2, 4, 7] {
            assert_eq!(digest(tokenizers), one, "{tokenizers} tokenizers, {}", options.tokenizer);
        }
    }
}

#[test]
fn the_same_seed_writes_the_same_weights_twice_and_another_seed_others() {
    let _watchdog = watchdog("the seeds");
    let folder = mixed_folder();
    for options in [tiny(), on(&[folder.path()], tiny())] {
        let digest = |seed| train(&Options { seed, ..options.clone() }).unwrap().weights_sha256;
        assert_eq!(digest(7), digest(7));
        assert_ne!(digest(7), digest(8));
    }
}

/// Not only the first weights: the text's order, too, is the seed's.
#[test]
fn another_step_or_another_order_writes_other_weights() {
    let _watchdog = watchdog("another step");
    let digest = |options: Options| train(&options).unwrap().weights_sha256;
    let base = digest(tiny());
    assert_ne!(digest(Options { steps: 3, ..tiny() }), base);
    assert_ne!(digest(Options { shuffle_window: 1, ..tiny() }), base);
}

/// Documents of a few words, so that each sequence holds several.
#[test]
fn any_crew_writes_the_same_weights_where_documents_are_kept_apart_and_others_than_without() {
    let _watchdog = watchdog("documents apart");
    let folder = tempfile::tempdir().unwrap();
    for i in 0..400 {
        std::fs::write(folder.path().join(format!("{i}.txt")), mixed::prose(i, 6)).unwrap();
    }
    let apart = |mask_documents| {
        on(&[folder.path()], Options { mask_documents, steps: 4, eval_interval: 2, ..tiny() })
    };
    assert_ne!(same(&apart(true)), train(&apart(false)).unwrap().weights_sha256);
}

/// `pipeline .` leaves its outputs in a folder of the corpus.
#[test]
fn a_second_run_is_not_trained_on_the_outputs_of_the_first() {
    let _watchdog = watchdog("outputs in the corpus");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text"), mixed::prose(1, 5_000)).unwrap();
    let out = folder.path().join("run");
    let options = Options { out, overwrite: true, ..on(&[folder.path()], tiny()) };
    let report = || twelvefold::train::run(&options, &Cancel::new(), &mut ()).unwrap();
    let (one, two) = (report(), report());
    assert_eq!((one.corpus.files, two.corpus.files), (1, 1));
    assert_eq!(one.weights_sha256, two.weights_sha256);
    assert_eq!(two.corpus.skipped[0].reason, "the outputs of this run");
}
