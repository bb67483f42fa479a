//! Blocks and threads of each kernel, as the lines `launch:` in the kernels' source ask for them.
//!
//! Sums over rows are cut into strips, whose sums a kernel of a second stage adds in their order. The number of strips
//! depends on the sizes and the GPU only, so the same run on the same GPU gives the same bits.

/// Blocks of a launch, threads of a block, and its dynamic shared memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub grid: [u32; 3],
    pub block: u32,
    pub shared: u32,
}

impl Geometry {
    fn new(grid: [usize; 3], block: usize, shared: usize) -> Self {
        Self { grid: grid.map(|blocks| blocks as u32), block: block as u32, shared: shared as u32 }
    }

    fn line(blocks: usize, block: usize) -> Self {
        Self::new([blocks, 1, 1], block, 0)
    }
}

/// The kernels that sum over strips of rows, by how many of their blocks a multiprocessor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strips {
    /// `norm_backward`, `norm_backward_copy`
    Norm,
    /// `column_sums`
    Columns,
    /// `gelu_backward_sums`
    Gelu,
    /// `branch_end_backward_sums`, `embed_backward`
    BranchEnd,
}

/// Returns how many strips a sum over `rows` rows of `columns` numbers is cut into.
pub(crate) fn strips(kind: Strips, rows: usize, columns: usize, multiprocessors: usize) -> usize {
    let across = columns.div_ceil(256);
    // As many as are resident at once: a little more would be a second, nearly empty round.
    let (resident, least) = match kind {
        Strips::Norm => (3 * multiprocessors, 4),
        Strips::Gelu => (5 * multiprocessors / across, 32),
        Strips::Columns => (6 * multiprocessors / across, 32),
        Strips::BranchEnd => (8 * multiprocessors / across, 16),
    };
    resident.min(rows.div_ceil(least)).max(1)
}

/// Returns how many partial sums `patch_loss` makes of a loss over `rows` patches.
pub(crate) fn loss_strips(rows: usize, multiprocessors: usize) -> usize {
    rows.div_ceil(8).min(8 * multiprocessors).max(1)
}

/// Returns how many partial sums `cross_entropy` makes of a loss over `images` images.
pub(crate) fn class_loss_strips(images: usize, multiprocessors: usize) -> usize {
    loss_strips(images, multiprocessors)
}

/// Returns how many strips of images `attention_bias_backward` makes.
pub(crate) fn bias_strips(shape: AttentionShape, multiprocessors: usize) -> usize {
    let tiles = shape.tokens.div_ceil(64).pow(2) * shape.heads;
    (8 * multiprocessors / tiles).clamp(1, shape.images.max(1))
}

/// Returns how many strips of images `attention_any_bias_backward` makes.
pub(crate) fn any_bias_strips(shape: AttentionShape, multiprocessors: usize) -> usize {
    let tiles = shape.tokens.div_ceil(32).pow(2) * shape.heads;
    (4 * multiprocessors / tiles).clamp(1, shape.images.max(1))
}

/// For kernels that treat each number alone, eight a thread: `gelu_forward`, `branch_end`, `patchify`, `embed_finish`,
/// `gather_rows`, `scatter_rows`, `pool_backward`.
pub(crate) fn flat(numbers: usize, multiprocessors: usize) -> Geometry {
    Geometry::line(numbers.div_ceil(2048).clamp(1, 16 * multiprocessors), 256)
}

/// For `column_sums`, `gelu_backward_sums`, `branch_end_backward_sums` and `embed_backward`. Each takes [`strips`]
/// strips.
pub(crate) fn columns(
    kind: Strips,
    rows: usize,
    columns: usize,
    multiprocessors: usize,
) -> Geometry {
    let strips = strips(kind, rows, columns, multiprocessors);
    Geometry::new([columns.div_ceil(256), strips, 1], 256, 0)
}

pub(crate) fn norm_forward(rows: usize) -> Geometry {
    Geometry::line(rows.div_ceil(8), 256)
}

/// For `norm_backward` and `norm_backward_copy`, over [`strips`] strips.
pub(crate) fn norm_backward(rows: usize, multiprocessors: usize) -> Geometry {
    Geometry::line(strips(Strips::Norm, rows, 1, multiprocessors), 128)
}

pub(crate) fn sum_strips(strips: usize, columns: usize) -> Geometry {
    Geometry::line(columns.div_ceil(32), 32 * strips.div_ceil(8).clamp(1, 32))
}

/// For `column_totals`, a thread a column.
pub(crate) fn column_totals(columns: usize) -> Geometry {
    Geometry::line(columns.div_ceil(64), 64)
}

pub(crate) fn pool_tokens(images: usize, width: usize) -> Geometry {
    Geometry::new([width.div_ceil(256), images, 1], 256, 0)
}

pub(crate) fn position_sums(tokens: usize, width: usize) -> Geometry {
    Geometry::line((tokens * width).div_ceil(1024), 256)
}

/// For `patch_loss`, over [`loss_strips`] partial sums.
pub(crate) fn patch_loss(rows: usize, multiprocessors: usize) -> Geometry {
    Geometry::line(loss_strips(rows, multiprocessors), 256)
}

/// For `cross_entropy`, over [`class_loss_strips`] partial sums.
pub(crate) fn cross_entropy(images: usize, multiprocessors: usize) -> Geometry {
    Geometry::line(class_loss_strips(images, multiprocessors), 256)
}

/// For `sum_squares`, `adamw` and `narrow_weights`.
pub(crate) fn chunks(count: usize) -> Geometry {
    Geometry::line(count, 256)
}

pub(crate) fn close_step() -> Geometry {
    Geometry::line(1, 256)
}

/// Sizes of an attention: B images of N tokens, H heads of d numbers each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttentionShape {
    pub images: usize,
    pub tokens: usize,
    pub heads: usize,
    /// d, a multiple of 8: up to 64, and up to 128 in the kernels `attention_any_*`
    pub width: usize,
}

impl AttentionShape {
    /// Tiles of 16 rows.
    fn tiles(self) -> usize {
        self.tokens.div_ceil(16)
    }

    /// Rows that a block holds in shared memory.
    fn held(self) -> usize {
        16 * self.tiles().min(16)
    }

    /// Bytes of two held matrices, whose rows are padded so that `ldmatrix` meets no bank twice.
    fn held_bytes(self) -> usize {
        let line = [32, 48, 64].into_iter().find(|line| *line >= self.width).unwrap_or(64) + 8;
        2 * self.held() * line * 2
    }

    /// Blocks that share the rows of a head.
    fn across(self, warps: usize) -> usize {
        if self.tokens <= 256 { 1 } else { self.tiles().div_ceil(warps) }
    }
}

pub(crate) fn attention_forward(shape: AttentionShape) -> Geometry {
    let tiles = shape.tiles();
    // The fewest idle warps in the last round; of equals the most warps.
    let idle = |warps: &usize| tiles.div_ceil(*warps) * warps;
    let warps = if tiles <= 4 { tiles } else { (4..=8).rev().min_by_key(idle).unwrap_or(4) };
    let grid = [shape.across(warps), shape.heads, shape.images];
    Geometry::new(grid, 32 * warps, shape.held_bytes())
}

pub(crate) fn attention_backward(shape: AttentionShape) -> Geometry {
    let warps = shape.tiles().min(4);
    let grid = [2 * shape.across(warps), shape.heads, shape.images];
    Geometry::new(grid, 32 * warps, shape.held_bytes() + 8 * shape.held())
}

/// For `attention_bias_backward`, over [`bias_strips`] strips of images.
pub(crate) fn attention_bias_backward(shape: AttentionShape, multiprocessors: usize) -> Geometry {
    let tiles = shape.tokens.div_ceil(64).pow(2);
    Geometry::new([tiles, shape.heads, bias_strips(shape, multiprocessors)], 128, 0)
}

pub(crate) fn attention_any_forward(shape: AttentionShape) -> Geometry {
    let grid = [shape.tokens.div_ceil(32), shape.heads, shape.images];
    Geometry::new(grid, 128, 4 * (3 * 32 * (shape.width + 4) + 32 * 33))
}

/// Bytes of a tile's queries, keys, values and slopes, its scores, and two numbers of each of its rows.
fn any_backward_bytes(shape: AttentionShape) -> usize {
    4 * (4 * 32 * (shape.width + 4) + 2 * 32 * 33 + 2 * 32)
}

pub(crate) fn attention_any_backward(shape: AttentionShape) -> Geometry {
    let grid = [2 * shape.tokens.div_ceil(32), shape.heads, shape.images];
    Geometry::new(grid, 128, any_backward_bytes(shape))
}

/// For `attention_any_bias_backward`, over [`any_bias_strips`] strips of images.
pub(crate) fn attention_any_bias_backward(
    shape: AttentionShape,
    multiprocessors: usize,
) -> Geometry {
    let tiles = shape.tokens.div_ceil(32).pow(2);
    let grid = [tiles, shape.heads, any_bias_strips(shape, multiprocessors)];
    Geometry::new(grid, 128, any_backward_bytes(shape))
}

/// For `product_f32_nn`, `product_f32_nt` and `product_f32_tn` with a result of `m` rows and `n` columns.
pub(crate) fn product_f32(m: usize, n: usize) -> Geometry {
    Geometry::new([n.div_ceil(64), m.div_ceil(64), 1], 256, 0)
}

/// For `relative_bias`: a number a thread.
pub(crate) fn relative_bias(tokens: usize, heads: usize, multiprocessors: usize) -> Geometry {
    flat(8 * heads * tokens * tokens, multiprocessors)
}

/// For `relative_bias_backward`: a warp for each number of the table.
pub(crate) fn relative_bias_backward(offsets: usize, heads: usize) -> Geometry {
    Geometry::line((offsets * heads).div_ceil(8), 256)
}

pub(crate) fn sum_splits(count: usize) -> Geometry {
    Geometry::line(count.div_ceil(1024), 256)
}

/// Returns the stages of the pipeline of products on tensor cores: four where a multiprocessor has the shared memory for
/// two blocks with them, else three. `shared_memory` is in bytes.
pub(crate) fn product_stages(shared_memory: usize) -> usize {
    if shared_memory >= 160 << 10 { 4 } else { 3 }
}
