//! A model alone, for other tools: its files, its numbers in each type, and what is refused.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::Path;

use safetensors::{Dtype as Kind, SafeTensors};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use twelvefold::model::Layout;
use twelvefold::train::inspect::{Whole, inspect, verify_run};
use twelvefold::train::model::Model;
use twelvefold::train::safetensors::Dtype;
use twelvefold::train::{Cancel, Options, run};

#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;

fn trained(tokenizer: &str) -> (TempDir, Model) {
    let folder = tempdir().unwrap();
    let (out, tokenizer) = (folder.path().join("run"), tokenizer.to_owned());
    run(&Options { out: out.clone(), tokenizer, ..tiny::tiny() }, &Cancel::new(), &mut ()).unwrap();
    (folder, Model::open(out).unwrap())
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|e| name(e.unwrap())).collect();
    names.sort();
    names
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The value of 16 bits, by the definition of the two types.
fn value(kind: Kind, bits: u16) -> f64 {
    if kind == Kind::BF16 {
        return f64::from(f32::from_bits(u32::from(bits) << 16));
    }
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-14),
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

#[test]
fn holds_the_weights_to_the_nearest_number_of_its_type() {
    let (folder, model) = trained("bytes");
    let (config, params) = (*model.config(), model.params());
    for (dtype, kind) in
        [(Dtype::F32, Kind::F32), (Dtype::F16, Kind::F16), (Dtype::Bf16, Kind::BF16)]
    {
        let out = folder.path().join(dtype.name());
        let written = model.save(&out, dtype, false).unwrap();
        let bytes = fs::read(out.join("model.safetensors")).unwrap();
        assert_eq!(written.bytes, bytes.len() as u64);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let layout = Layout::new(&config);
        assert_eq!(file.len(), layout.tensors().len());
        for tensor in layout.tensors() {
            let found = file.tensor(&tensor.name).unwrap();
            assert_eq!((found.dtype(), found.shape()), (kind, &*tensor.shape), "{}", tensor.name);
            let weights = &params[tensor.range.clone()];
            let width = found.data().len() / weights.len();
            for (weight, bytes) in weights.iter().zip(found.data().chunks(width)) {
                if kind == Kind::F32 {
                    assert_eq!(*bytes, weight.to_le_bytes());
                    continue;
                }
                let bits = u16::from_le_bytes(bytes.try_into().unwrap());
                let off = |bits| (value(kind, bits) - f64::from(*weight)).abs();
                let nearer = [bits.wrapping_add(1), bits.wrapping_sub(1)];
                assert!(
                    nearer.iter().all(|&other| off(bits) <= off(other)),
                    "{weight} as {bits:#x}"
                );
            }
        }
        let read = Model::open(&out).unwrap();
        assert!(read.is_verified() && read.parameters() == model.parameters());
        assert_eq!(read.params() == params, dtype == Dtype::F32);
    }
}

#[test]
fn has_what_other_tools_need_and_nothing_of_the_training() {
    let table = [
        ("bytes", "<|endoftext|>", false),
        ("bpe:270", "<|endoftext|>", false),
        ("words:40", "[EOS]", true),
    ];
    for (tokenizer, end, has_unknown) in table {
        let (folder, model) = trained(tokenizer);
        let out = folder.path().join("model");
        let written = model.save(&out, Dtype::F32, false).unwrap();
        let files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
        assert_eq!(names(&out), files);
        for name in &files[1..] {
            let of_the_run = fs::read(model.folder().join(name)).unwrap();
            assert!(fs::read(out.join(name)).unwrap() == of_the_run, "{name}");
        }
        let config = json_of(&out.join("config.json"));
        assert_eq!(
            (&config["torch_dtype"], &config["n_positions"]),
            (&json!("float32"), &json!(16))
        );
        let tokenizer = json_of(&out.join("tokenizer_config.json"));
        assert_eq!(tokenizer["tokenizer_class"], "PreTrainedTokenizerFast");
        assert_eq!(tokenizer["model_max_length"], 16);
        assert_eq!((&tokenizer["eos_token"], &tokenizer["bos_token"]), (&json!(end), &json!(end)));
        assert_eq!(tokenizer.get("unk_token").is_some(), has_unknown);
        assert_eq!(tokenizer.get("pad_token").is_some(), has_unknown);

        let found = &verify_run(&out).unwrap()[0].found;
        let whole = Whole { step: None, weights_sha256: written.sha256.clone() };
        assert_eq!(found.as_ref().unwrap(), &whole);
        let options = Options { paths: vec![out.clone()], ..Options::default() };
        assert!(inspect(&options).unwrap().to_string().contains(&written.sha256));
        for name in &files[1..] {
            let whole = fs::read(out.join(name)).unwrap();
            fs::write(out.join(name), [&whole[..], b" "].concat()).unwrap();
            let message = verify_run(&out).unwrap()[0].found.as_ref().unwrap_err().to_string();
            assert!(message.contains(&format!("{name} is not as it was written")), "{message}");
            fs::write(out.join(name), whole).unwrap();
        }
        // A run may begin with it.
        let again = folder.path().join("again");
        let options = Options {
            init: Some(out),
            out: again,
            tokenizer: Options::default().tokenizer,
            ..tiny::tiny()
        };
        run(&options, &Cancel::new(), &mut ()).unwrap();
    }
}

#[test]
fn of_a_model_of_others_keeps_their_tokenizer_and_does_without_one() {
    let (folder, model) = trained("bytes");
    let theirs = folder.path().join("theirs");
    model.save(&theirs, Dtype::F32, false).unwrap();
    let mut config = json_of(&theirs.join("config.json"));
    let keys = config.as_object_mut().unwrap();
    keys.remove("twelvefold_sha256");
    keys.remove("eos_token_id");
    fs::write(theirs.join("config.json"), config.to_string()).unwrap();
    fs::write(theirs.join("tokenizer_config.json"), r#"{"theirs": 1}"#).unwrap();
    let out = folder.path().join("out");
    Model::open(&theirs).unwrap().save(&out, Dtype::Bf16, false).unwrap();
    assert_eq!(json_of(&out.join("tokenizer_config.json")), json!({ "theirs": 1 }));
    assert_eq!(json_of(&out.join("config.json"))["eos_token_id"], 256);
    assert!(verify_run(&theirs).unwrap()[0].found.is_err(), "there is nothing to check it by");

    fs::remove_file(theirs.join("tokenizer.json")).unwrap();
    Model::open(&theirs).unwrap().save(&out, Dtype::F32, true).unwrap();
    let config = json_of(&out.join("config.json"));
    assert_eq!((&config["eos_token_id"], &config["bos_token_id"]), (&Value::Null, &Value::Null));
    let digests = config["twelvefold_sha256"].as_object().unwrap();
    assert_eq!(digests.keys().collect::<Vec<_>>(), ["model.safetensors"]);
    assert!(
        Model::open(&out).unwrap().tokenizer().is_none(),
        "what lies there is not of this model"
    );
}

#[test]
fn is_refused_where_it_would_destroy_or_say_something_else() {
    let (folder, model) = trained("bytes");
    let before = names(model.folder());
    let (_, other) = (folder.path().join("other"), trained("bytes"));
    let refused = |model: &Model, out: &Path, dtype, overwrite| {
        model.save(out, dtype, overwrite).unwrap_err().to_string()
    };
    let message = refused(&model, model.folder(), Dtype::F32, true);
    assert!(message.contains("is where the model comes from"), "{message}");
    let message = refused(&other.1, model.folder(), Dtype::F32, true);
    assert!(
        message.contains("is the folder of a run: it holds optimizer.safetensors"),
        "{message}"
    );
    assert_eq!(names(model.folder()), before);

    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("mine"), "").unwrap();
    let message = refused(&model, &out, Dtype::F32, false);
    assert!(message.contains("is not empty") && message.contains("--overwrite"), "{message}");
    assert_eq!(names(&out), ["mine"]);
    model.save(&out, Dtype::F32, true).unwrap();
    assert_eq!(names(&out).len(), 5);

    // A weight that f16 does not hold.
    let big = folder.path().join("big");
    model.save(&big, Dtype::F32, false).unwrap();
    let file = big.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&70_000_f32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let mut config = json_of(&big.join("config.json"));
    config.as_object_mut().unwrap().remove("twelvefold_sha256");
    fs::write(big.join("config.json"), config.to_string()).unwrap();
    let (model, out) = (Model::open(&big).unwrap(), folder.path().join("none"));
    let message = refused(&model, &out, Dtype::F16, false);
    assert!(
        message.contains("transformer.wte.weight holds 70000") && message.contains("F16"),
        "{message}"
    );
    assert!(!out.exists());
    model.save(&out, Dtype::Bf16, false).unwrap();
}
