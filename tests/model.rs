//! A trained model is read from the folder of a run, of a checkpoint, or of Hugging Face, and what is
//! wrong with a folder is said in words.

#![cfg(feature = "train")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use twelvefold::model::{Config, Layout};
use twelvefold::train::Options;
use twelvefold::train::inspect::inspect;
use twelvefold::train::model::Model;

#[path = "common/tiny.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod tiny;

const SIZES: Config = Config { vocab: 11, layers: 2, heads: 2, width: 8, context: 5 };

/// Name, type, shape, bytes.
type Saved = Vec<(String, Dtype, Vec<usize>, Vec<u8>)>;

/// Weights that f16 and bf16 hold exactly: multiples of 1/16 up to 4.
fn weights() -> Vec<f32> {
    (0..Layout::new(&SIZES).len()).map(|i| (i * 37 % 129) as f32 / 16.0 - 4.0).collect()
}

fn bytes(values: &[f32], dtype: Dtype) -> Vec<u8> {
    let two = |bits: u16| bits.to_le_bytes();
    match dtype {
        Dtype::F16 => values.iter().flat_map(|v| two(half(*v))).collect(),
        Dtype::BF16 => values.iter().flat_map(|v| two((v.to_bits() >> 16) as u16)).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// The f16 of a number that is one, and neither tiny nor huge.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    if value == 0.0 {
        return 0;
    }
    ((bits >> 16 & 0x8000) | ((bits >> 23 & 0xff) - 112) << 10 | bits >> 13 & 0x3ff) as u16
}

/// The tensors of a model, as Hugging Face saves them: with or without the head.
fn saved(prefix: &str, dtype: Dtype) -> Saved {
    let weights = weights();
    let tensor = |tensor: &twelvefold::model::Tensor| {
        let name = tensor.name.replace("transformer.", prefix);
        (name, dtype, tensor.shape.clone(), bytes(&weights[tensor.range.clone()], dtype))
    };
    Layout::new(&SIZES).tensors().iter().map(tensor).collect()
}

fn foreign(tensors: &Saved, config: impl FnOnce(&mut Value)) -> TempDir {
    let folder = tempdir().unwrap();
    let mut value = json!({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new",
        "vocab_size": 11, "n_positions": 5, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_inner": null,
        "layer_norm_epsilon": 1e-5, "eos_token_id": 10,
    });
    config(&mut value);
    fs::write(folder.path().join("config.json"), value.to_string()).unwrap();
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let file = safetensors::serialize(views, None).unwrap();
    fs::write(folder.path().join("model.safetensors"), file).unwrap();
    folder
}

/// The first line of the error.
fn refused(folder: impl AsRef<Path>) -> String {
    Model::open(folder).unwrap_err().to_string()
}

fn same_weights(model: &Model) {
    let weights = weights();
    for tensor in Layout::new(&SIZES).tensors() {
        let range = tensor.range.clone();
        assert_eq!(model.params()[range.clone()], weights[range], "{}", tensor.name);
    }
    assert!(model.params()[11 * 8..64 * 8].iter().all(|x| *x == 0.0), "the padded rows");
}

#[test]
fn a_folder_of_hugging_face_opens_in_each_of_its_forms() {
    for prefix in ["transformer.", ""] {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let mut tensors = saved(prefix, dtype);
            // What older files carry, and the head once more.
            let mask = (format!("{prefix}h.1.attn.bias"), Dtype::U8, vec![1, 1, 5, 5], vec![1; 25]);
            let masked = (format!("{prefix}h.0.attn.masked_bias"), Dtype::F32, vec![], vec![0; 4]);
            let head = ("lm_head.weight".to_owned(), dtype, vec![11, 8], tensors[0].3.clone());
            tensors.extend([mask, masked, head]);
            let folder = foreign(&tensors, |_| ());
            let model = Model::open(&folder).unwrap();
            same_weights(&model);
            assert_eq!((*model.config(), model.end_of_document()), (SIZES, Some(10)));
            assert!(!model.is_verified() && model.tokenizer().is_none());
            let paths = vec![model.folder().to_owned()];
            let found = inspect(&Options { paths, ..Options::default() }).unwrap().to_string();
            assert!(found.contains("2 layers") && found.contains("without a tokenizer"), "{found}");
            let message = model.require_tokenizer().unwrap_err().to_string();
            assert!(message.contains("has no tokenizer.json"), "{message}");
        }
    }
}

#[test]
fn what_is_wrong_with_the_weights_is_said_with_the_tensor() {
    type Change = fn(&mut Saved);
    let nan = |tensors: &mut Saved| tensors[7].3[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    let table: [(&str, Change); 8] = [
        ("transformer.h.0.attn.c_proj.bias holds NaN at value 1", nan),
        ("holds -inf at value 0", |t| {
            t[3].3[..4].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes())
        }),
        ("the tensor transformer.h.1.mlp.c_fc.bias is missing", |t| t[23].0 = "score.bias".into()),
        ("has 27 tensors, and the model 28", |t| t.truncate(27)),
        ("score.weight is no tensor of this model", |t| {
            t.push(("score.weight".to_owned(), Dtype::F32, vec![1], vec![0; 4]));
        }),
        ("ln_f.bias is [4, 2], and config.json says [8]", |t| t[27].2 = vec![4, 2]),
        ("lm_head.weight is another matrix", |t| {
            t.push(("lm_head.weight".to_owned(), Dtype::F32, vec![11, 8], vec![0; 4 * 88]));
        }),
        ("wte.weight is I32 [11, 8], not 88 values of F32, F16 or BF16", |t| t[0].1 = Dtype::I32),
    ];
    for (expected, change) in table {
        let mut tensors = saved("transformer.", Dtype::F32);
        change(&mut tensors);
        let message = refused(foreign(&tensors, |_| ()));
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("model.safetensors"), "{message}");
    }
}

#[test]
fn a_folder_of_another_kind_is_refused_with_what_would_do() {
    let tensors = saved("", Dtype::F32);
    let llama = foreign(&tensors, |v| v["model_type"] = json!("llama"));
    let message = refused(&llama);
    assert!(message.contains("it is of type llama; only gpt2 is"), "{message}");
    assert!(message.contains("hint: give the folder of a run"), "{message}");
    let huge = foreign(&tensors, |v| v["n_layer"] = json!(1 << 23));
    assert!(refused(&huge).contains("has 28 tensors, and the model 100663300"));
    let beyond = foreign(&tensors, |v| v["n_embd"] = json!(1_u64 << 40));
    assert!(refused(&beyond).contains("--width"), "{}", refused(&beyond));

    let shards = foreign(&tensors, |_| ());
    let file = shards.path().join("model.safetensors");
    fs::rename(&file, shards.path().join("model.safetensors.index.json")).unwrap();
    assert!(refused(&shards).contains("in several files"), "{}", refused(&shards));
    let pickle = shards.path().join("pytorch_model.bin");
    fs::rename(shards.path().join("model.safetensors.index.json"), pickle).unwrap();
    assert!(refused(&shards).contains("safe_serialization=True"), "{}", refused(&shards));
    assert!(refused(shards.path().join("config.json")).contains("not a file of it"));
    fs::remove_file(shards.path().join("config.json")).unwrap();
    fs::create_dir(shards.path().join("checkpoints")).unwrap();
    assert!(refused(&shards).contains("give one of its checkpoints"), "{}", refused(&shards));
}

#[test]
fn a_run_and_its_checkpoints_open_and_a_changed_byte_is_found() {
    for tokenizer in ["bytes", "words:40", "bpe:270"] {
        let folder = tempdir().unwrap();
        let out = folder.path().join("run");
        let tokenizer = tokenizer.to_owned();
        let options = Options { out: out.clone(), tokenizer, checkpoint_every: 1, ..tiny::tiny() };
        let report = twelvefold::train::run(&options, &Default::default(), &mut ()).unwrap();
        let model = Model::open(&out).unwrap();
        assert_eq!(model.weights_sha256(), report.weights_sha256);
        assert_eq!(model.parameters(), report.parameters);
        assert!(model.is_verified());
        let text = fs::read_to_string(out.join("tokenizer.json")).unwrap();
        let found = model.require_tokenizer().unwrap();
        assert_eq!(format!("{:#}\n", found.to_json()), text);
        assert_eq!(model.end_of_document(), Some(found.end_of_document()));
        let earlier = Model::open(out.join("checkpoints/step-0000000001")).unwrap();
        assert_ne!(earlier.params(), model.params());

        for name in ["model.safetensors", "tokenizer.json"] {
            let whole = fs::read(out.join(name)).unwrap();
            let mut changed = whole.clone();
            *changed.last_mut().unwrap() ^= 1;
            fs::write(out.join(name), changed).unwrap();
            let message = refused(&out);
            assert!(message.contains(&format!("{name} is not as it was written")), "{message}");
            fs::write(out.join(name), whole).unwrap();
        }
    }
}
