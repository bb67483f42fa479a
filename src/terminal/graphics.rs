//! Pictures on the terminal, in the plain shell and over a whole screen, by the best protocol that the terminal has.
//!
//! `viuer` draws them. It would wait for a terminal's answer without limit, so it may use the kitty protocol only after
//! `probe` got an answer.

use super::colors::ColorDepth;
use super::halfblock::{even, fit, render};
use super::probe::{self, Answer};
use super::size::clamped;
use image::{DynamicImage, RgbImage, imageops};
use rustix::termios::tcgetwinsize;
use std::io::{self, IsTerminal as _, Write, stdin, stdout};
use std::time::Duration;
use thiserror::Error;

/// How long the terminal may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// The columns and rows that are assumed if the terminal doesn't tell its size.
const USUAL_SIZE: (u16, u16) = (80, 24);
/// The pixels of a cell that are sent to terminals that draw pixels. More would only cost bytes.
const CELL: (u32, u32) = (10, 20);
/// The least pixels on a side of a kitty picture: `viuer` never ends the transfer of a smaller one.
const KITTY_LEAST: u32 = 32;

/// How pictures get on the screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// iTerm2 or kitty pictures if the terminal has them, or else blocks
    #[default]
    Auto,
    /// Half blocks, or grey characters without colours
    Blocks,
    Kitty,
    Iterm,
}

/// Why pictures can't be shown on this terminal.
#[derive(Debug, Error)]
pub enum GraphicsError {
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

/// Returns how pictures would be shown on this terminal, and why so.
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

/// Returns the columns and rows of the terminal.
pub fn size() -> (u16, u16) {
    let size = tcgetwinsize(stdout()).map(|size| (size.ws_col, size.ws_row));
    let real = size.ok().filter(|&(columns, rows)| columns > 0 && rows > 0);
    real.map_or(USUAL_SIZE, |(columns, rows)| clamped(columns, rows))
}

/// Where pictures are printed, line by line.
pub struct PictureScreen {
    protocol: Protocol,
    depth: ColorDepth,
    ascii: bool,
    /// The columns and rows of the terminal.
    size: (u16, u16),
}

impl PictureScreen {
    /// Decides for a protocol on this terminal. The terminal is asked only if its answer matters.
    ///
    /// # Errors
    /// If the terminal can't show what is `wanted`, or can't be asked.
    pub fn open(
        wanted: Protocol,
        depth: ColorDepth,
        ascii: bool,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, GraphicsError> {
        let can_ask = stdin().is_terminal() && !silent(&env);
        let ask = || {
            if can_ask {
                probe::ask(&stdin(), &mut stdout(), PATIENCE)
            } else {
                Ok(Answer::default())
            }
        };
        let protocol = choose(wanted, in_multiplexer(&env), viuer::is_iterm_supported(), ask)?;
        Ok(Self { protocol, depth, ascii, size: size() })
    }

    /// Prints one picture, `width` columns wide or as wide as the terminal.
    ///
    /// # Errors
    /// If standard output can't be written.
    pub fn print(
        &self,
        image: &RgbImage,
        width: Option<u32>,
        out: &mut impl Write,
    ) -> Result<(), GraphicsError> {
        let most = self.size.0;
        let columns = width.map_or(most, |width| width.clamp(1, u32::from(most)) as u16);
        let pixels = self.protocol != Protocol::Blocks;
        // Text may scroll away at the top, but pictures of pixels may not.
        let rows = if pixels { self.size.1.saturating_sub(1).max(1) } else { u16::MAX / 4 };
        let (columns, rows) = fit(image.width(), image.height(), columns, rows);
        let few_colours = matches!(self.depth, ColorDepth::Sixteen | ColorDepth::Mono);
        if !pixels && (few_colours || self.ascii) {
            for line in render(image, columns, rows, ColorDepth::Mono, self.ascii).lines() {
                writeln!(out, "{}", line.trim_end()).map_err(GraphicsError::Output)?;
            }
            return out.flush().map_err(GraphicsError::Output);
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

/// Prints one picture at the top left corner of a cleared screen, as large as fits above the last row. Returns the
/// columns and rows that it takes.
///
/// The function asks the terminal nothing, so it may run while another part reads keys. All other output has to be
/// flushed before.
///
/// # Errors
/// If standard output can't be written.
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

/// Whether a multiplexer between the program and the terminal would swallow pictures.
fn in_multiplexer(env: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    let term = env("TERM").unwrap_or_default();
    let names = ["TMUX", "STY", "ZELLIJ"];
    names.iter().any(|name| set(name)) || term.starts_with("tmux") || term.starts_with("screen")
}

/// Whether the terminal is of a kind that never answers.
fn silent(env: impl Fn(&str) -> Option<String>) -> bool {
    matches!(env("TERM").unwrap_or_default().as_str(), "" | "dumb")
}

/// Decides for a protocol, which is never `Auto`. The terminal is asked only if its answer matters.
fn choose(
    wanted: Protocol,
    multiplexer: bool,
    iterm: bool,
    ask: impl FnOnce() -> io::Result<Answer>,
) -> Result<Protocol, GraphicsError> {
    let iterm = iterm && !multiplexer;
    let kitty = || -> Result<bool, GraphicsError> {
        if multiplexer {
            return Ok(false);
        }
        let answer = ask().map_err(GraphicsError::Terminal)?;
        Ok(answer.kitty && answer.complete)
    };
    match wanted {
        Protocol::Auto | Protocol::Iterm if iterm => Ok(Protocol::Iterm),
        Protocol::Auto => Ok(if kitty()? { Protocol::Kitty } else { Protocol::Blocks }),
        Protocol::Blocks => Ok(Protocol::Blocks),
        Protocol::Kitty if kitty()? => Ok(Protocol::Kitty),
        Protocol::Kitty => Err(GraphicsError::NoKitty),
        Protocol::Iterm => Err(GraphicsError::NoIterm),
    }
}

/// Returns a configuration with every setting given, because `viuer`'s defaults look into the environment.
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

/// Scales a picture so that it has no more pixels than its cells, and not too few for `viuer`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn the_terminal_is_asked_only_where_that_decides() {
        use Protocol::{Auto, Blocks, Iterm, Kitty};
        let yes = Answer { kitty: true, complete: true, interrupted: false };
        let cut = Answer { complete: false, ..yes };
        let no = Answer::default();
        // Wanted, in tmux, iTerm2 by environment, answer; chosen, questions.
        let table = [
            (Auto, false, false, yes, Some(Kitty), 1),
            (Auto, false, false, no, Some(Blocks), 1),
            (Auto, false, false, cut, Some(Blocks), 1),
            (Auto, false, true, yes, Some(Iterm), 0),
            (Auto, true, true, yes, Some(Blocks), 0),
            (Blocks, false, true, yes, Some(Blocks), 0),
            (Kitty, false, true, yes, Some(Kitty), 1),
            (Kitty, false, false, no, None, 1),
            (Kitty, true, false, yes, None, 0),
            (Iterm, false, true, yes, Some(Iterm), 0),
            (Iterm, true, true, yes, None, 0),
            (Iterm, false, false, yes, None, 0),
        ];
        for (wanted, multiplexer, iterm, answer, expected, questions) in table {
            let mut asked = 0;
            let ask = || {
                asked += 1;
                Ok(answer)
            };
            let chosen = choose(wanted, multiplexer, iterm, ask);
            assert_eq!(
                (chosen.ok(), asked),
                (expected, questions),
                "{wanted:?} {multiplexer} {iterm}"
            );
        }
    }

    #[test]
    fn multiplexers_are_known_by_the_environment() {
        let within = |name: &'static str, value: &'static str| {
            in_multiplexer(move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert!(
            within("TMUX", "/tmp/tmux-0/default,1,0")
                && within("STY", "12.pts")
                && within("ZELLIJ", "0")
        );
        assert!(within("TERM", "screen-256color") && within("TERM", "tmux-256color"));
        assert!(!within("TERM", "xterm-256color") && !within("TMUX", ""));
    }

    #[test]
    fn pictures_for_pixel_protocols_fit_their_cells() {
        let sized = |width, height, columns, rows| {
            let image = sized(&RgbImage::new(width, height), columns, rows);
            (image.width(), image.height())
        };
        assert_eq!(sized(650, 160, 80, 20), (650, 160));
        assert_eq!(sized(4000, 3000, 80, 30), (800, 600));
        assert_eq!(sized(16, 16, 16, 8), (32, 32), "viuer never finishes tiny kitty pictures");
    }

    #[test]
    fn without_colours_or_unicode_a_ramp_is_printed() {
        let image = RgbImage::from_fn(16, 8, |x, _| Rgb([x as u8 * 16; 3]));
        for (depth, ascii, row) in [
            (ColorDepth::Mono, false, "    ░░░▒▒▒▓▓▓███"),
            (ColorDepth::Sixteen, false, "    ░░░▒▒▒▓▓▓███"),
            (ColorDepth::True, true, "  ..:--=++**#%%@"),
        ] {
            let screen = PictureScreen { protocol: Protocol::Blocks, depth, ascii, size: (16, 24) };
            let mut out = Vec::new();
            screen.print(&image, None, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), format!("{row}\n").repeat(4));
            let mut narrow = Vec::new();
            screen.print(&image, Some(8), &mut narrow).unwrap();
            assert_eq!(String::from_utf8(narrow).unwrap().lines().count(), 2);
        }
    }
}
