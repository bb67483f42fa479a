//! The `preview` command: shows pictures in the plain shell by the best protocol that the terminal has, or writes them
//! as a PNG.

mod reconstruct;
mod source;
#[cfg(test)]
mod tests;

use crate::error::Error;
use crate::shown;
use crate::terminal::colors;
use crate::terminal::graphics::{GraphicsError, PictureScreen, Protocol};
use crate::terminal::unicode::has_unicode;
use crate::text::say::{UnwrittenOutput, still_read, tell_to};
use image::{ImageFormat, RgbImage};
use source::Picture;
use std::fs;
use std::io::{self, Cursor, IsTerminal as _, Write, stdout};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Default, clap::Args)]
pub struct PreviewArgs {
    /// Run directories, preview PNGs or images; with one checkpoint, its reconstructions of the images named beside it,
    /// or of validation images
    #[arg(required = true, value_name = "RUN|CKPT|IMAGE")]
    pub what: Vec<PathBuf>,
    /// Write a PNG instead of drawing on the terminal
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Show the preview nearest to this step instead of the newest
    #[arg(long)]
    pub step: Option<u64>,
    /// Draw this many columns wide [default: as wide as the terminal]
    #[arg(long, value_name = "COLUMNS")]
    pub width: Option<u32>,
    /// Draw on the terminal by this protocol
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Protocol,
}

/// Shows pictures in the terminal, or writes them as one PNG to a file or a pipe.
///
/// # Errors
/// Returns an error if there is nothing to show, or no way to show it.
pub fn run(args: &PreviewArgs) -> Result<(), Error> {
    let env = |name: &str| std::env::var(name).ok();
    run_in(args, env, stdout().is_terminal(), &mut stdout(), &reconstruct::preview)?;
    Ok(())
}

/// Makes a sheet from a checkpoint and images.
type Reconstruct<'a> = dyn Fn(&Path, &[PathBuf]) -> Result<RgbImage, Error> + 'a;

/// Runs the command in any environment, so that tests need neither a terminal nor a model.
fn run_in(
    args: &PreviewArgs,
    env: impl Fn(&str) -> Option<String>,
    terminal: bool,
    out: &mut impl Write,
    reconstruct: &Reconstruct<'_>,
) -> Result<(), PreviewError> {
    if args.what.is_empty() {
        return Err(PreviewError::Nothing);
    }
    let pictures = pictures(args, reconstruct)?;
    if let Some(path) = &args.output {
        let write = |source| PreviewError::Write { path: path.clone(), source };
        return fs::write(path, png(&pictures)?).map_err(write);
    }
    if !terminal {
        let png = png(&pictures)?;
        return Ok(still_read(out.write_all(&png).and_then(|()| out.flush()))?);
    }
    let (depth, ascii) = (colors::detect(None, &env).depth, !has_unicode(&env));
    let screen = PictureScreen::open(args.protocol, depth, ascii, &env)?;
    for picture in &pictures {
        tell_to(out, &picture.caption)?;
        screen.print(&picture.image, args.width, out)?;
    }
    Ok(())
}

/// Opens everything that is to be shown.
fn pictures(
    args: &PreviewArgs,
    reconstruct: &Reconstruct<'_>,
) -> Result<Vec<Picture>, PreviewError> {
    let (checkpoints, others): (Vec<PathBuf>, Vec<PathBuf>) = args
        .what
        .iter()
        .cloned()
        .partition(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    match checkpoints.as_slice() {
        [] => others.iter().map(|path| source::open(path, args.step)).collect(),
        [checkpoint] => {
            let image = reconstruct(checkpoint, &others)
                .map_err(|error| PreviewError::Reconstruct(Box::new(error)))?;
            Ok(vec![Picture { caption: source::sheet_caption(checkpoint), image }])
        }
        [_, second, ..] => Err(PreviewError::TwoCheckpoints { path: second.clone() }),
    }
}

fn png(pictures: &[Picture]) -> Result<Vec<u8>, PreviewError> {
    let mut bytes = Cursor::new(Vec::new());
    source::stacked(pictures).write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
enum PreviewError {
    #[error("nothing to show: name a run, a preview or an image")]
    Nothing,
    #[error("{}: {source}", shown::path(.path))]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: not a run (it has no previews folder)", shown::path(.path))]
    NotARun { path: PathBuf },
    #[error("{}: no previews yet", shown::path(.path))]
    NoPreviews { path: PathBuf },
    #[error("{}: a classifier reconstructs nothing, its run has no previews", shown::path(.path))]
    Classifier { path: PathBuf },
    #[error("{}: not a picture: {why}", shown::path(.path))]
    NotAPicture { path: PathBuf, why: String },
    #[error("one checkpoint at a time: {} is the second", shown::path(.path))]
    TwoCheckpoints { path: PathBuf },
    #[error(transparent)]
    Reconstruct(Box<Error>),
    #[error(transparent)]
    Unwritten(#[from] UnwrittenOutput),
    #[error("{}: {source}", shown::path(.path))]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot make a PNG: {0}")]
    Encode(#[from] image::ImageError),
    #[error(transparent)]
    Graphics(#[from] GraphicsError),
}

impl PreviewError {
    /// Returns whether the user can mend it by another command line.
    fn is_usage(&self) -> bool {
        match self {
            Self::Nothing
            | Self::Read { .. }
            | Self::NotARun { .. }
            | Self::NoPreviews { .. }
            | Self::Classifier { .. }
            | Self::NotAPicture { .. }
            | Self::TwoCheckpoints { .. }
            | Self::Graphics(GraphicsError::NoKitty | GraphicsError::NoIterm) => true,
            Self::Reconstruct(_)
            | Self::Unwritten(_)
            | Self::Write { .. }
            | Self::Encode(_)
            | Self::Graphics(_) => false,
        }
    }
}

impl From<PreviewError> for Error {
    fn from(error: PreviewError) -> Self {
        // The model has errors of its own, which know their exit codes.
        if let PreviewError::Reconstruct(error) = error {
            return *error;
        }
        let text = error.to_string();
        if error.is_usage() { Self::Usage(text) } else { Self::Failed(text) }
    }
}
