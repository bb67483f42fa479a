//! What a resume says of its data and its length before it goes on.

use super::args::TrainArgs;
use crate::config::{Config, TrainConfig};
use crate::data::{DataChange, Dataset, Fingerprint, ListedData};
use crate::error::Error;
use crate::event::Level;
use crate::text::shell::for_shell;
use crate::train::RunLength;
use crate::weights::checkpoint::FoundCheckpoint;
use std::path::Path;

/// Returns the fingerprint of the data. If `found` is what a run goes on from, adds warnings about other images than
/// before and about a run that is over.
///
/// # Errors
/// As [`check_images`].
pub(super) fn judge(
    args: &TrainArgs,
    config: &mut Config,
    data: &Dataset,
    found: Option<&FoundCheckpoint>,
    notices: &mut Vec<(Level, String)>,
) -> Result<Fingerprint, Error> {
    let (images, changed) = check_images(data, found, args.accept_data_change)?;
    let over = found.zip(args.resume.as_deref());
    let over = over.and_then(|(found, path)| nothing_left(config, found, data.train.len(), path));
    notices.extend(changed.into_iter().chain(over).map(|text| (Level::Warning, text)));
    Ok(images)
}

/// Returns the fingerprint of the data, and what is to be said if its images are not those of the checkpoint.
///
/// # Errors
/// If images crossed from validation into training, unless `accept`: nothing that was measured on them would hold for
/// unseen images any more, and no later figure would show it.
fn check_images(
    data: &Dataset,
    found: Option<&FoundCheckpoint>,
    accept: bool,
) -> Result<(Fingerprint, Option<String>), Error> {
    let listed = ListedData::of(data);
    let now = listed.fingerprint();
    let then = found.and_then(|found| found.checkpoint.meta.images.as_ref());
    let Some(change) = then.and_then(|then| then.change(&listed, &now)) else {
        return Ok((now, None));
    };
    if change.into_training > 0 && !accept {
        return Err(Error::Usage(refusal(data, &change)));
    }
    let mut text = format!("the images are not those of the checkpoint: {}", change.text());
    if change.into_validation > 0 {
        text += "; validation losses are too good from here on, as these images were trained on";
    }
    Ok((now, Some(text)))
}

fn refusal(data: &Dataset, change: &DataChange) -> String {
    let example = change.example.as_deref().unwrap_or("?");
    // The split takes a share of all images, so its border moves with their number.
    let cause = if data.val_split_off {
        " (the validation set is split off anew when images come or go; train/ and val/ folders hold it fixed)"
    } else {
        ""
    };
    format!(
        "the images are not those of the checkpoint: {}, for example {example}: the best loss and checkpoint so far \
         would no longer be of unseen images{cause}; put them back, or go on all the same with --accept-data-change",
        change.text()
    )
}

/// Returns what is to be said if a resume has nothing left to do. `resumed` is what the user gave as `--resume`.
///
/// With fewer epochs or steps than are done, the number in `config` becomes that of those done, so that no file of the
/// run contradicts its checkpoints.
fn nothing_left(
    config: &mut Config,
    found: &FoundCheckpoint,
    images: usize,
    resumed: &Path,
) -> Option<String> {
    let length = RunLength::new(config, images);
    let step = found.checkpoint.meta.step;
    if step < length.total_steps {
        return None;
    }
    let TrainConfig { epochs, steps, .. } = &mut config.train;
    let epochs_done = step / length.steps_per_epoch;
    let (key, asked, done, text) = match (&mut *steps, epochs) {
        (None, Some(asked)) => {
            let text = format!("{epochs_done} epochs (step {step}) are done");
            ("train.epochs", asked, epochs_done as usize, text)
        }
        (steps, _) => {
            let asked = steps.get_or_insert(step as usize);
            ("train.steps", asked, step as usize, format!("step {step} is done"))
        }
    };
    let was = *asked;
    *asked = was.max(done);
    Some(format!(
        "nothing is left to do: {text}, and {key} is {was}; to go on, raise it: simmim-tui --resume {} --set {key}={}",
        for_shell(resumed),
        2 * *asked
    ))
}
