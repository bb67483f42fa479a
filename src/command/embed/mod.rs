//! The `embed` command.

pub mod pca;
pub(crate) mod picture;
pub mod points;
pub(crate) mod scatter;
pub mod tsne;

use super::features::{Split, check_layer, note_skipped};
use super::screen::LookArgs;
use crate::data::loader::LoaderConfig;
use crate::data::{self, split};
use crate::engine::device;
use crate::error::Error;
use crate::eval::features::{Features, extract};
use crate::run_dir::write_atomic;
use crate::terminal::colors::ColorDepth;
use crate::text::bar::Bar;
use crate::text::say::{say, say_all};
use crate::weights::locate::Weights;
use image::ImageFormat;
use pca::pca;
use points::Points;
use rustix::termios::tcgetwinsize;
use scatter::{PlotStyle, lines};
use std::io::{Cursor, IsTerminal as _, stderr, stdout};
use std::ops::ControlFlow;
use std::path::PathBuf;
use tsne::tsne;

/// Columns and rows of the plot where there is no terminal to fill.
const USUAL: (usize, usize) = (80, 24);
/// Lines that are left for the legend and the prompt.
const BELOW: usize = 5;

#[derive(Debug, Clone, clap::Args)]
pub struct EmbedArgs {
    /// A run (its best checkpoint, else the newest) or a checkpoint file
    #[arg(value_name = "RUN|CKPT")]
    pub weights: PathBuf,
    /// Images: a folder or data files, or `photos` or `fashion-mnist-mini` for built-in ones [default: the run's data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Which part of the data
    #[arg(long, value_enum, default_value_t)]
    pub split: Split,
    /// How features become points: principal components, or t-SNE, which shows clusters but no distances
    #[arg(long, value_enum, default_value_t)]
    pub method: Projection,
    /// Images at most, picked evenly
    #[arg(long, value_name = "IMAGES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=tsne::MOST as i64))]
    pub limit: u32,
    /// Tokens after this many blocks, without the final norm [default: after all blocks and the final norm]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub layer: Option<u32>,
    /// auto, cpu, cuda or cuda:N
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Write a PNG instead of drawing on the terminal
    #[arg(short, long, value_name = "FILE.png")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub look: LookArgs,
}

/// How features become points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Projection {
    #[default]
    Pca,
    Tsne,
}

/// Draws the features of images as points.
///
/// # Errors
/// Weights, data or device can't be used, or the picture can't be written.
pub fn run(args: &EmbedArgs) -> Result<(), Error> {
    if let Some(path) = &args.output
        && path.extension().is_none_or(|ending| ending != "png")
    {
        return Err(Error::Usage(format!("{}: the picture is a .png", path.display())));
    }
    let weights = Weights::open(&args.weights)?;
    weights.warn();
    let layer = check_layer(args.layer, &weights.config)?;
    let device = device::select(&args.device)?.device;
    let own = &weights.config.data;
    let data = data::open(&args.data.as_ref().map_or(own.clone(), |path| own.with_images(path)))?;
    let parts = args.split.sources(&data);
    let engine = weights.engine(&device)?;
    let loader = LoaderConfig::from_config(&weights.config);
    let all: usize = parts.iter().map(|part| part.len()).sum();
    let limit = args.limit as usize;
    let bar = Bar::new("features", all.min(limit));
    let mut features = Features::default();
    let (mut left, mut images_left) = (all.min(limit), all);
    for part in parts {
        // Each part has its share of the points.
        let share = (part.len() * left).checked_div(images_left).unwrap_or(0);
        (left, images_left) = (left - share, images_left - part.len());
        let before = features.len() + features.skipped.len();
        let part = extract(engine.as_ref(), &split::sample(part, share), loader, layer, |done| {
            bar.set(before + done);
            ControlFlow::Continue(())
        })?;
        features.append(part.unwrap_or_default()); // nobody breaks it off
    }
    drop(bar);
    note_skipped(&features.skipped);

    let found = pca(&features.values, features.dim);
    let (places, how) = match args.method {
        Projection::Pca => {
            let [first, second] = found.explained.map(|share| 100.0 * share);
            let how = format!("PCA: {first:.0} % and {second:.0} % of the variance");
            (found.places, how)
        }
        Projection::Tsne => {
            let bar = Bar::new("t-SNE", tsne::ITERATIONS);
            let places = tsne(&features.values, features.dim, &found.places, |done| bar.set(done));
            (places, "t-SNE".to_owned())
        }
    };
    let short = format!("{how}, {} images", features.len());
    let caption = format!("{short}, {}", weights.path.display());
    let points = Points { places, labels: features.labels, classes: data.classes };
    if let Some(path) = &args.output {
        let mut bytes = Cursor::new(Vec::new());
        let encoded = picture::draw(&points, &short).write_to(&mut bytes, ImageFormat::Png);
        let failed = |source| Error::Output { path: path.clone(), source };
        encoded.map_err(|error| failed(std::io::Error::other(error)))?;
        write_atomic(path, bytes.get_ref()).map_err(failed)?;
        say(&mut stderr(), &format!("{caption}: {}", path.display()));
    } else {
        say(&mut stdout(), &caption);
        say_all(lines(&points, look(&args.look)));
    }
    Ok(())
}

/// As large as the terminal; without colours where the output is none.
fn look(args: &LookArgs) -> PlotStyle {
    let (colors, ascii) = args.detect();
    let terminal = stdout().is_terminal();
    let size = tcgetwinsize(stdout()).map(|size| (size.ws_col.into(), size.ws_row.into()));
    let (columns, rows) =
        size.ok().filter(|&(columns, rows)| columns > 0 && rows > 0).unwrap_or(USUAL);
    let asked = args.color.is_some();
    let depth = if terminal || asked { colors.depth } else { ColorDepth::Mono };
    PlotStyle { columns, rows: rows.saturating_sub(BELOW).max(5), depth, ascii }
}
