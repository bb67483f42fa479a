//! The `preview` command: pictures in the plain shell by the best protocol that the terminal has, or as a PNG.
//!
//! `viuer` draws. It asks the terminal without any time limit, so it is let at the kitty protocol only after
//! `probe` got an answer.

#[cfg(feature = "tui")]
pub mod reconstruct;
pub(crate) mod source;
#[cfg(test)]
pub(crate) mod tests;

use crate::terminal::halfblock::{even, fit, render};
use crate::terminal::probe::{self, Answer};
use crate::ui::theme::{self, ColorDepth};
use image::{DynamicImage, ImageFormat, RgbImage, imageops};
use rustix::termios::tcgetwinsize;
use source::Picture;
use std::fs;
use std::io::{self, Cursor, IsTerminal as _, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// How long the terminal may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// Where the terminal doesn't say its size: columns, rows.
const USUAL_SIZE: (u16, u16) = (80, 24);
/// Pixels of a cell, for terminals that draw pixels; more would only cost bytes.
const CELL: (u32, u32) = (10, 20);
/// `viuer` never ends the transfer of kitty pictures with fewer pixels on a side.
const KITTY_LEAST: u32 = 32;

#[derive(Debug, Clone, Default, clap::Args)]
pub struct PreviewArgs {
    /// Run directories, preview PNGs or images; with a checkpoint its reconstructions of the images named beside it,
    /// or of validation images
    #[arg(required = true, value_name = "RUN|CKPT|IMAGE")]
    pub what: Vec<PathBuf>,
    /// Write a PNG instead of drawing on the terminal
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The preview nearest to this step instead of the newest
    #[arg(long)]
    pub step: Option<u64>,
    /// Width in columns [default: the terminal's]
    #[arg(long, value_name = "COLUMNS")]
    pub width: Option<u32>,
    /// How pictures get on the screen
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Protocol,
}

/// How pictures get on the screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// iTerm2 or kitty where the terminal has it, else blocks.
    #[default]
    Auto,
    /// Half blocks; a ramp of grey characters without colours.
    Blocks,
    Kitty,
    Iterm,
}

/// Why nothing is shown.
#[derive(Debug, Error)]
pub enum PreviewError {
    #[error("nothing to show: name a run, a preview or an image")]
    Nothing,
    #[error("{}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: not a run (it has no previews folder)", .path.display())]
    NotARun { path: PathBuf },
    #[error("{}: no previews yet", .path.display())]
    NoPreviews { path: PathBuf },
    #[error("{}: a classifier reconstructs nothing, its run has no previews", .path.display())]
    Classifier { path: PathBuf },
    #[error("{}: not a picture: {why}", .path.display())]
    NotAPicture { path: PathBuf, why: String },
    #[error("one checkpoint at a time: {} is the second", .path.display())]
    TwoCheckpoints { path: PathBuf },
    #[error("{0}")]
    Reconstruct(String),
    #[error("{}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot make a PNG: {0}")]
    Encode(#[from] image::ImageError),
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
    #[error("the terminal doesn't answer for kitty pictures; try --protocol blocks")]
    NoKitty,
    #[error(
        "no terminal known for iTerm2 pictures (TERM_PROGRAM, LC_TERMINAL, KONSOLE_VERSION); try --protocol blocks"
    )]
    NoIterm,
    #[error("the terminal: {0}")]
    Terminal(#[source] io::Error),
    #[error("the terminal: {0}")]
    Viuer(#[from] viuer::ViuError),
}

impl PreviewError {
    /// Whether the command line is what's wrong.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Nothing
                | Self::Read { .. }
                | Self::NotARun { .. }
                | Self::NoPreviews { .. }
                | Self::Classifier { .. }
                | Self::NotAPicture { .. }
                | Self::TwoCheckpoints { .. }
                | Self::NoKitty
                | Self::NoIterm
        )
    }
}

/// Shows pictures in the terminal, or writes them as one PNG to a file or a pipe.
///
/// # Errors
/// When there is nothing to show, or no way to show it.
///
/// `reconstruct` makes the sheet of a checkpoint, of the given images or of its validation images.
pub fn run(args: &PreviewArgs, reconstruct: &Reconstruct<'_>) -> Result<(), PreviewError> {
    let env = |name: &str| std::env::var(name).ok();
    run_in(args, env, stdout().is_terminal(), &mut stdout(), reconstruct)
}

/// A checkpoint and images to a sheet; an error is one line.
pub type Reconstruct<'a> = dyn Fn(&Path, &[PathBuf]) -> Result<RgbImage, String> + 'a;

/// Opens all that is to be shown.
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
            let image = reconstruct(checkpoint, &others).map_err(PreviewError::Reconstruct)?;
            Ok(vec![Picture { caption: source::sheet_caption(checkpoint), image }])
        }
        [_, second, ..] => Err(PreviewError::TwoCheckpoints { path: second.clone() }),
    }
}

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
        return match out.write_all(&png(&pictures)?).and_then(|()| out.flush()) {
            // The reader has enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(PreviewError::Output),
        };
    }
    let can_ask = stdin().is_terminal() && !silent(&env);
    let ask = || {
        if can_ask { probe::ask(&stdin(), &mut stdout(), PATIENCE) } else { Ok(Answer::default()) }
    };
    let iterm = viuer::is_iterm_supported();
    let protocol = choose(args.protocol, in_multiplexer(&env), iterm, ask)?;
    let (depth, ascii) = (theme::detect(None, &env).depth, !theme::has_unicode(&env));
    let screen = Screen { protocol, depth, ascii, size: size() };
    for picture in &pictures {
        writeln!(out, "{}", picture.caption).map_err(PreviewError::Output)?;
        out.flush().map_err(PreviewError::Output)?;
        screen.print(&picture.image, args.width, out)?;
    }
    Ok(())
}

/// How pictures would get on this terminal, and why.
pub fn detect() -> (&'static str, String) {
    let env = |name: &str| std::env::var(name).ok();
    if in_multiplexer(env) {
        return ("half blocks", "tmux, screen or zellij would swallow other pictures".to_owned());
    }
    if viuer::is_iterm_supported() {
        return (
            "iTerm2 pictures",
            "TERM_PROGRAM, LC_TERMINAL or KONSOLE_VERSION says so".to_owned(),
        );
    }
    if !stdin().is_terminal() || silent(env) {
        return ("half blocks", "the terminal can't be asked for more".to_owned());
    }
    match probe::ask(&stdin(), &mut stdout(), PATIENCE) {
        Ok(Answer { kitty: true, complete: true, .. }) => {
            ("kitty pictures", "the terminal answered the kitty protocol's question".to_owned())
        }
        Ok(Answer { complete: true, .. }) => {
            ("half blocks", "the terminal answered, and knows no kitty pictures".to_owned())
        }
        Ok(_) => {
            let patience = PATIENCE.as_millis();
            ("half blocks", format!("the terminal didn't answer within {patience} ms"))
        }
        Err(error) => ("half blocks", format!("the terminal couldn't be asked ({error})")),
    }
}

fn png(pictures: &[Picture]) -> Result<Vec<u8>, PreviewError> {
    let mut bytes = Cursor::new(Vec::new());
    source::stacked(pictures).write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Columns and rows of the terminal.
pub fn size() -> (u16, u16) {
    let size = tcgetwinsize(stdout()).map(|size| (size.ws_col, size.ws_row));
    size.ok().filter(|&(columns, rows)| columns > 0 && rows > 0).unwrap_or(USUAL_SIZE)
}

/// Whether something between program and terminal would swallow pictures.
fn in_multiplexer(env: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    let term = env("TERM").unwrap_or_default();
    let names = ["TMUX", "STY", "ZELLIJ"];
    names.iter().any(|name| set(name)) || term.starts_with("tmux") || term.starts_with("screen")
}

/// Terminals that nobody should ask anything.
fn silent(env: impl Fn(&str) -> Option<String>) -> bool {
    matches!(env("TERM").unwrap_or_default().as_str(), "" | "dumb")
}

/// Settles on a protocol; never on `Auto`. The terminal is asked only if its answer decides.
fn choose(
    wanted: Protocol,
    multiplexer: bool,
    iterm: bool,
    ask: impl FnOnce() -> io::Result<Answer>,
) -> Result<Protocol, PreviewError> {
    let iterm = iterm && !multiplexer;
    let kitty = || -> Result<bool, PreviewError> {
        if multiplexer {
            return Ok(false);
        }
        let answer = ask().map_err(PreviewError::Terminal)?;
        Ok(answer.kitty && answer.complete)
    };
    match wanted {
        Protocol::Auto | Protocol::Iterm if iterm => Ok(Protocol::Iterm),
        Protocol::Auto => Ok(if kitty()? { Protocol::Kitty } else { Protocol::Blocks }),
        Protocol::Blocks => Ok(Protocol::Blocks),
        Protocol::Kitty if kitty()? => Ok(Protocol::Kitty),
        Protocol::Kitty => Err(PreviewError::NoKitty),
        Protocol::Iterm => Err(PreviewError::NoIterm),
    }
}

struct Screen {
    protocol: Protocol,
    depth: ColorDepth,
    ascii: bool,
    /// Columns and rows.
    size: (u16, u16),
}

impl Screen {
    fn print(
        &self,
        image: &RgbImage,
        width: Option<u32>,
        out: &mut impl Write,
    ) -> Result<(), PreviewError> {
        let most = self.size.0;
        let columns = width.map_or(most, |width| width.clamp(1, u32::from(most)) as u16);
        let pixels = self.protocol != Protocol::Blocks;
        // Text may scroll away at the top; pixels may not.
        let rows = if pixels { self.size.1.saturating_sub(1).max(1) } else { u16::MAX / 4 };
        let (columns, rows) = fit(image.width(), image.height(), columns, rows);
        let few_colours = matches!(self.depth, ColorDepth::Sixteen | ColorDepth::Mono);
        if !pixels && (few_colours || self.ascii) {
            for line in render(image, columns, rows, ColorDepth::Mono, self.ascii).lines() {
                writeln!(out, "{}", line.trim_end()).map_err(PreviewError::Output)?;
            }
            return out.flush().map_err(PreviewError::Output);
        }
        let config = viuer::Config {
            absolute_offset: false,
            width: Some(columns.into()),
            height: Some(rows.into()),
            use_kitty: self.protocol == Protocol::Kitty,
            use_iterm: self.protocol == Protocol::Iterm,
            ..plain(self.depth == ColorDepth::True)
        };
        let image = if pixels { sized(image, columns, rows) } else { even(image) };
        viuer::print(&image, &config)?;
        Ok(())
    }
}

/// Every setting given: `viuer`'s defaults look into the environment.
fn plain(truecolor: bool) -> viuer::Config {
    viuer::Config {
        transparent: false,
        premultiplied_alpha: false,
        absolute_offset: true,
        x: 0,
        y: 0,
        restore_cursor: false,
        width: None,
        height: None,
        truecolor,
        use_kitty: false,
        use_iterm: false,
    }
}

/// No more pixels than the cells have, and not too few for `viuer`.
fn sized(image: &RgbImage, columns: u16, rows: u16) -> DynamicImage {
    let (width, height) = image.dimensions();
    let most = (u32::from(columns) * CELL.0, u32::from(rows) * CELL.1);
    let (wide, high) = if width > most.0 || height > most.1 {
        (width.min(most.0), height.min(most.1))
    } else {
        (width, height)
    };
    let least = |side: u32| side.max(KITTY_LEAST);
    if (least(wide), least(high)) == (width, height) {
        return DynamicImage::ImageRgb8(image.clone());
    }
    let filter = imageops::FilterType::Triangle;
    DynamicImage::ImageRgb8(imageops::resize(image, least(wide), least(high), filter))
}

/// Prints one picture at the top left corner of a cleared screen, as large as it fits above the last row.
///
/// It asks the terminal nothing, so it may run where another part reads keys; flush all other output before. Returns
/// the columns and rows that it took.
///
/// # Errors
/// When standard output can't be written.
pub fn zoom(
    image: &RgbImage,
    columns: u16,
    rows: u16,
    truecolor: bool,
) -> viuer::ViuResult<(u32, u32)> {
    let (columns, rows) = fit(image.width(), image.height(), columns, rows.saturating_sub(1));
    if columns == 0 {
        return Ok((0, 0));
    }
    let config = viuer::Config {
        restore_cursor: true,
        width: Some(columns.into()),
        height: Some(rows.into()),
        use_iterm: !in_multiplexer(|name| std::env::var(name).ok()),
        ..plain(truecolor)
    };
    viuer::print(&even(image), &config)
}
