//! The `embed` command: draws the features of images as points in the plane.

mod pca;
mod picture;
mod points;
mod scatter;
mod tsne;

use super::args::ListArgs;
use super::encoder::{self, Split, check_layer};
use super::screen::LookArgs;
use crate::data::loader::LoaderConfig;
use crate::data::{Source, split};
use crate::engine::device;
use crate::error::Error;
use crate::eval::features::Features;
use crate::run_dir::write_atomic_with;
use crate::shown;
use crate::terminal::colors::ColorDepth;
use crate::terminal::size::clamped;
use crate::text::bar::Bar;
use crate::text::say::{print, say, tell};
use image::ImageFormat;
use pca::pca;
use points::Points;
use rustix::termios::tcgetwinsize;
use scatter::{PlotStyle, lines};
use std::io::{Cursor, IsTerminal as _, Write as _, stderr, stdout};
use std::path::{Path, PathBuf};
use tsne::tsne;

/// Columns and rows of the plot where there is no terminal to fill.
const USUAL: (usize, usize) = (80, 24);
/// Lines that are left for the legend and the prompt.
const BELOW: usize = 5;

#[derive(Debug, Clone, clap::Args)]
pub struct EmbedArgs {
    /// Run directory (its best checkpoint, or else its newest) or checkpoint file
    #[arg(value_name = "RUN|CKPT")]
    pub weights: PathBuf,
    /// Use these images: a folder or data files, or the built-in `photos` or `fashion-mnist-mini` [default: the run's
    /// data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub lists: ListArgs,
    /// Use this part of the data
    #[arg(long, value_enum, default_value_t)]
    pub split: Split,
    /// Turn features into points by principal components, or by t-SNE, which shows clusters but no distances
    #[arg(long, value_enum, default_value_t)]
    pub method: Projection,
    /// Draw at most this many images, picked evenly
    #[arg(long, value_name = "IMAGES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=tsne::MOST as i64))]
    pub limit: u32,
    /// Take the tokens after this many blocks, without the final norm [default: after all blocks and the final norm]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub layer: Option<u32>,
    /// Compute on this device: auto, cpu, cuda or cuda:N
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
/// Returns an error if weights, data or device can't be used, or if the picture can't be written.
pub fn run(args: &EmbedArgs) -> Result<(), Error> {
    if let Some(path) = &args.output
        && path.extension().is_none_or(|ending| ending != "png")
    {
        return Err(Error::Usage(format!("{}: the picture is a .png", shown::path(path))));
    }
    args.lists.apply();
    let weights = encoder::open(&args.weights)?;
    let layer = check_layer(args.layer, &weights.config)?;
    let device = device::select(&args.device)?.device;
    let own = &weights.config.data;
    let named = args.data.as_ref().map(|path| own.with_images(path));
    let data = encoder::open_images(named.as_ref().unwrap_or(own))?;
    let engine = weights.engine(&device)?;
    let sources = sampled(&args.split.sources(&data), args.limit as usize);
    let loader = LoaderConfig::from_config(&weights.config);
    let features = encoder::features(engine.as_ref(), &sources, loader, layer)?;

    let (places, how) = project(&features, args.method);
    let short = format!("{how}, {} images", features.len());
    let caption = format!("{short}, {}", shown::path(&weights.path));
    let points = Points { places, labels: features.labels, classes: data.classes };
    if let Some(path) = &args.output {
        write_png(path, &points, &short)?;
        say(&mut stderr(), &format!("{caption}: {}", shown::path(path)));
    } else {
        tell(&caption)?;
        // The lines have colours, so they are printed as they are.
        print((lines(&points, style(&args.look)).join("\n") + "\n").as_bytes())?;
    }
    Ok(())
}

/// Picks at most `limit` images. Each source keeps its share of them.
fn sampled(sources: &[Source], limit: usize) -> Vec<Source> {
    let mut images_left: usize = sources.iter().map(|source| source.len()).sum();
    let mut left = images_left.min(limit);
    let sample = |source: &Source| {
        let share = (source.len() * left).checked_div(images_left).unwrap_or(0);
        (left, images_left) = (left - share, images_left - source.len());
        split::sample(source, share)
    };
    sources.iter().map(sample).collect()
}

/// Returns the points of the features, and the words that say how they were found.
fn project(features: &Features, method: Projection) -> (Vec<[f64; 2]>, String) {
    let found = pca(&features.values, features.dim);
    match method {
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
    }
}

fn write_png(path: &Path, points: &Points, caption: &str) -> Result<(), Error> {
    let failed = |source| Error::Output { path: path.to_owned(), source };
    let mut bytes = Cursor::new(Vec::new());
    let encoded = picture::draw(points, caption).write_to(&mut bytes, ImageFormat::Png);
    encoded.map_err(|error| failed(std::io::Error::other(error)))?;
    write_atomic_with(path, |out| out.write_all(bytes.get_ref())).map_err(failed)
}

/// Returns a style that fills the terminal. Without a terminal there are no colours unless they are asked for.
fn style(args: &LookArgs) -> PlotStyle {
    let (colors, ascii) = args.detect();
    let terminal = stdout().is_terminal();
    let size = tcgetwinsize(stdout()).map(|size| clamped(size.ws_col, size.ws_row));
    let (columns, rows) = size
        .ok()
        .filter(|&(columns, rows)| columns > 0 && rows > 0)
        .map_or(USUAL, |(columns, rows)| (columns.into(), rows.into()));
    let asked = args.color.is_some();
    let depth = if terminal || asked { colors.depth } else { ColorDepth::Mono };
    PlotStyle { columns, rows: rows.saturating_sub(BELOW).max(5), depth, ascii }
}
