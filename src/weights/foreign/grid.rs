//! Which grid of patches stored positions belong to. A file says how many positions there are, and which other tokens the
//! model has, but not how wide the grid is; this program's images are squares.

/// Similarities below this tell nothing.
const CLEAR: f64 = 0.1;
/// By how much another grid must be likelier to speak against a square.
const LIKELIER: f64 = 0.2;
/// The longest side of a grid, as a multiple of the other one, that is thought of.
const LONGEST: usize = 4;

/// The tokens of a model that are no patches, as the file shows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OtherTokens {
    pub class: bool,
    pub distillation: bool,
    pub registers: usize,
}

/// A square grid of patches whose number fits that of the positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SquareGrid {
    pub side: usize,
    /// Positions before those of the patches.
    pub prefix: usize,
    /// The other way to read the positions, if there is one: with so many before those of a grid that is no square.
    doubt: Option<usize>,
}

impl SquareGrid {
    /// Returns the grid for `rows` positions.
    ///
    /// # Errors
    /// Returns an error if no square grid fits.
    pub fn of(rows: usize, tokens: OtherTokens) -> Result<Self, String> {
        let OtherTokens { class, distillation, registers } = tokens;
        let first = usize::from(class) + usize::from(distillation);
        // DINOv2's registers have no positions, timm's may have.
        for prefix in [first, first + registers] {
            if let Some(side) = root(rows, prefix) {
                return Ok(Self { side, prefix, doubt: None });
            }
        }
        // Some models of timm have positions of patches alone.
        if let Some(side) = root(rows, 0) {
            return Ok(Self { side, prefix: 0, doubt: Some(first) });
        }
        Err(if first == 0 {
            format!(
                "pos_embed of {rows} rows belongs to no square grid, and the file has no class token; only square images \
                 can be read"
            )
        } else {
            format!(
                "pos_embed of {rows} rows belongs to no square grid: {} are for patches, {first} for the class token and \
                 the like; only square images can be read",
                rows.saturating_sub(first)
            )
        })
    }

    /// Returns the grid of a model whose positions leave no doubt.
    pub fn sure(side: usize) -> Self {
        Self { side, prefix: 0, doubt: None }
    }

    /// Checks that the positions themselves don't speak against the square: of learned positions, those of patches above
    /// each other are similar.
    ///
    /// # Errors
    /// Returns an error if they do, or if nothing but they could decide and they don't.
    pub fn check(self, rows: &[f32], dim: usize) -> Result<(), String> {
        let Self { side, prefix, doubt } = self;
        let patches = side * side;
        let own = Similarity::of(&rows[prefix * dim..], dim, side);
        if let Some(first) = doubt {
            let rest = &rows[first * dim..];
            let others = widths(patches - first).map(|width| Similarity::of(rest, dim, width));
            let others = others.fold(f64::MIN, |most, other| most.max(other.mean));
            if own.is_clear() && own.mean > others {
                return Ok(());
            }
            return Err(format!(
                "pos_embed of {patches} rows is read in two ways: {} patches, which are no square grid, behind a class \
                 token, or {side}x{side} patches alone, and the positions don't show the latter; if it is so, leave \
                 cls_token out of the file",
                patches - first
            ));
        }
        let others = widths(patches).filter(|&width| width != side);
        let others = others.map(|width| (width, Similarity::of(&rows[prefix * dim..], dim, width)));
        let likeliest = others.max_by(|(_, a), (_, b)| a.mean.total_cmp(&b.mean));
        if let Some((width, other)) = likeliest
            && other.is_clear()
            && other.mean > own.mean + LIKELIER
        {
            return Err(format!(
                "its positions are those of {}x{width} patches; only square images can be read",
                patches / width
            ));
        }
        Ok(())
    }
}

/// Returns the side of a square of `rows - prefix` patches.
fn root(rows: usize, prefix: usize) -> Option<usize> {
    let patches = rows.checked_sub(prefix)?;
    let side = patches.isqrt();
    (side > 0 && side * side == patches).then_some(side)
}

/// Returns the widths of the grids of so many patches that are not too long.
fn widths(patches: usize) -> impl Iterator<Item = usize> {
    let least = (patches / LONGEST).isqrt().max(1);
    let most = (patches * LONGEST).isqrt();
    (least..=most).filter(move |&width| {
        patches.is_multiple_of(width)
            && width <= LONGEST * (patches / width)
            && patches / width <= LONGEST * width
    })
}

/// How similar positions are to those so many places on: the mean cosine, after their mean is taken away.
#[derive(Debug, Clone, Copy)]
struct Similarity {
    mean: f64,
    /// What chance alone hardly reaches.
    floor: f64,
}

impl Similarity {
    fn of(rows: &[f32], dim: usize, distance: usize) -> Self {
        let count = rows.len() / dim;
        let mut centre = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            for (sum, &value) in centre.iter_mut().zip(row) {
                *sum += f64::from(value) / count as f64;
            }
        }
        let place = |index: usize| {
            let row = &rows[index * dim..][..dim];
            row.iter().zip(&centre).map(|(&value, mean)| f64::from(value) - mean)
        };
        let norm = |index: usize| place(index).map(|value| value * value).sum::<f64>().sqrt();
        let pairs = count.saturating_sub(distance);
        let cosines = (0..pairs).map(|index| {
            let product: f64 = place(index).zip(place(index + distance)).map(|(a, b)| a * b).sum();
            let norms = norm(index) * norm(index + distance);
            if norms > 0.0 { product / norms } else { 0.0 }
        });
        let mean = cosines.sum::<f64>() / pairs.max(1) as f64;
        let floor = CLEAR.max(6.0 / ((pairs * dim).max(1) as f64).sqrt());
        Self { mean, floor }
    }

    fn is_clear(self) -> bool {
        self.mean > self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::sincos;

    const CLASS: OtherTokens = OtherTokens { class: true, distillation: false, registers: 0 };

    fn square(rows: usize, tokens: OtherTokens) -> Option<(usize, usize)> {
        SquareGrid::of(rows, tokens).ok().map(|grid| (grid.side, grid.prefix))
    }

    #[test]
    fn grids_are_found_with_and_without_tokens_before_them() {
        let none = OtherTokens::default();
        let distilled = OtherTokens { distillation: true, ..CLASS };
        let registers = OtherTokens { registers: 4, ..CLASS };
        assert_eq!(square(196, none), Some((14, 0)));
        assert_eq!(square(197, CLASS), Some((14, 1)));
        assert_eq!(square(198, distilled), Some((14, 2)));
        assert_eq!(square(201, registers), Some((14, 5)));
        assert_eq!(square(197, registers), Some((14, 1)));
        assert_eq!(square(196, CLASS), Some((14, 0)), "as in DeiT III");
        for (rows, tokens) in [(13, CLASS), (13, none), (190, none), (197, none), (0, none)] {
            assert_eq!(square(rows, tokens), None, "{rows} rows, {tokens:?}");
        }
    }

    /// Positions as training makes them: similar to those beside and above.
    fn learned(rows: usize, columns: usize) -> Vec<f32> {
        sincos([rows, columns], 32)
    }

    #[test]
    fn positions_that_could_be_read_in_two_ways_decide_themselves() {
        let token = vec![0.5; 32];
        let check = |rows: &[f32]| {
            let grid = SquareGrid::of(rows.len() / 32, CLASS).expect("a square fits");
            grid.check(rows, 32)
        };
        check(&learned(17, 17)).expect("no position of the class token");
        check(&[token.clone(), learned(16, 16)].concat()).expect("the usual kind");
        let told = check(&[token.clone(), learned(24, 12)].concat()).expect_err("289 is 17²");
        assert!(told.contains("288 patches, which are no square grid"), "{told}");
        let told = check(&[token, learned(18, 32)].concat()).expect_err("576 is 24²");
        assert!(told.contains("those of 18x32 patches"), "{told}");
        let noise: Vec<f32> = (0..289 * 32_u32).map(|i| ((i * i % 7919) as f32).sin()).collect();
        check(&noise).expect_err("noise doesn't decide");
        check(&noise[..257 * 32]).expect("noise doesn't speak against the usual kind");
    }
}
