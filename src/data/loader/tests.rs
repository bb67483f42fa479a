use super::*;
use crate::data::fixtures::Numbered;
use std::sync::atomic::Ordering;

const AUGMENT: Augment = Augment { crop_scale: [0.3, 1.0], crop_ratio: [0.75, 1.34], flip: 0.5 };

fn config(workers: usize) -> LoaderConfig {
    LoaderConfig {
        batch_size: 5,
        image_size: 12,
        seed: 3,
        workers,
        prefetch: 3,
        augment: AUGMENT,
        shuffle: Shuffle::Full,
        buffer: 1,
    }
}

fn numbered(images: usize, bad: &[usize]) -> Source {
    Arc::new(Numbered::new(images, bad))
}

fn take(loader: &mut Loader, batches: usize) -> Vec<Batch> {
    (0..batches).map(|_| loader.next().unwrap().unwrap()).collect()
}

/// What must not depend on anything but the batch number.
fn content(batches: &[Batch]) -> Vec<(&[u8], &[usize], u64)> {
    batches.iter().map(|b| (&b.images[..], &b.indices[..], b.first_sample)).collect()
}

#[test]
fn batches_do_not_depend_on_the_number_of_workers_or_the_prefetch() {
    let source = numbered(23, &[4, 5, 22]);
    let expected = take(&mut Loader::train(Arc::clone(&source), config(1), 4, 0), 12);
    for (workers, prefetch) in [(2, 1), (3, 7), (8, 2)] {
        let config = LoaderConfig { prefetch, ..config(workers) };
        let batches = take(&mut Loader::train(Arc::clone(&source), config, 4, 0), 12);
        assert_eq!(batches, expected, "{workers} workers, reports included");
    }
}

#[test]
fn threads_come_and_go_while_the_same_batches_are_made() {
    let source = numbered(23, &[4, 22]);
    let expected = take(&mut Loader::train(Arc::clone(&source), config(1), 4, 0), 40);
    let mut loader = Loader::train(Arc::clone(&source), config(1), 4, 0);
    let mut batches = Vec::new();
    for workers in [1, 4, 2, 8, 1, 0, 3, 3, 1, 16] {
        assert_eq!(loader.set_workers(workers), workers.max(1));
        batches.extend(take(&mut loader, 4));
    }
    assert_eq!(batches, expected, "reports included");
    drop(loader);
    assert_eq!(Arc::strong_count(&source), 1, "no thread holds the source any more");
}

#[test]
fn threads_that_are_dismissed_end_and_the_last_one_stays() {
    let mut loader = Loader::train(numbered(50, &[]), config(6), 10, 0);
    loader.set_workers(1);
    for _ in 0..2000 {
        take(&mut loader, 1);
        loader.threads.retain(|thread| !thread.is_finished());
        if loader.threads.len() == 1 {
            break;
        }
    }
    assert_eq!(loader.threads.len(), 1);
    take(&mut loader, 20);
    assert_eq!(loader.threads.len(), 1);
}

#[test]
fn a_loader_can_start_at_any_batch() {
    let source = numbered(17, &[9]);
    let whole = take(&mut Loader::train(Arc::clone(&source), config(2), 3, 0), 14);
    for start in [1, 3, 7, 13] {
        let count = 14 - start;
        let late = Loader::train(Arc::clone(&source), config(3), 3, start as u64);
        let late = take(&mut { late }, count);
        assert_eq!(content(&late), content(&whole[start..]));
    }
}

#[test]
fn an_epoch_shows_every_image_and_the_next_one_in_another_order() {
    let batches = take(&mut Loader::train(numbered(20, &[]), config(2), 4, 0), 8);
    let order: Vec<usize> = batches.iter().flat_map(|b| b.indices.clone()).collect();
    let (first, second) = order.split_at(20);
    let sorted = |part: &[usize]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part
    };
    assert_ne!(first, second);
    assert_eq!((sorted(first), sorted(second)), ((0..20).collect(), (0..20).collect()));
    assert_eq!(batches[6].first_sample, 30);
}

#[test]
fn validation_is_every_image_once_in_order_with_a_short_end() {
    let mut loader = Loader::validation(numbered(12, &[]), config(3));
    let batches = take(&mut loader, 3);
    assert!(loader.next().unwrap().is_none() && loader.next().unwrap().is_none());
    let lengths: Vec<_> = batches.iter().map(Batch::len).collect();
    assert_eq!(lengths, [5, 5, 2]);
    let order: Vec<_> = batches.iter().flat_map(|b| b.indices.clone()).collect();
    assert_eq!(order, (0..12).collect::<Vec<_>>());
    for batch in &batches {
        for (image, index) in batch.images.chunks_exact(12 * 12 * 3).zip(&batch.indices) {
            assert!(image.chunks_exact(3).all(|pixel| usize::from(pixel[2]) == *index));
        }
    }
}

#[test]
fn a_bad_image_is_replaced_by_the_next_good_one_and_reported_once() {
    let source = Arc::new(Numbered::new(6, &[1, 5]));
    let mut loader = Loader::train(source.clone(), config(2), 6, 0);
    let batches = take(&mut loader, 6);
    let clean = take(&mut Loader::train(numbered(6, &[]), config(1), 6, 0), 6);
    for (found, clean) in batches.iter().zip(&clean) {
        let expected: Vec<usize> =
            clean.indices.iter().map(|&i| if i == 1 { 2 } else { i % 5 }).collect();
        assert_eq!(found.indices, expected);
    }
    let mut skipped: Vec<_> =
        batches.iter().flat_map(|b| &b.faulty).map(ToString::to_string).collect();
    skipped.sort();
    assert_eq!(skipped, ["numbered#1: bad on purpose", "numbered#5: bad on purpose"]);
    drop(loader);
    let mut validation = Loader::validation(numbered(6, &[1, 5]), config(1));
    assert_eq!(validation.next().unwrap().unwrap().indices, [0, 2, 2, 3, 4]);
    assert_eq!(validation.next().unwrap().unwrap().indices, [0]);
}

#[test]
fn a_known_bad_image_is_not_decoded_again() {
    let source = Arc::new(Numbered::new(2, &[0]));
    let config = LoaderConfig { batch_size: 1, prefetch: 1, ..config(1) };
    let mut loader = Loader::train(source.clone(), config, 2, 0);
    take(&mut loader, 10);
    drop(loader);
    // One read of the bad image, one of the good image per batch: 10 taken, 1 ahead.
    assert!(source.reads.load(Ordering::SeqCst) <= 1 + 10 + 2);
}

#[test]
fn a_source_without_readable_images_is_an_error_that_names_it() {
    let mut loader = Loader::train(numbered(4, &[0, 1, 2, 3]), config(2), 1, 0);
    let message = loader.next().unwrap_err().to_string();
    assert!(
        message.contains("none of the images of numbered images can be read (4 tried)"),
        "{message}"
    );
    assert!(message.contains("bad on purpose"), "{message}");
    assert!(loader.next().unwrap().is_none());
}

#[test]
fn an_empty_source_is_an_error() {
    for mut loader in [
        Loader::train(numbered(0, &[]), config(1), 1, 0),
        Loader::validation(numbered(0, &[]), config(1)),
    ] {
        assert!(matches!(loader.next(), Err(DataError::Empty { .. })));
    }
}

#[test]
fn a_decoder_that_panics_costs_one_image_and_not_the_run() {
    for workers in [1, 4] {
        let source = Numbered { panics: Some(3), ..Numbered::new(5, &[]) };
        let mut loader = Loader::validation(Arc::new(source), config(workers));
        let batch = loader.next().unwrap().unwrap();
        assert_eq!(batch.indices, [0, 1, 2, 4, 4], "the next image takes its place");
        assert_eq!(batch.faulty.len(), 1);
        assert!(batch.faulty[0].reason.contains("image 3 is cursed"), "{:?}", batch.faulty);
    }
}

#[test]
fn dropping_a_loader_at_any_time_ends_its_threads() {
    for taken in 0..4 {
        let source: Source = numbered(50, &[7]);
        let mut loader = Loader::train(Arc::clone(&source), config(3), 10, 0);
        take(&mut loader, taken);
        drop(loader);
        assert_eq!(Arc::strong_count(&source), 1, "no thread holds the source any more");
    }
}

#[test]
fn the_prefetch_is_bounded() {
    let source = Arc::new(Numbered::new(100, &[]));
    let mut loader = Loader::train(source.clone(), config(2), 20, 0);
    take(&mut loader, 4);
    drop(loader);
    let read = source.reads.load(Ordering::SeqCst);
    assert!((4 * 5..=(4 + 3) * 5).contains(&read), "{read} images were read for 4 batches");
}
