//! Checkpoints are read as they were written, and what is damaged is noticed.

use super::*;
use crate::model::state::HostTensor;

fn checkpoint(step: u64) -> Checkpoint {
    let tensor = |value: f32| HostTensor { shape: vec![2, 2], data: vec![value, -0.0, 1e-30, 7.0] };
    let named = |name: &str, value| NamedTensors::from([(name.to_owned(), tensor(value))]);
    Checkpoint {
        meta: Meta {
            version: VERSION,
            step,
            accumulated: 1,
            micro: 4 * step + 1,
            train_images: 9,
            images: Some(Fingerprint::default()),
            updates: step,
            losses: vec![0.25],
            best_val_loss: Some(0.5),
            val_loss: None,
            val_accuracy: None,
            best: None,
            val_images: Some(5000),
            on_all: true,
            evaluated: None,
            elapsed_s: 12.5,
            // No configuration, so that any tensors will do.
            config: "of no model".to_owned(),
        },
        engine: EngineState {
            weights: named("a.weight", 1.5),
            moments: named("first.a.weight", 2.5),
            updates: step,
            gradients: named("a.weight", 3.5),
            losses: vec![0.25],
        },
    }
}

#[test]
fn a_checkpoint_comes_back_bit_for_bit() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let (path, size) = save(temp.path(), &checkpoint(3)).expect("written");
    assert_eq!(path.file_name().expect("a name"), "step-00000003+1.safetensors");
    assert_eq!(size, fs::metadata(&path).expect("there").len());
    assert_eq!(load(&path).expect("sound"), checkpoint(3));
}

#[test]
fn any_flipped_bit_and_any_cut_is_found() {
    let good = encode(&checkpoint(3)).expect("encodes");
    let path = Path::new("x.safetensors");
    for at in 0..good.len() {
        for bit in [0x01, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            assert!(decode(bad, path).is_err(), "byte {at}");
        }
        assert!(decode(good[..at].to_vec(), path).is_err(), "cut at {at}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(decode(longer, path).is_err(), "a byte too many");
    decode(good, path).expect("the original is sound");
}

#[test]
fn tensors_of_another_model_than_the_configuration_says_are_refused() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let mut wrong = checkpoint(3);
    wrong.meta.config = "[model]\nembed_dim = 8192\ndepth = 128\nheads = 64\n".to_owned();
    let (path, _) = save(temp.path(), &wrong).expect("written");
    let error = load(&path).expect_err("refused").to_string();
    assert!(error.contains("its configuration and its tensors disagree: tensor "), "{error}");
}

#[test]
fn a_later_format_is_refused_by_its_number() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    let mut later = checkpoint(3);
    later.meta.version = VERSION + 1;
    let (path, _) = save(temp.path(), &later).expect("written");
    let error = load(&path).expect_err("refused").to_string();
    assert!(error.ends_with("reads up to 1: use a newer release"), "{error}");
}

#[test]
fn the_newest_sound_one_is_found_and_damage_is_set_aside() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    assert!(find(temp.path(), None).expect("no error").is_none());
    let paths = [1, 2, 10].map(|step| save(temp.path(), &checkpoint(step)).expect("written").0);
    fs::write(&paths[2], b"rubbish").expect("writable");
    let found = find(temp.path(), None).expect("no error").expect("one is sound");
    assert_eq!((found.path, found.checkpoint.meta.step), (paths[1].clone(), 2));
    assert_eq!(found.warnings.len(), 1);
    assert!(found.warnings[0].contains("step-00000010+1"), "{:?}", found.warnings);
    assert_eq!(found.damaged, [paths[2].clone()]);
    let found = find(temp.path(), Some(&paths[0])).expect("no error").expect("the first");
    assert_eq!(found.checkpoint.meta.step, 1);
    assert_eq!(abandon_newer(temp.path(), 1, 1).expect("readable"), 2);
    assert_eq!(list(temp.path()).expect("readable"), paths[..1]);
    fs::write(&paths[0], b"").expect("writable");
    find(temp.path(), None).expect_err("all are damaged");
}

#[test]
fn retention_keeps_the_newest_and_the_best() {
    let temp = tempfile::tempdir().expect("a temporary folder");
    for step in 1..=5 {
        let (path, _) = save(temp.path(), &checkpoint(step)).expect("written");
        if step == 2 {
            mark_best(&path).expect("linked");
            mark_best(&path).expect("it is marked already");
            assert!(!temp.path().join(".best.safetensors.tmp").exists(), "nothing is left over");
        }
        prune(temp.path(), 2);
    }
    let steps: Vec<_> = {
        let paths = list(temp.path()).expect("readable");
        paths.iter().filter_map(|path| position(path)).collect()
    };
    assert_eq!(steps, [(4, 1), (5, 1)]);
    let best = load(&temp.path().join("best.safetensors")).expect("sound");
    assert_eq!(best.meta.step, 2);
}
