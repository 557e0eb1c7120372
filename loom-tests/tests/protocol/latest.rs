//! The latest numbers: whole, and never older than what was read before.

use crate::support::spawn;
use loom_tests::model;
use twelvefold::sync::latest;

/// The reader swaps slots while the writer fills another.
#[test]
fn a_reader_has_the_numbers_of_one_moment_and_none_older_than_before() {
    model(|| {
        let (mut writer, mut reader) = latest(2);
        let write = spawn(move || {
            for moment in [1.0, 2.0, 3.0] {
                writer.write([moment, -moment]);
            }
        });
        let mut before = 0.0;
        let mut read = || {
            let numbers: Vec<f64> = reader.read().collect();
            assert_eq!(numbers[0], -numbers[1], "of one moment");
            assert!(numbers[0] >= before, "{} after {before}", numbers[0]);
            before = numbers[0];
            before
        };
        read();
        read();
        write.join().unwrap();
        assert_eq!(read(), 3.0, "the last one");
    });
}
