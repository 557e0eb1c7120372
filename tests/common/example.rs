//! The examples as programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The example `name` beside this test program; built first where `--test NAME` left it out.
pub(crate) fn example(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let tests = std::env::current_exe().unwrap();
        let profile = tests.parent().and_then(Path::parent).unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        if cfg!(not(feature = "train")) {
            build.arg("--no-default-features");
        }
        assert!(build.status().unwrap().success());
        profile.join("examples")
    };
    FOLDER.get_or_init(build).join(name)
}
